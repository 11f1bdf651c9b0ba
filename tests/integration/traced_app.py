"""The app of the integration tests on a worker whose spans go to the file that `TEST_SPANS` names."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from .app import app

__all__ = ["app"]


class FileExporter(SpanExporter):
    """An exporter that appends a line of JSON for each span."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with open(os.environ["TEST_SPANS"], "a", encoding="utf-8") as file:
            for span in spans:
                assert span.context is not None
                assert span.instrumentation_scope is not None
                line = {
                    "name": span.name,
                    "scope": span.instrumentation_scope.name,
                    "trace_id": f"{span.context.trace_id:032x}",
                    "span_id": f"{span.context.span_id:016x}",
                    "links": [f"{link.context.span_id:016x}" for link in span.links],
                    "attributes": {name: str(value) for name, value in (span.attributes or {}).items()},
                }
                file.write(json.dumps(line) + "\n")
        return SpanExportResult.SUCCESS


@worker_process_init.connect(weak=False)
def _trace(**_: object) -> None:
    """Observe this child of the pool, as OpenTelemetry's page about Celery shows."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()
