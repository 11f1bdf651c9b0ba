"""Spans and metrics by OpenTelemetry's API. The only module that imports it.

The spans of a job lie in one trace, beside each other below the span of its launch. A run's span links to the span
around it, which is that of Celery's own instrumentation if the process has it.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, TracerProvider

from storage import CountingStore, ObjectStore

from ..errors import is_transient
from ..external.context import Tally, current_step
from .port import Stage
from .tracing import TraceParent, parent_of

SCOPE = "fanout"
"""Name of the tracer and the meter."""

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Boundaries of the histogram of seconds, unless a view of the app's gives others."""


class OpenTelemetry:
    """The telemetry of a process with OpenTelemetry's API.

    Args:
        tracer_provider: Takes the spans; the process's own if not given.
        meter_provider: Takes the metrics; the process's own if not given.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._is_own = tracer_provider is not None or meter_provider is not None
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self._jobs = meter.create_counter("fanout.jobs", "{job}", "Jobs that this process has ended")
        self._chunks = meter.create_counter("fanout.chunks", "{chunk}", "Chunks whose results this process has written")
        self._items = meter.create_counter("fanout.items", "{item}", "Items of these chunks")
        self._failures = meter.create_counter("fanout.failures", "{failure}", "Exceptions of steps")
        create = meter.create_observable_counter
        create("fanout.store.requests", [self._observe_requests], "{request}", "Requests to the store")
        create("fanout.store.bytes", [self._observe_bytes], "By", "Bytes of objects written and read")
        self._stores: weakref.WeakSet[CountingStore] = weakref.WeakSet()
        self._duration = meter.create_histogram(
            "fanout.stage.duration",
            "s",
            "Seconds of a stage for one message",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )

    @contextmanager
    def launching(self, job_id: str, task: str) -> Iterator[None]:
        """Make a span around a launch, in the trace around this call, or else in the one of the job's id."""
        context = None
        if not trace.get_current_span().get_span_context().is_valid:
            context = trace.set_span_in_context(_remote(parent_of(job_id)))
        attributes = {"fanout.job.id": job_id, "fanout.task": task}
        with self._tracer.start_as_current_span(
            f"{task} submit", context, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as error:
                _mark(span, error)
                raise

    def current_trace(self, job_id: str) -> str:
        """Return the trace around this call as `traceparent`; empty if there is none but the one of the job's id."""
        here = trace.get_current_span().get_span_context()
        parent = TraceParent(here.trace_id, here.span_id, int(here.trace_flags))
        return "" if not here.is_valid or parent == parent_of(job_id) else str(parent)

    @contextmanager
    def running(self, stage: Stage, tally: Tally) -> Iterator[None]:
        """Make a span around a run, and count what it has done."""
        if self._is_idle:
            yield
            return
        around = trace.get_current_span().get_span_context()
        labels = {"fanout.task": stage.task, "fanout.step": stage.step}
        began_s = time.monotonic()
        with self._tracer.start_as_current_span(
            f"{stage.task} {stage.step}",
            trace.set_span_in_context(_remote(parent_of(stage.job_id, stage.trace))),
            attributes={**labels, **_describe(stage)},
            links=[Link(around)] if around.is_valid else [],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                _mark(span, error)
                if isinstance(error, Exception) and not is_transient(error):
                    tally.note_failure(error)
                raise
            finally:
                self._duration.record(time.monotonic() - began_s, labels)
                self._count(stage, tally, labels)
                context = current_step()
                # A run of one chunk knows its attempt only once it has begun.
                if context is not None and stage.step == "process" and stage.chunks == 1:
                    span.set_attribute("fanout.attempt", context.position.attempt)
                span.set_attributes({"fanout.items.done": tally.items, "fanout.items.failed": tally.items_failed})
                if tally.failures:
                    kinds = sorted(tally.failures)
                    span.set_attribute("error.type", kinds[0])
                    span.set_status(Status(StatusCode.ERROR, ", ".join(kinds)))

    def count_job(self, task: str, status: str) -> None:
        """Count a job that this process has ended."""
        self._jobs.add(1, {"fanout.task": task, "fanout.status": status})

    def observe_store(self, store: ObjectStore) -> ObjectStore:
        """Return the store with a count of its requests and bytes, which the metrics' reader asks for."""
        counted = CountingStore(store)
        self._stores.add(counted)
        return counted

    def _observe_requests(self, options: CallbackOptions) -> Iterator[Observation]:
        total: Counter[str] = sum((store.requests for store in list(self._stores)), Counter())
        for verb, count in total.items():
            yield Observation(count, {"fanout.verb": verb})

    def _observe_bytes(self, options: CallbackOptions) -> Iterator[Observation]:
        stores = list(self._stores)
        yield Observation(sum(store.bytes_in for store in stores), {"fanout.direction": "written"})
        yield Observation(sum(store.bytes_out for store in stores), {"fanout.direction": "read"})

    @property
    def _is_idle(self) -> bool:
        """Whether the process has set up no SDK, so that nothing would come of spans and metrics."""
        providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
        return not self._is_own and all(type(each).__module__.startswith(_API) for each in providers)

    def _count(self, stage: Stage, tally: Tally, labels: Mapping[str, str]) -> None:
        task = {"fanout.task": stage.task}
        if stage.step == "process":
            for counter, done, failed in (
                (self._chunks, tally.chunks, tally.chunks_failed),
                (self._items, tally.items, tally.items_failed),
            ):
                for status, count in (("done", done), ("failed", failed)):
                    if count:
                        counter.add(count, {**task, "fanout.status": status})
        for kind, count in tally.failures.items():
            self._failures.add(count, {**labels, "error.type": kind})


_API = ("opentelemetry.trace", "opentelemetry.metrics")
"""Modules of the API, whose own providers do nothing."""


def _remote(parent: TraceParent) -> NonRecordingSpan:
    flags = TraceFlags(parent.flags)
    return NonRecordingSpan(SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags))


def _describe(stage: Stage) -> dict[str, str | int | bool]:
    """Return the attributes by which a retry, a resend and a redelivery are told apart."""
    attributes: dict[str, str | int | bool] = {
        "fanout.job.id": stage.job_id,
        "fanout.generation": stage.generation,
        "fanout.attempt": stage.attempt,
    }
    if stage.chunk is not None:
        attributes |= {"fanout.chunk": stage.chunk, "fanout.chunks": stage.chunks}
    if stage.message:
        attributes["messaging.message.id"] = stage.message
    return attributes | {f"fanout.message.{arrival}": True for arrival in stage.arrivals}


def _mark(span: trace.Span, error: BaseException) -> None:
    """Note an error by its type. Its text may hold data, and lies in the job's records."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
