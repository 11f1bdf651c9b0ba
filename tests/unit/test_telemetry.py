"""Spans and metrics of jobs, taken by OpenTelemetry's SDK in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import ForkJoinTask, telemetry
from fanout.engines.stub import StubEngine, WorkerDied
from fanout.records.ledger import read_intent
from fanout.records.models import Intent
from fanout.runtime import Runtime
from fanout.telemetry import NoTelemetry, trace_id_of
from fanout.telemetry.tracing import TraceParent, parent_of
from storage import MemoryStore, decode

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fanout.telemetry.otel import OpenTelemetry

DIES: list[int] = []
"""Numbers whose process kills its worker once, and then is taken out."""


class Halves(ForkJoinTask):
    """Halves even numbers, and fails for odd ones."""

    name = "tests.Halves"
    input_schema = {"numbers": {"type": "list"}}

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number):
        if number in DIES:
            DIES.remove(number)
            raise WorkerDied
        if number % 2:
            raise ValueError(number)
        return number // 2

    def join(halves):
        return [half for half in halves if isinstance(half, int)]


class SummedHalves(ForkJoinTask):
    """Adds up numbers on the way."""

    name = "tests.SummedHalves"
    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 1
    max_attempts = 1

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number):
        return number

    def combine(sums):
        if DIES and len(sums) > 1:
            raise ValueError(len(sums))
        return sum(sums)

    def join(sums):
        return sum(sums)


class Recorder:
    """Telemetry whose spans and metrics a test reads."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.telemetry = OpenTelemetry(self.tracers, MeterProvider([self.reader]))

    def spans(self, step: str) -> list[ReadableSpan]:
        """Return the spans of a step that have ended, in the order of their ends."""
        return [span for span in self.exporter.get_finished_spans() if span.name.endswith(f" {step}")]

    @contextmanager
    def span(self, name: str) -> Iterator[int]:
        """Make a span, as an app or another instrumentation does, and yield its trace."""
        with self.tracers.get_tracer("app").start_as_current_span(name) as span:
            yield span.get_span_context().trace_id

    def metric(self, name: str) -> dict[tuple[Any, ...], Any]:
        """Return the points of a metric by the values of their attributes."""
        data = self.reader.get_metrics_data()
        assert data is not None
        found = {}
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            value = getattr(point, "value", None)
                            key = tuple((point.attributes or {}).values())
                            found[key] = value if value is not None else point.count  # type: ignore[union-attr]
        return found


@pytest.fixture
def recorder() -> Recorder:
    """Return telemetry for one test."""
    DIES.clear()
    return Recorder()


def traces_of(recorder: Recorder) -> set[str]:
    return {f"{span.context.trace_id:032x}" for span in recorder.exporter.get_finished_spans() if span.context}


def test_a_job_is_one_trace_of_its_id(recorder: Recorder) -> None:
    """Launch, setup, batches and join lie in the trace of the job's id, below the launch, and name their chunks."""
    engine = StubEngine(telemetry=recorder.telemetry)
    job = engine.submit(Halves.declaration, {"numbers": list(range(0, 80, 2))}, job_id="order-4711")
    engine.drain()
    assert job.get(timeout=5) == list(range(40))
    assert traces_of(recorder) == {trace_id_of("order-4711")}
    [launch], [setup], [join] = (recorder.spans(step) for step in ("submit", "setup", "join"))
    assert launch.context is not None
    batches = recorder.spans("process")
    below = {span.parent.span_id for span in (setup, join, *batches) if span.parent is not None}
    assert below == {launch.context.span_id}
    places = [(span.attributes["fanout.chunk"], span.attributes["fanout.chunks"]) for span in batches]  # type: ignore[index]
    assert places == [(0, 32), (32, 8)]
    assert setup.attributes is not None
    assert setup.attributes["fanout.items.done"] == 40


def test_a_job_joins_its_callers_trace(recorder: Recorder) -> None:
    """The spans lie in the trace around the launch, which the intent carries to the workers."""
    engine = StubEngine(telemetry=recorder.telemetry)
    with recorder.span("request") as trace_id:
        engine.submit(Halves.declaration, {"numbers": [2]})
    engine.drain()
    assert len(recorder.spans("process")) == 1
    assert traces_of(recorder) == {f"{trace_id:032x}"}


def test_a_caller_without_telemetry_leaves_the_intent_as_it_was(recorder: Recorder) -> None:
    """Workers derive the same trace from the job's id, and an intent without a trace has no field for it."""
    store = MemoryStore()
    engine = StubEngine(store=store, telemetry=NoTelemetry())
    engine.submit(Halves.declaration, {"numbers": [2, 4]}, job_id="quiet")
    intent = read_intent(store, "quiet")
    assert "trace" not in decode(intent.to_bytes())
    worker = Runtime(store, engine.start_process().config, engine.dispatcher, telemetry=recorder.telemetry)
    engine.dispatcher.drain(worker)
    assert [len(recorder.spans(step)) for step in ("submit", "setup", "process", "join")] == [0, 1, 1, 1]
    assert traces_of(recorder) == {trace_id_of("quiet")}


def test_redelivery_resend_and_retry_are_told_apart(recorder: Recorder) -> None:
    """The runs of a chunk have one name in one trace, and their attributes say why there are several."""
    engine = StubEngine(telemetry=recorder.telemetry, batch_chunks=1)
    job = engine.submit(Halves.declaration, {"numbers": [2, 4, 3]}, max_attempts=2)
    DIES.append(2)
    engine.deliver()
    engine.deliver()
    engine.dispatcher.lose()
    engine.sweep()
    engine.drain()
    assert job.retry()
    engine.drain()
    runs = [
        (span.attributes["fanout.chunk"], span.attributes["fanout.generation"], span.attributes["fanout.attempt"])
        for span in recorder.spans("process")
        if span.attributes is not None and span.attributes["fanout.chunk"] in (0, 2)
    ]
    assert runs[0] == (0, 0, 1)
    assert {(2, 0, 1), (2, 0, 2), (2, 1, 1), (2, 1, 2)} <= set(runs)
    dead, *others = recorder.spans("process")
    assert dead.attributes is not None
    assert dead.attributes["error.type"] == "WorkerDied"
    assert any("fanout.message.resent" in (span.attributes or {}) for span in others)
    assert len({span.name for span in (dead, *others)}) == 1
    assert traces_of(recorder) == {trace_id_of(job.id)}


def test_a_redelivered_message_is_marked(recorder: Recorder) -> None:
    """The second delivery of a message says so, and counts the attempt of the worker that died."""
    engine = StubEngine(telemetry=recorder.telemetry, batch_chunks=1)
    engine.submit(Halves.declaration, {"numbers": [2]})
    DIES.append(2)
    engine.drain()
    first, second = (span.attributes or {} for span in recorder.spans("process"))
    assert "fanout.message.redelivered" not in first
    assert (second["fanout.message.redelivered"], second["fanout.attempt"]) == (True, 2)


def test_a_run_links_to_the_span_around_it(recorder: Recorder) -> None:
    """Beside Celery's own instrumentation, a run keeps its place in the job's trace and links to the message's span."""
    engine = StubEngine(telemetry=recorder.telemetry)
    job = engine.submit(Halves.declaration, {"numbers": [2]})
    with recorder.span("run/tests.Halves.setup") as trace_id:
        engine.deliver()
    [setup] = recorder.spans("setup")
    assert setup.context is not None
    assert f"{setup.context.trace_id:032x}" == trace_id_of(job.id)
    assert [link.context.trace_id for link in setup.links] == [trace_id]


def test_metrics_count_what_the_process_has_done(recorder: Recorder) -> None:
    """Jobs, chunks, items, failures, stages, requests and bytes are counted, by task and by what became of them."""
    store = recorder.telemetry.observe_store(MemoryStore())
    engine = StubEngine(store=store, telemetry=recorder.telemetry)
    job = engine.submit(Halves.declaration, {"numbers": [2, 4, 3]}, tolerate=1, max_attempts=2)
    engine.drain()
    assert job.get(timeout=5) == [1, 2]
    engine.submit(Halves.declaration, {"numbers": [1]}, max_attempts=1)
    engine.drain()
    assert recorder.metric("fanout.jobs") == {("tests.Halves", "succeeded"): 1, ("tests.Halves", "failed"): 1}
    assert recorder.metric("fanout.items") == {("tests.Halves", "done"): 2, ("tests.Halves", "failed"): 2}
    assert recorder.metric("fanout.chunks") == {("tests.Halves", "done"): 3, ("tests.Halves", "failed"): 1}
    assert recorder.metric("fanout.failures") == {("tests.Halves", "process", "ValueError"): 3}
    assert recorder.metric("fanout.stage.duration")[("tests.Halves", "join")] == 1
    requests = recorder.metric("fanout.store.requests")
    assert requests[("put",)] == store.requests["put"]  # type: ignore[attr-defined]
    assert recorder.metric("fanout.store.bytes")[("written",)] > 100


def test_an_error_of_a_step_is_named_by_its_type_alone(recorder: Recorder) -> None:
    """A span has the type of an error and not its text, which may hold data."""
    engine = StubEngine(telemetry=recorder.telemetry)
    engine.submit(Halves.declaration, {"numbers": [1]}, max_attempts=1)
    engine.drain()
    [run] = recorder.spans("process")
    assert (run.status.description, run.status.is_ok, run.events) == ("ValueError", False, ())


def test_a_combined_node_has_a_span(recorder: Recorder) -> None:
    """Above the chunks, each combine is a span of the job's trace."""
    engine = StubEngine(telemetry=recorder.telemetry)
    job = engine.submit(SummedHalves.declaration, {"numbers": list(range(40))})
    engine.drain()
    assert job.get(timeout=5) == sum(range(40))
    assert len(recorder.spans("combine")) == 2
    assert traces_of(recorder) == {trace_id_of(job.id)}


def test_an_error_of_a_node_is_counted_once(recorder: Recorder) -> None:
    """An exception of combine above the chunks is one failure, of combine."""
    engine = StubEngine(telemetry=recorder.telemetry)
    engine.submit(SummedHalves.declaration, {"numbers": list(range(40))})
    DIES.append(0)
    engine.drain()
    assert recorder.metric("fanout.failures") == {("tests.SummedHalves", "combine", "ValueError"): 1}


def test_without_the_api_there_is_no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without OpenTelemetry's API observes nothing, and runs jobs."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "fanout.telemetry.otel")
    telemetry.load_telemetry.cache_clear()
    try:
        assert isinstance(telemetry.load_telemetry(), NoTelemetry)
        assert Halves.run({"numbers": [2]}) == [1]
    finally:
        telemetry.load_telemetry.cache_clear()


@given(st.builds(TraceParent, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255)), st.text())
def test_a_trace_survives_the_intent_and_a_malformed_one_is_the_ids(parent: TraceParent, text: str) -> None:
    """What an intent carries is read back exactly; anything malformed gives the trace of the job's id."""
    assert parent_of("job", str(parent)) == parent
    assert parent_of("job", text) == parent_of("job")
    assert Intent.from_bytes(_intent(str(parent)).to_bytes(), key="intent") == _intent(str(parent))


def _intent(trace: str) -> Intent:
    return Intent(
        launch_id="x",
        task="t",
        inline=b"",
        references={},
        options={},
        created_at=0.0,
        caller_parameters=(),
        trace=trace,
    )
