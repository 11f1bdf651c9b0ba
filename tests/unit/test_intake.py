"""A worker drops a message that could do harm before Celery acts upon it, and before anything of it is expanded."""

from __future__ import annotations

import json
import logging
import pickle
import time
import tracemalloc
import uuid
import zlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import compression
from kombu.transport.virtual import Message

import fanout
from fanout.config.settings import Config
from fanout.engines.celery import expansion
from fanout.engines.celery.envelope import DEEPEST
from fanout.engines.celery.intake import Intake, IntakeStep
from fanout.engines.celery.signing import describe, sign

from .tasks import Words

KEYS = {"new": "n" * 32}
LONGEST = 500
JOIN = f"{Words.declaration.name}.join"
PROCESS = f"{Words.declaration.name}.process"
SETUP = f"{Words.declaration.name}.setup"
CHUNK = ["job", "l1", "s1", 0, 0, 0, 10, "0" * 32, 0, 1, 0, 0]


class Worker:
    """A worker's consumer as the intake sees it, which keeps what reaches Celery's handler."""

    connection_errors = (OSError,)

    def __init__(self, app: Celery, **changes: Any) -> None:
        self.handled: list[Any] = []
        self.rejected: list[bool] = []
        self.intake = Intake(app, Config(store="memory://x", **changes))
        self._receive = self.intake.wrap(self.handle, self)
        self._kind = self.intake.class_for(Message)

    def handle(self, message: Any) -> None:
        self.handled.append(message)

    def receive(self, body: Any, headers: Any, *, content_type: str = "application/json", reply_to: str = "") -> Any:
        """Deliver a message."""
        raw = {
            "body": body if isinstance(body, str | bytes) else json.dumps(body),
            "properties": {"delivery_tag": "1", "delivery_info": {}, "reply_to": reply_to},
            "content-type": content_type,
            "content-encoding": "utf-8",
            "headers": headers,
        }
        channel = SimpleNamespace(
            decode_body=lambda body, encoding: body,
            no_ack_consumers=None,
            basic_reject=lambda tag, requeue: self.rejected.append(requeue),
        )
        message = self._kind(raw, channel=channel)
        message.accept = {"application/json"}
        self._receive(message)
        return message


@pytest.fixture(scope="module")
def app() -> Iterator[Celery]:
    """A connected app with a task of its own."""
    made = Celery("intake", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    fanout.connect(made, store="memory://intake")

    @made.task(name="shop.add")
    def add(a: object, b: object) -> None:
        """Do nothing."""

    made.finalize()
    yield made
    made.close()


@pytest.fixture
def worker(app: Celery) -> Worker:
    return Worker(app)


@pytest.fixture(autouse=True)
def _restore_compressions() -> Iterator[None]:
    """Give kombu its own decompressors back."""
    before = {
        kind: (compression.get_encoder(kind)[0], compression.get_decoder(kind)) for kind in compression.encoders()
    }
    yield
    for kind, (encode, decode) in before.items():
        compression.register(encode, decode, kind)


def headers(task: str = JOIN, **more: Any) -> dict[str, Any]:
    return {"task": task, "id": "job", "lang": "py", "retries": 0, "timelimit": [None, None], **more}


def body(*args: Any, embedded: Any = None, **kwargs: Any) -> list[Any]:
    following = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
    return [list(args), kwargs, following if embedded is None else embedded]


def test_each_message_that_fanout_sends_reaches_celery(worker: Worker) -> None:
    """Setup, process, join and sweep, with what callers may add: links, headers of tracing, a time to start."""
    worker.receive(body(launch_id="l1"), headers(SETUP, fanout_message="m", fanout_store="s3://b", shadow=None))
    worker.receive(body(*CHUNK), headers(PROCESS, id=str(uuid.uuid4()), group="g", group_index=3))
    worker.receive(
        body("job", resent=True, embedded={"callbacks": [{"task": "shop.add", "args": [1]}], "chord": {"task": "x"}}),
        headers(traceparent="00-1-2-01", baggage={"a": 1}, eta="2026-12-01T00:00:00+00:00", fanout_overran_s=3.5),
    )
    worker.receive(body(), headers("fanout.sweep", id=str(uuid.uuid4())))
    assert len(worker.handled) == 4
    assert worker.rejected == []


FORGED: dict[str, tuple[Any, dict[str, Any]]] = {
    "no protocol 2": ({"task": JOIN, "id": "job", "args": ["job"], "kwargs": {}}, {}),
    "a body of two protocols": ({"args": ["job"]}, headers()),
    "a body of two parts": ([["job"], {}], headers()),
    "a body that is a number": (3, headers()),
    "no JSON": ("[[", headers()),
    "deep": ("[" * 200_000, headers()),
    "a long number": (f'[["job"], {{"generation": {"9" * 5000}}}, {{}}]', headers()),
    "arguments": ([3, {}, {}], headers()),
    "keyword arguments": ([["job"], [], {}], headers()),
    "following tasks": ([["job"], {}, 3], headers()),
    "an eager request": (body("job", embedded={"is_eager": True}), headers()),
    "other arguments": (body("job", embedded={"args": ["job-2"]}), headers()),
    "a callback that is a number": (body("job", embedded={"callbacks": [3]}), headers()),
    "a chord without a task": (body("job", embedded={"chord": {"args": []}}), headers()),
    "an eager header": (body("job"), headers(is_eager=True)),
    "a header that replaces a method": (body("job"), headers(update=1)),
    "callbacks in a header": (body("job"), headers(callbacks=[{"task": "shop.add"}])),
    "an id that is a list": (body("job"), headers(id=["job"])),
    "no id": (body("job"), {"task": JOIN}),
    "a line break in a name": (body("job"), headers(shadow="x\n[2026-11-27] ERROR forged")),
    "retries": (body("job"), headers(retries=True)),
    "negative retries": (body("job"), headers(retries=-1)),
    "a time limit": (body("job"), headers(timelimit=3)),
    "an infinite time limit": (body("job"), headers(timelimit=[1e400, None])),
    "eta": (body("job"), headers(eta=5)),
    "stamps": (body("job"), headers(stamped_headers=3)),
    "how long it ran": (body("job"), headers(fanout_overran_s=True)),
    "a job of another prefix": (body("../job"), headers()),
    "an argument too many": (body("job", x=1), headers()),
    "a chunk": (body(1), headers(PROCESS)),
    "a chunk with an argument": (body(*CHUNK, x=1), headers(PROCESS)),
    "true for one": (body(*CHUNK[:-1], True), headers(PROCESS)),
    "a submission": (body(submission={"inline": "%%%"}), headers(SETUP)),
    "a sweep of something": (body("job"), headers("fanout.sweep")),
}


@pytest.mark.parametrize(("sent", "with_headers"), FORGED.values(), ids=FORGED.keys())
def test_a_forged_message_is_dropped_with_one_line(
    worker: Worker, caplog: pytest.LogCaptureFixture, sent: Any, with_headers: dict[str, Any]
) -> None:
    """It reaches no handler and is not delivered again. One bounded line without a traceback names the part."""
    with caplog.at_level(logging.INFO):
        worker.receive(sent, with_headers)
    assert worker.handled == []
    assert worker.rejected == [False]
    (record,) = caplog.records
    assert "dropped a message: " in record.getMessage()
    assert len(record.getMessage()) < LONGEST
    assert "\n" not in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize("kind", sorted(compression.encoders()))
def test_a_compressed_message_is_dropped_before_it_is_expanded(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """kombu's decompressor is not called for a task of fanout's."""
    compressed, name = compression.compress(json.dumps(body("job")), kind)
    monkeypatch.setattr("kombu.message.decompress", lambda *_: pytest.fail("it was expanded"))
    worker.receive(compressed, headers(compression=name))
    assert worker.rejected == [False]
    assert "it is compressed" in caplog.text


@pytest.mark.parametrize(
    "content_type", ["application/x-python-serialize", "application/x-yaml", "application/data", ""]
)
def test_another_content_type_is_dropped_before_it_is_parsed(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    """Only JSON is parsed; kombu itself would also take plain data."""
    monkeypatch.setattr("kombu.message.loads", lambda *_, **__: pytest.fail("it was parsed"))
    worker.receive(body("job"), headers(), content_type=content_type)
    assert worker.rejected == [False]


def test_a_message_over_the_limit_is_dropped_before_it_is_parsed(
    app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`max_message_bytes` counts the body as it arrives. The line has none of it."""
    worker = Worker(app, max_message_bytes=1000)
    worker.receive(body("job"), headers())
    monkeypatch.setattr("kombu.message.loads", lambda *_, **__: pytest.fail("it was parsed"))
    worker.receive(body("j" * 1000), headers())
    assert (len(worker.handled), worker.rejected) == (1, [False])
    assert "more than max_message_bytes, 1000" in caplog.text
    assert "jjjj" not in caplog.text


@pytest.mark.parametrize("kind", sorted(compression.encoders()))
def test_a_compressed_message_of_another_task_expands_to_a_limit(app: Celery, kind: str) -> None:
    """A bomb takes no more memory than the limit. A message below the limit arrives as it was sent."""
    worker = Worker(app, max_message_bytes=1 << 18)
    worker.intake.limit_expansion()
    sent, name = compression.compress(json.dumps(body("x" * 100_000, 2)), kind)
    arrived = worker.receive(sent, headers("shop.add", compression=name))
    assert arrived.payload == body("x" * 100_000, 2)
    bomb, _ = compression.compress(b" " * (1 << 25), kind)
    tracemalloc.start()
    try:
        refused = worker.receive(bomb, headers("shop.add", compression=name))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [error[0] for error in refused.errors] == [expansion.TooLarge]
    assert peak < 1 << 24


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"], ids=["cut", "followed"])
def test_a_compressed_message_is_whole(change: Any) -> None:
    """A stream that ends early, or has something behind its end, is refused."""
    expansion.limit_expansion(1000)
    with pytest.raises(expansion.TooLarge, match="ends too early, or is followed"):
        compression.decompress(change(zlib.compress(b"abc" * 100)), "gzip")


def test_a_compression_without_a_limit_is_refused_unless_the_app_uses_it() -> None:
    """Packages may register more compressions, of which a sender could choose one."""
    compression.register(lambda data: data, lambda data: data * 1000, "application/x-own", aliases=["own"])
    try:
        expansion.limit_expansion(1000, used=["own", None])
        assert len(compression.decompress(b"abc", "own")) == 3000
        expansion.limit_expansion(1000)
        with pytest.raises(expansion.TooLarge, match="application/x-own, which cannot be limited"):
            compression.decompress(b"abc", "own")
    finally:
        compression._encoders.pop("application/x-own")  # type: ignore[attr-defined]
        compression._decoders.pop("application/x-own")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sent", "wrong"),
    [
        (body(1, 2), {"id": ["x"]}),
        (body(1, 2), {"id": None}),
        (body(1, 2), {"timelimit": 3}),
        (body(1, 2), {"stamped_headers": ["a"], "stamps": {"a": [{}]}}),
        (body(1, 2), []),
    ],
)
def test_a_message_that_would_end_the_worker_is_dropped(worker: Worker, sent: Any, wrong: Any) -> None:
    """Also of the app's own tasks: it would be delivered again to the next worker."""
    worker.receive(sent, headers("shop.add", **wrong) if isinstance(wrong, dict) else wrong)
    assert (worker.handled, worker.rejected) == ([], [False])


def nest(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels - 1):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("sent", "with_headers"),
    [
        (body(nest(DEEPEST)), headers("shop.add")),
        (body("job", embedded={"chord": {"task": "x", "args": nest(DEEPEST)}}), headers()),
        (body("job"), headers(baggage=nest(DEEPEST))),
        ([nest(800), {}, {}], headers("shop.add")),
    ],
    ids=["an argument", "a task that follows", "a header", "where JSON just ends"],
)
def test_a_message_that_would_stop_the_pool_is_dropped(worker: Worker, sent: Any, with_headers: dict[str, Any]) -> None:
    """Celery's pool pickles a message, and sends no other after one that is too deep for that."""
    worker.receive(sent, with_headers)
    assert (worker.handled, worker.rejected) == ([], [False])


def test_a_pool_can_pickle_the_deepest_message(worker: Worker) -> None:
    """A message of as many levels as are allowed reaches Celery, and so does one that is only wide."""
    worker.receive(body(nest(DEEPEST - 2)), headers("shop.add"))
    worker.receive(body(*[[1]] * 10 * DEEPEST), headers("shop.add"))
    deepest, wide = (message.payload for message in worker.handled)
    assert pickle.loads(pickle.dumps(deepest)) == list(deepest)
    assert len(wide[0]) == 10 * DEEPEST


@pytest.mark.parametrize("error", [TypeError("unhashable"), ValueError("unpack"), RecursionError("deep")])
def test_an_error_of_celerys_handler_drops_the_message(worker: Worker, error: Exception) -> None:
    """The main process goes on. A lost connection still reaches Celery, which connects again."""

    def fail(_: Any) -> None:
        raise failure

    worker._receive = worker.intake.wrap(fail, worker)
    failure: Exception = error
    worker.receive(body(1, 2), headers("shop.add"))
    assert worker.rejected == [False]
    failure = ConnectionResetError()
    with pytest.raises(ConnectionResetError):
        worker.receive(body(1, 2), headers("shop.add"))


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["task", "id", "timelimit", "retries", "eta", "args", "is_eager", "get", "fanout_store", "x"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=8,
    ),
)
def test_anything_is_handled_or_dropped(app: Celery, changes: dict[str, Any], sent: Any) -> None:
    """No headers and no body raise an error in the main process."""
    worker = Worker(app)
    worker.receive(sent, {**headers(), **changes})
    assert len(worker.handled) + len(worker.rejected) == 1


def signed(task: str, sent: list[Any], with_headers: dict[str, Any], *, reply_to: str = "") -> dict[str, Any]:
    """Return the headers of a message with its signature."""
    facts = describe(*sent, {**with_headers, "reply_to": reply_to})
    return {**with_headers, "fanout_signature": sign(KEYS, task, facts, at=int(time.time()))}


def test_only_signed_messages_reach_celery_if_signatures_are_required(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    """Celery schedules and expires nothing of others, and another queue for the result needs another signature."""
    worker = Worker(app, signing_keys=KEYS, require_signatures=True)
    right = signed(JOIN, body("job"), headers(), reply_to="q")
    worker.receive(body("job"), right, reply_to="q")
    assert len(worker.handled) == 1
    worker.receive(body("job"), headers(eta="2099-01-01T00:00:00+00:00"))
    worker.receive(body("job"), right, reply_to="theirs")
    worker.receive(body("job-2"), right, reply_to="q")
    worker.receive(body("job", embedded={"args": ["job"]}), right, reply_to="q")
    worker.receive(body("job-2", embedded={"is_eager": True}), headers(is_eager=True))
    assert (len(worker.handled), len(worker.rejected)) == (1, 5)
    assert "it is not signed" in caplog.text
    assert "it was altered" in caplog.text


def test_a_connected_apps_workers_have_the_intake(app: Celery) -> None:
    """`connect` adds it to the consumer, behind the part that makes the consumer of tasks."""
    assert IntakeStep in app.steps["consumer"]
    assert IntakeStep.requires == ("celery.worker.consumer.tasks:Tasks",)


def test_a_worker_without_a_store_is_left_as_it_is() -> None:
    """Its app runs other tasks, and Celery handles their messages alone. With a store, the checks come first."""
    for store in (None, "memory://intake"):
        with Celery("other", broker="memory://", set_as_current=False) as made:
            fanout.connect(made, store=store)
            consumer: Any = SimpleNamespace(app=made, steps=[], create_task_handler=lambda: None, connection_errors=())
            before = consumer.create_task_handler
            step = IntakeStep(consumer)
            assert step.include(consumer) == (store is not None)
            assert (consumer.create_task_handler is before) == (store is None)
