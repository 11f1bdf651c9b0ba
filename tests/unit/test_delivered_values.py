"""A job's value is sent as it is if every receiver can restore it, and else as a reference."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from kombu import serialization

import fanout
from fanout import ConfigError
from fanout.declaration.definition import TASKS
from fanout.engines.celery import extension_of, resolve
from fanout.engines.celery.values import REFERENCE, find_serializers, make_sendable
from fanout.engines.stub import Chunk
from fanout.records.ledger import Ledger
from storage import MemoryStore
from tests.stores import ScriptedStore

from .tasks import Numbers
from .world import World

LEDGER = Ledger(MemoryStore(), "job", "launch")
REFERS = {REFERENCE: "job", "launch": "launch"}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    monkeypatch.setattr(TASKS, "_listeners", [])
    made = Celery("values", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.update(
        result_backend="cache+memory://",
        task_default_queue=uuid.uuid4().hex,
        accept_content=["json", "pickle", "msgpack", "yaml"],
    )
    fanout.connect(made, store="memory://values")
    extension_of(made).runtime.store = ScriptedStore()

    @made.task(name="plain", shared=False)
    def plain(value: Any) -> None:
        """Accept a value in the app's serializer."""

    @made.task(name="pickled", serializer="pickle", shared=False)
    def pickled(value: Any) -> None:
        """Accept a value in a pickle."""

    yield made
    made.close()


def request(**following: Any) -> Any:
    return SimpleNamespace(**{"callbacks": None, "chain": None, "chord": None, "ignore_result": False, **following})


def test_the_serializer_of_each_receiver_is_found(app: Celery) -> None:
    """Callbacks, the next step of a chain, the body of a chord and the backend each have their own serializer."""
    plain, pickled = app.signature("plain"), app.signature("pickled")
    by_option = app.signature("plain", options={"serializer": "yaml"})
    app.conf.result_serializer = "msgpack"
    assert set(find_serializers(app, request())) == {"msgpack"}
    assert set(find_serializers(app, request(ignore_result=True))) == set()
    assert set(find_serializers(app, request(callbacks=[plain]))) == {"json", "msgpack"}
    assert set(find_serializers(app, request(callbacks=[pickled, by_option]))) == {"pickle", "yaml", "msgpack"}
    assert set(find_serializers(app, request(chain=[plain, by_option]))) == {"yaml", "msgpack"}
    assert set(find_serializers(app, request(chord=pickled))) == {"pickle", "msgpack"}
    assert set(find_serializers(app, request(callbacks=[app.signature("unknown")]))) == {"json", "msgpack"}


def test_the_first_tasks_of_a_canvas_are_the_receivers(app: Celery) -> None:
    """All members of a group receive the value, the first task of a chain, and the members of a chord's header."""
    app.conf.task_ignore_result = True
    plain, pickled = app.signature("plain"), app.signature("pickled")
    by_option = app.signature("plain", options={"serializer": "yaml"})

    def serializers_for(canvas: Any) -> set[str]:
        return set(find_serializers(app, request(callbacks=[canvas], ignore_result=True)))

    assert serializers_for(group([pickled, by_option], app=app)) == {"pickle", "yaml"}
    assert serializers_for(chain(pickled, by_option, app=app)) == {"pickle"}
    assert serializers_for(chord([pickled, by_option], plain, app=app)) == {"pickle", "yaml"}
    assert serializers_for(group([chain(by_option, plain, app=app), pickled], app=app)) == {"yaml", "pickle"}


JSON_VALUES = [{"a": [1, None, 2.5]}, (1, 2), {1: "a"}, "\ud800", float("inf"), 10**40, "ä" * 100]


@pytest.mark.parametrize("value", [{1, 2}, {(1, 2): 3}, {1: "a", "1": "b"}])
def test_one_receiver_without_the_type_gets_a_reference(app: Celery, value: Any) -> None:
    """A set is sent as it is if results and callbacks are pickles, and as a reference if one receiver uses JSON."""
    app.conf.result_serializer = "pickle"
    plain, pickled = app.signature("plain"), app.signature("pickled")
    assert make_sendable(value, app, LEDGER, request=request()) is value
    assert make_sendable(value, app, LEDGER, request=request(callbacks=[pickled])) is value
    for following in ({"callbacks": [pickled, plain]}, {"chain": [plain]}, {"chord": plain}):
        assert make_sendable(value, app, LEDGER, request=request(**following)) == REFERS


@pytest.mark.parametrize("value", JSON_VALUES)
def test_values_that_json_encodes_are_sent_as_they_are(app: Celery, value: Any) -> None:
    """This includes values that JSON changes, as the documentation says."""
    assert make_sendable(value, app, LEDGER, request=request(callbacks=[app.signature("plain")])) is value


@pytest.mark.parametrize(
    ("serializer", "value"),
    [
        ("json", {1: "a", "1": "b"}),
        ("msgpack", {1: "a"}),
        ("msgpack", 10**40),
        ("msgpack", "\ud800"),
        ("yaml", object()),
        ("json", []),
    ],
)
def test_values_that_a_receiver_cannot_restore_are_references(app: Celery, serializer: str, value: Any) -> None:
    """The values have keys that become one, keys or numbers that the reader refuses, or contain themselves."""
    if value == []:
        value.append(value)
    by_option = app.signature("plain", options={"serializer": serializer})
    assert make_sendable(value, app, LEDGER, request=request(callbacks=[by_option], ignore_result=True)) == {
        REFERENCE: "job",
        "launch": "launch",
    }


@pytest.fixture
def text_only() -> Iterator[None]:
    """Register a user's own serializer, which accepts only text."""

    def dumps(value: Any) -> bytes:
        if not isinstance(value, str):
            raise LookupError("only text")
        return pickle.dumps(value)

    serialization.register("odd", dumps, pickle.loads, content_type="application/odd", content_encoding="binary")
    yield
    serialization.unregister("odd")


@pytest.mark.parametrize("serializer", ["odd", "not-installed"])
def test_a_serializer_that_refuses_references_is_an_error(app: Celery, text_only: None, serializer: str) -> None:
    """If neither the value nor a reference can be sent, the error names the receiver and the serializer."""
    by_option = app.signature("plain", options={"serializer": serializer})
    with pytest.raises(ConfigError, match=rf"can't be sent to plain: serializer '{serializer}'"):
        make_sendable([1], app, LEDGER, request=request(callbacks=[by_option]))
    if serializer == "odd":
        assert make_sendable("text", app, LEDGER, request=request(callbacks=[by_option])) == "text"


def job_before_join(app: Celery) -> Ledger:
    """Return the ledger of a job that lacks only its join."""
    world = World()
    world.store = extension_of(app).runtime.store
    world.runtime = world.process()
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    world.dispatcher.drain(world.runtime, until=lambda: not isinstance(world.dispatcher.waiting[0], Chunk))
    return ledger


def test_a_delivery_that_cannot_succeed_is_not_repeated(app: Celery) -> None:
    """The join ends once, with a failure that names the reason, and no sweep sends it again.

    Job.get returns the value.
    """
    app.finalize()
    ledger = job_before_join(app)
    link = app.signature("plain", options={"serializer": "not-installed"})
    result = app.tasks[f"{Numbers.name}.join"].apply((ledger.job_id,), link=[link])
    assert result.state == "FAILURE"
    assert "not-installed" in str(result.result)
    assert ledger.is_delivered()
    assert extension_of(app).job(ledger.job_id).get(1) == [1, 2]


def test_a_receiver_resolves_a_reference(app: Celery) -> None:
    """A reference resolves to the exact value."""
    app.finalize()
    ledger = job_before_join(app)
    app.tasks[f"{Numbers.name}.join"].apply((ledger.job_id,))
    assert resolve({REFERENCE: ledger.job_id, "launch": ledger.launch_id}, extension_of(app).runtime) == [1, 2]
