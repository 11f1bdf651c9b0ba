"""The Celery engine's pieces, without a broker: what travels, what is registered, and eager mode."""

from __future__ import annotations

import json
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.result import allow_join_result, denied_join_result
from kombu import Exchange, Queue
from kombu.utils import json as kombu_json

import fanout
from fanout import ConfigError, ForkJoinTask, InvalidInput, JobFailed
from fanout.declaration.definition import TASKS
from fanout.engines.celery import Extension, advice, extension_of, resolve, signature_codec
from fanout.engines.celery.current_app import ATTRIBUTE
from fanout.engines.celery.extension import _is_stop
from fanout.engines.celery.publishing.broker import broker_for_read, broker_for_write
from fanout.engines.celery.settings import default_limit_s
from fanout.engines.celery.stage_task import STORE_RETRIES
from fanout.engines.celery.sweeper import SweepTask
from fanout.engines.celery.tasks import JoinTask, ProcessTask, SetupTask
from fanout.engines.celery.values import LIMIT_BYTES, REFERENCE, make_sendable
from fanout.engines.submission import Submission
from fanout.records.keys import new_id
from fanout.records.ledger import Ledger
from fanout.records.models import Note, Outcome, OutcomeStatus
from fanout.sweep import Move, sweep_job
from storage import MemoryStore, StorageDenied, StorageUnavailable, VerifiedStore, encode
from tests.tasks import FailingTask

from .dispatcher import Chunk
from .stores import ScriptedStore
from .tasks import Numbers, Words
from .world import World


@pytest.fixture(autouse=True)
def _no_listener_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps of one test are not told of the tasks that other tests declare."""
    monkeypatch.setattr(TASKS, "_listeners", [])


@pytest.fixture
def app() -> Iterator[Celery]:
    """A connected app with a store and a broker of its own, both in memory."""
    made = Celery("unit", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.update(result_backend="cache+memory://", broker_transport_options={"polling_interval": 0.01})
    fanout.connect(made, store=f"memory://unit-{uuid.uuid4().hex}")
    yield made
    made.close()


@pytest.fixture
def eager(app: Celery) -> Celery:
    """The same, which runs its tasks in the caller."""
    app.conf.task_always_eager = True
    return app


class Pair(ForkJoinTask):
    """Adds what it received to each of its numbers."""

    input_schema = {
        "numbers": {"type": "list", "required": True},
        "plus": {"type": "integer", "required": True},
        "text": {"type": "string", "default": "x"},
    }

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, plus):
        return number + plus

    def join(results):
        return list(results)


def submission_of(
    world: World, task: type[ForkJoinTask], values: Any, *, receives: str | None = None, **options: Any
) -> Submission:
    return Submission.of(
        task.declaration,
        values,
        store=world.store,
        inline_bytes=100,
        options=options,
        receives=receives,
        may_stream=False,
    )


# The wire


@pytest.mark.parametrize("documents", [["a b"], ["x" * 1000] * 100])
def test_an_order_comes_back_from_the_wire(world: World, documents: list[str]) -> None:
    """It is plain JSON, small whatever the size of the input, and gives the same order."""
    submission = submission_of(world, Words, {"documents": documents}, chunk_items=3, max_attempts=5)
    text = json.dumps(signature_codec.encode(submission))
    assert len(text) < 1000
    back = signature_codec.decode(json.loads(text), Words.declaration)
    assert back == submission
    assert back.parameters.load(["documents"], world.store) == {"documents": documents}
    assert signature_codec.complete(back, (), world.runtime) is back


GOOD = {"inline": "", "references": {}, "options": {}, "receives": None}
FORGED = [
    None,
    3,
    [],
    {},
    *({name: value for name, value in GOOD.items() if name != missing} for missing in GOOD),
    {**GOOD, "inline": 3},
    {**GOOD, "inline": "%%%"},
    {**GOOD, "references": 3},
    {**GOOD, "references": ["abc"]},
    {**GOOD, "options": {"max_attempts": "3"}},
    {**GOOD, "options": {"max_attempts": -1}},
    {**GOOD, "options": {"chunk_items": 1, "chunk_count": 1}},
    {**GOOD, "options": ["max_attempts"]},
]


@pytest.mark.parametrize("body", FORGED)
def test_a_forged_order_is_refused(body: Any) -> None:
    """What no signature of the task carries is an error of the input."""
    with pytest.raises(InvalidInput, match="is not the submission of a signature of this task"):
        signature_codec.decode(body, Words.declaration)


def test_an_option_that_this_version_does_not_know_is_passed_by(world: World) -> None:
    """An order of a newer fanout still runs."""
    body = signature_codec.encode(submission_of(world, Words, {"documents": []}))
    body["options"]["of_the_future"] = 1
    assert signature_codec.decode(body, Words.declaration).options == Words.declaration.options


def test_a_received_value_completes_the_order(world: World) -> None:
    """The value of the step before is validated with the rest; defaults and the other parameters stay."""
    submission = signature_codec.decode(
        signature_codec.encode(submission_of(world, Pair, {"numbers": [1]}, receives="plus", max_attempts=2)),
        Pair.declaration,
    )
    complete = signature_codec.complete(submission, (5,), world.runtime)
    names = sorted(complete.parameters.names())
    assert complete.parameters.load(names, world.store) == {"numbers": [1], "plus": 5, "text": "x"}
    assert complete.options.max_attempts == 2


@pytest.mark.parametrize(
    ("receives", "received", "message"),
    [
        (None, (1,), "no parameter receives it"),
        ("plus", (), "must receive one value from the previous step, not 0"),
        ("plus", (1, 2), "not 2"),
        ("plus", ("text",), "plus: must be of integer type"),
    ],
)
def test_what_does_not_complete_an_order_is_refused(
    world: World, receives: str | None, received: tuple[Any, ...], message: str
) -> None:
    """A value too many, one too few, or one of the wrong type names the parameter."""
    values = {"numbers": [1]} if receives else {"numbers": [1], "plus": 1}
    with pytest.raises(InvalidInput, match=message):
        signature_codec.complete(submission_of(world, Pair, values, receives=receives), received, world.runtime)


def test_a_field_that_does_not_exist_receives_nothing(world: World) -> None:
    """`receives` names a field of the schema."""
    with pytest.raises(InvalidInput, match="plsu: unknown field, so it can't receive"):
        submission_of(world, Pair, {"numbers": []}, receives="plsu")


class Tags(ForkJoinTask):
    """Its schema makes a list of a text, which can be done once only."""

    input_schema = {"tags": {"coerce": lambda text: text.split(","), "type": "list"}, "plus": {"type": "integer"}}

    def setup(tags):
        return [{"tag": tag} for tag in tags]

    def process(tag, plus=0):
        return tag * plus

    def join(results):
        return list(results)


def test_input_is_normalised_once(world: World) -> None:
    """A coercion that can't be repeated is not repeated when the received value comes."""
    submission = submission_of(world, Tags, {"tags": "a,b"}, receives="plus")
    complete = signature_codec.complete(submission, (2,), world.runtime)
    assert complete.parameters.load(["tags"], world.store) == {"tags": ["a", "b"]}


def test_eager_input_is_normalised_once(eager: Celery) -> None:
    """The same in eager mode."""
    assert Tags.signature({"tags": "a,b", "plus": 2}, app=eager)().get() == ["aa", "bb"]


# What ends a stage


def test_a_child_that_is_told_to_end_blames_no_step() -> None:
    """billiard raises SystemExit wherever a child is; one that a step raises itself is the step's failure."""
    code = "import sys\ndef _shutdown_cleanup(signum):\n    sys.exit(signum - 256)"
    for module, is_stop in (("billiard.common", True), ("shop.tasks", False)):
        scope: dict[str, Any] = {"__name__": module}
        exec(code, scope)
        with pytest.raises(SystemExit) as caught:
            scope["_shutdown_cleanup"](15)
        assert _is_stop(caught.value) is is_stop
    assert _is_stop(WorkerShutdown(0))
    assert _is_stop(WorkerTerminate(1))
    assert not _is_stop(KeyboardInterrupt())


# Values

LEDGER = Ledger(MemoryStore(), "job", "launch")


@pytest.mark.parametrize("value", [None, 1, "text", [1, {"a": 2}], {"a": "x" * 100}])
def test_a_small_plain_value_travels_itself(app: Celery, value: Any) -> None:
    """What JSON takes and is small is sent as it is, and opened as it is."""
    assert make_sendable(value, app, LEDGER) is value
    assert resolve(value, extension_of(app).runtime) == value


@pytest.mark.parametrize("value", ["x" * LIMIT_BYTES, {1, 2}, object, {(1, 2): 3}])
def test_another_value_travels_as_a_reference(app: Celery, value: Any) -> None:
    """What is large, or what JSON does not take, is a reference that anybody can open."""
    runtime = extension_of(app).runtime
    ledger = Ledger(runtime.store, new_id(), "launch")
    if value is object:
        value = {frozenset({1})}
    reference = {REFERENCE: ledger.job_id, "launch": "launch"}
    assert make_sendable(value, app, ledger) == reference
    ledger.write_outcome(Outcome(status=OutcomeStatus.SUCCEEDED, task="T", stats=[], value=encode(value)))
    assert resolve(reference, runtime) == value
    assert fanout.resolve([1, reference, [reference]], app=app) == [1, value, [value]]


@pytest.mark.parametrize(
    "value",
    [{REFERENCE: "nobody"}, {REFERENCE: "nobody", "generation": 1}, [1, {REFERENCE: "nobody"}], [[({REFERENCE: 1},)]]],
)
def test_a_value_that_looks_like_a_reference_is_none(app: Celery, value: Any) -> None:
    """A join may return what reads like a reference: it arrives as it is, and is not taken for one."""
    for generation in (0, 2):
        ledger = Ledger(extension_of(app).runtime.store, new_id(), "launch", generation)
        ledger.write_outcome(Outcome(status=OutcomeStatus.SUCCEEDED, task="t", stats=[], value=encode(value)))
        travelling = json.loads(json.dumps(make_sendable(value, app, ledger)))
        assert resolve(travelling, extension_of(app).runtime) == value


def test_a_reference_to_nothing_says_so(app: Celery) -> None:
    """A job that was removed, and a reference that is forged, are errors."""
    runtime = extension_of(app).runtime
    with pytest.raises(LookupError, match="no longer in the store"):
        resolve({REFERENCE: "gone", "launch": "x"}, runtime)
    with pytest.raises(ValueError, match="is not an id"):
        resolve({REFERENCE: "../x", "launch": "x"}, runtime)
    with pytest.raises(ValueError, match="launch id None is not an id"):
        resolve({REFERENCE: "gone"}, runtime)
    with pytest.raises(ValueError, match="is not a number from 0"):
        resolve({REFERENCE: "gone", "launch": "x", "generation": "../x"}, runtime)
    assert resolve({REFERENCE: "gone", "more": 1}, runtime) == {REFERENCE: "gone", "more": 1}


def test_a_field_receives_or_is_given(world: World) -> None:
    """A value for the very field that receives the one of the step before would be lost: it is refused."""
    with pytest.raises(InvalidInput, match="numbers: has a value, and is named in `receives`"):
        submission_of(world, Numbers, {"numbers": [1]}, receives="numbers")


# Settings


def settings_of(app: Celery) -> list[str]:
    return [entry.setting for entry in advice(app)]


def test_an_app_as_recommended_needs_no_advice() -> None:
    """The recommended settings are enough."""
    app = Celery("good", broker="amqp://", set_as_current=False)
    app.conf.update(fanout.RECOMMENDED)
    assert advice(app) == []


def test_each_dangerous_setting_is_named_with_its_danger() -> None:
    """Whatever loses messages, tries or workers is advised against, the most dangerous first."""
    app = Celery("bad", broker="amqp://", set_as_current=False)
    app.conf.update(
        accept_content=["json", "pickle"],
        task_time_limit=3600,
        task_default_delivery_mode="transient",
        task_queues=[Queue("fleeting", durable=False), Queue("quorate", queue_arguments={"x-queue-type": "quorum"})],
        task_protocol=1,
        task_always_eager=True,
        broker_connection_retry_on_startup=False,
        worker_detect_quorum_queues=False,
    )
    assert settings_of(app) == [
        "accept_content",
        "broker_transport_options['confirm_publish']",
        "task_default_delivery_mode",
        "task_queues['fleeting']",
        "task_protocol",
        "task_always_eager",
        "task_time_limit",
        "worker_prefetch_multiplier",
        "broker_connection_retry_on_startup",
        "broker_channel_error_retry",
        "worker_detect_quorum_queues",
    ]
    assert all(entry.setting in str(entry) and entry.danger in str(entry) for entry in advice(app))


def test_an_annotation_that_takes_from_a_stage_what_it_needs_is_named(app: Celery) -> None:
    """What an app says of every task must not undo late acknowledgement; a stage's own settings are stronger."""
    app.conf.update(task_acks_late=False, task_reject_on_worker_lost=False, task_retry_on_worker_lost=True)
    app.finalize()
    assert not [name for name in settings_of(app) if "annotations" in name]
    annotated = Celery("annotated", broker="memory://", set_as_current=False)
    annotated.conf.task_annotations = {"*": {"acks_late": False, "retry_on_worker_lost": True}}
    fanout.connect(annotated, store="memory://annotated")
    annotated.finalize()
    assert f"task_annotations['{Words.name}.process']['acks_late']" in settings_of(annotated)
    assert f"task_annotations['{Words.name}.join']['retry_on_worker_lost']" in settings_of(annotated)


@pytest.mark.parametrize(
    ("limit_s", "timeout_s", "expected"), [(None, None, 0), (3599, None, 0), (3600, None, 1), (100, 60, 1), (50, 60, 0)]
)
def test_redis_needs_a_limit_below_its_visibility_timeout(limit_s: Any, timeout_s: Any, expected: int) -> None:
    """A chunk that outlives the timeout would be delivered twice."""
    app = redis_app(worker_soft_shutdown_timeout=10, worker_enable_soft_shutdown_on_idle=True, task_time_limit=limit_s)
    if timeout_s:
        app.conf.broker_transport_options = {"visibility_timeout": timeout_s}
    assert settings_of(app) == ["task_time_limit"] * expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["worker_soft_shutdown_timeout"]),
        ({"worker_soft_shutdown_timeout": 5}, ["worker_enable_soft_shutdown_on_idle"]),
    ],
)
def test_redis_needs_a_soft_shutdown(settings: dict[str, Any], expected: list[str]) -> None:
    """Without one, what a worker held when it was told to quit stays away until the visibility timeout."""
    assert settings_of(redis_app(**settings)) == expected


def redis_app(**settings: Any) -> Celery:
    app = Celery("redis", broker="redis://", set_as_current=False)
    app.conf.update(worker_prefetch_multiplier=1, **settings)
    return app


@pytest.mark.parametrize(
    ("broker", "settings", "expected"),
    [
        ("amqp://", {}, 1500),
        ("amqp://", {"task_time_limit": 7}, 7),
        ("amqp://", {"task_queues": [Queue("short", queue_arguments={"x-consumer-timeout": 60_000})]}, 50),
        ("redis://", {}, 3000),
        ("redis://", {"broker_transport_options": {"visibility_timeout": 60}}, 50),
        ("memory://", {}, None),
    ],
)
def test_a_stage_gives_up_before_its_broker_does(broker: str, settings: dict[str, Any], expected: float | None) -> None:
    """A stage has the app's time limit, or else five sixths of the time for which the broker waits."""
    app = Celery("limited", broker=broker, set_as_current=False)
    app.conf.update(settings)
    fanout.connect(app, store="memory://limited")
    app.finalize()
    for step in ("setup", "process", "join"):
        assert app.tasks[f"{Words.name}.{step}"].time_limit == expected


SPELLINGS: list[tuple[dict[str, Any], str, str]] = [
    ({"broker_url": ["amqp://a", "amqp://b"]}, "amqp", "amqp"),
    ({"broker_url": "pyamqp://a;pyamqp://b"}, "amqp", "amqp"),
    ({"broker_url": ("amqps://a",)}, "amqp", "amqp"),
    ({"broker_url": "rabbit.example.com:5672"}, "amqp", "amqp"),
    ({"broker_url": None}, "amqp", "amqp"),
    ({"BROKER_URL": ["amqp://a"]}, "amqp", "amqp"),
    ({"broker_url": "host", "broker_transport": "redis"}, "redis", "redis"),
    ({"broker_url": "host", "broker_transport": "kombu.transport.redis:Transport"}, "redis", "redis"),
    ({"broker_url": "amqp://", "broker_write_url": ["redis://a"]}, "amqp", "redis"),
    ({"broker_url": "amqp://", "broker_read_url": "sentinel://a:1;sentinel://b:1"}, "redis", "amqp"),
    ({"broker_url": ["rediss://a", "rediss://b"]}, "redis", "redis"),
    ({"broker_url": "sqs://"}, "sqs", "sqs"),
    ({"broker_url": "filesystem://"}, "filesystem", "filesystem"),
    ({"broker_url": "no-such-broker://"}, "unknown", "unknown"),
]


@pytest.mark.parametrize(("settings", "read", "written"), SPELLINGS)
def test_the_broker_is_known_however_it_is_spelt(
    settings: dict[str, Any], read: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists, aliases, old names, classes, one URL for each end: kombu says what it is, without any connection."""
    monkeypatch.setattr(socket, "create_connection", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    app = Celery("spelt", set_as_current=False)
    app.config_from_object(settings)
    assert (broker_for_read(app).kind, broker_for_write(app).kind) == (read, written)
    limits = {"amqp": 1500, "redis": 3000, "sqs": 1500}
    assert default_limit_s(app) == limits.get(read)
    unconfirmed = "broker_transport_options['confirm_publish']" in settings_of(app)
    assert unconfirmed == (written == "amqp")


def test_the_broker_of_the_environment_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery reads CELERY_BROKER_URL by itself, a list too."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://a;redis://b")
    assert broker_for_read(Celery("environment", set_as_current=False)).is_redis


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (["json"], False),
        (("application/json",), False),
        ({"json", "msgpack", "yaml"}, False),
        (None, False),
        (["application/x-python-serialize"], True),
        (["json", "application/x-of-my-own"], True),
    ],
)
def test_content_is_known_by_name_and_by_type(accepted: Any, *, expected: bool) -> None:
    """Serializers that hold no code are not advised against, however they are spelt."""
    app = Celery("content", broker="memory://", set_as_current=False)
    app.conf.accept_content = accepted
    assert ("accept_content" in settings_of(app)) is expected


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        (Queue("q", max_length=10), "task_queues['q']['x-overflow']"),
        (Queue("q", queue_arguments={"x-max-length-bytes": 10}), "task_queues['q']['x-overflow']"),
        (Queue("q", queue_arguments={"x-max-length": 10, "x-overflow": "reject-publish"}), None),
        (Queue("q", Exchange("e", delivery_mode=1)), "task_queues['q'].exchange.delivery_mode"),
        (Queue("q", Exchange("e", delivery_mode="transient")), "task_queues['q'].exchange.delivery_mode"),
    ],
)
def test_a_queue_that_loses_messages_is_named(queue: Queue, expected: str | None) -> None:
    """A limit that drops the oldest, or an exchange that keeps nothing, however the queue says it."""
    app = Celery("queues", broker=["amqp://a", "amqp://b"], set_as_current=False)
    app.conf.update(fanout.RECOMMENDED, task_queues=[queue])
    assert settings_of(app) == ([expected] if expected else [])


@pytest.mark.parametrize("form", [dict, lambda rule: [rule], lambda rule: {"*": {"acks_late": True, **rule["*"]}}])
def test_a_time_limit_by_annotation_is_looked_at(form: Callable[[Any], Any]) -> None:
    """A limit beyond the broker's patience is dangerous wherever it is set."""
    app = Celery("annotated", broker=["amqp://a"], set_as_current=False)
    app.conf.update(fanout.RECOMMENDED, task_annotations=form({"*": {"time_limit": 7200}}))
    fanout.connect(app, store="memory://annotated")
    app.finalize()
    assert f"task_annotations['{Words.name}.process']['time_limit']" in settings_of(app)


# The extension


def test_an_app_that_is_not_connected_says_how() -> None:
    """Whatever needs the app says to call connect."""
    bare = Celery("bare", set_as_current=False)
    for ask in (
        lambda: Words.signature({"documents": []}, app=bare),
        lambda: Words.submit({"documents": []}, app=bare),
        lambda: fanout.attach("job", app=bare),
        lambda: fanout.resolve(1, app=bare),
    ):
        with pytest.raises(ConfigError, match=r"call fanout\.connect\(app"):
            ask()


def test_an_unknown_setting_is_refused() -> None:
    """A misspelt setting is named, and the app is not connected."""
    bare = Celery("bare", set_as_current=False)
    with pytest.raises(ConfigError, match="no such setting: pack_byte; there are inline_bytes, pack_bytes"):
        fanout.connect(bare, store="memory://a", pack_byte=3)
    assert not hasattr(bare, ATTRIBUTE)


def test_code_wins_over_configuration_and_that_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting comes from connect, then from the app's configuration, then from the environment."""
    monkeypatch.setenv("FANOUT_STORE", "memory://environment")
    monkeypatch.setenv("FANOUT_UPLOAD_CONCURRENCY", "7")
    monkeypatch.setenv("FANOUT_STALL_S", "7")
    made = Celery("precedence", set_as_current=False)
    made.conf.update(fanout_store="memory://configuration", fanout_stall_s=5)
    fanout.connect(made)
    config = extension_of(made).config
    assert (config.store, config.stall_s, config.upload_concurrency) == ("memory://configuration", 5.0, 7)
    fanout.connect(made, store="memory://code")
    assert extension_of(made).config.store == "memory://code"


def test_connecting_twice_is_harmless(app: Celery) -> None:
    """The extension stays the one it was."""
    before = extension_of(app)
    assert isinstance(before, Extension)
    assert extension_of(fanout.connect(app)) is before


def test_a_configuration_read_later_does_not_undo_connect() -> None:
    """`config_from_object` after connect leaves what code has said."""
    made = Celery("later", set_as_current=False)
    fanout.connect(made, store="memory://code")
    made.config_from_object({"fanout_store": "memory://object", "fanout_upload_concurrency": 2})
    config = extension_of(made).config
    assert (config.store, config.upload_concurrency) == ("memory://code", 2)


def test_tasks_declared_before_and_after_are_registered(app: Celery) -> None:
    """The three Celery tasks of a declaration are there, whichever was first: declaration, connect or finalisation."""
    app.finalize()
    for step in ("setup", "process", "join"):
        assert f"{Words.name}.{step}" in app.tasks

    class Later(ForkJoinTask):
        name = "unit.later"
        input_schema: Any = {}

        def setup():
            return []

        def process(number):
            return number

        def join(results):
            return list(results)

    kinds = [type(app.tasks[f"unit.later.{step}"]).mro() for step in ("setup", "process", "join")]
    assert all(kind in found for kind, found in zip((SetupTask, ProcessTask, JoinTask), kinds, strict=True))
    assert [app.tasks[f"unit.later.{step}"].name for step in ("setup", "process", "join")] == [
        f"unit.later.{step}" for step in ("setup", "process", "join")
    ]


def test_a_task_declared_anew_is_registered_anew(app: Celery) -> None:
    """A class at a prompt or in a function may be declared again without a warning, and the last one runs."""
    app.finalize()

    def declare() -> type[ForkJoinTask]:
        class Anew(ForkJoinTask):
            input_schema: Any = {}

            def setup():
                return []

            def process(number):
                return number

            def join(results):
                return list(results)

        return Anew

    assert declare().name == declare().name


def test_two_apps_are_kept_apart() -> None:
    """Each app's tasks work with that app's store."""
    apps = [Celery(f"app-{number}", set_as_current=False) for number in range(2)]
    for number, each in enumerate(apps):
        fanout.connect(each, store=f"memory://apart-{number}")
        each.finalize()
    stores = [each.tasks[f"{Words.name}.join"].runtime.store.url for each in apps]
    assert stores == ["memory://apart-0", "memory://apart-1"]


def test_a_sweep_is_scheduled_when_asked_for(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sweep_every_s` puts the task that sweeps on beat's schedule, where it can't pile up; else nothing does."""
    app.finalize()
    assert SweepTask.name in app.tasks
    assert app.conf.beat_schedule == {}
    monkeypatch.setenv("FANOUT_SWEEP_EVERY_S", "30")
    other = Celery("other", broker="memory://", set_as_current=False)
    fanout.connect(other, store="memory://x")
    other.finalize()
    (entry,) = other.conf.beat_schedule.values()
    assert (entry["task"], entry["schedule"], entry["options"]) == (SweepTask.name, 30.0, {"expires": 30.0})


def test_the_task_that_sweeps_moves_what_has_stalled(app: Celery, store: ScriptedStore) -> None:
    """It does what the command does."""
    app.finalize()
    queue = uuid.uuid4().hex
    app.conf.task_default_queue = queue
    job = Numbers.signature({"numbers": [1]}, app=app)()
    store.age(10**5)
    app.tasks[SweepTask.name].apply().get()
    with app.connection_for_read() as connection:
        messages = connection.SimpleQueue(queue)
        assert messages.qsize() == 2
        assert [messages.get(timeout=5).headers["id"] for _ in range(2)] == [job.id] * 2


# Eager mode


def test_an_eager_signature_gives_the_value(eager: Celery) -> None:
    """Called, delayed, or applied, the job runs here and gives the join's value with its types."""
    signature = Words.signature({"documents": ["a b", "b"]}, app=eager)
    for result in (signature(), signature.delay(), signature.apply_async()):
        assert result.get() == Counter(b=2, a=1)
        assert type(result.get()) is Counter


def test_an_eager_failure_is_raised(eager: Celery) -> None:
    """A step that raises gives the error that a real job gives."""
    result = FailingTask.signature({"step": "process", "numbers": [1, 2, 3]}, app=eager).delay()
    with pytest.raises(JobFailed, match="process was told to fail at 3"):
        result.get()


def test_eager_callbacks_are_called_once(eager: Celery) -> None:
    """A link receives the value, an errback the error, each once."""
    seen: list[Any] = []

    @eager.task
    def note(value: Any) -> None:
        seen.append(value)

    Numbers.signature({"numbers": [1, 2]}, app=eager).apply_async(link=note.s())
    assert seen == [[1, 2]]


def test_an_eager_chain_passes_values_on(eager: Celery) -> None:
    """A job takes the value of the step before, and gives its own to the next."""

    @eager.task
    def one() -> int:
        return 1

    @eager.task
    def total(values: list[int]) -> int:
        return sum(values)

    chain = one.s() | Pair.signature({"numbers": [1, 2]}, receives="plus", app=eager) | total.s()
    assert chain.apply_async().get() == 5


def test_an_eager_submit_runs_a_stream(eager: Celery) -> None:
    """Eager mode runs a streamed job here, too, as it does any other."""
    assert Numbers.submit({"numbers": iter([1, 2])}, app=eager).get(0.1) == [1, 2]


# Waiting


@pytest.mark.parametrize("wait", [lambda job: job.get(5), list])
def test_a_task_must_not_wait_for_a_job(app: Celery, wait: Callable[[Any], Any]) -> None:
    """Where Celery refuses to wait for a result, a job is not waited for either; the error says what to do."""
    job = Numbers.submit({"numbers": [1]}, app=app)
    with denied_join_result(), pytest.raises(RuntimeError, match=r"never wait for a job within a task .*allow_join"):
        wait(job)


def test_a_task_may_wait_where_it_was_allowed(app: Celery) -> None:
    """`allow_join_result` counts, and a job that has ended is nothing to wait for."""
    job = Numbers.submit({"numbers": iter([1])}, app=app)
    with denied_join_result():
        assert Numbers.run({"numbers": [1]}) == [1]
        with allow_join_result(), pytest.raises(fanout.JobTimeout):
            job.get(0.05)
        job.cancel()
        with pytest.raises(fanout.JobCancelled):
            job.get(5)


# Tasks


@pytest.fixture
def store(app: Celery) -> ScriptedStore:
    """The store of the app, scripted."""
    scripted = ScriptedStore()
    extension_of(app).runtime.store = scripted
    return scripted


def complete(app: Celery, store: ScriptedStore) -> Ledger:
    """A job of which only the join is missing."""
    world = World()
    world.store = store
    world.runtime = world.process()
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    world.dispatcher.drain(world.runtime, until=lambda: not isinstance(world.dispatcher.waiting[0], Chunk))
    return ledger


def test_a_join_that_ended_is_put_on_record(app: Celery, store: ScriptedStore) -> None:
    """After its value is with Celery, the job is marked as delivered."""
    ledger = complete(app, store)
    result = app.tasks[f"{Numbers.name}.join"].apply((ledger.job_id,))
    assert result.get() == [1, 2]
    assert ledger.is_delivered()


def test_a_join_without_an_outcome_is_not_delivered(app: Celery, store: ScriptedStore) -> None:
    """A join that the store refused leaves a job that a sweep still moves."""
    ledger = complete(app, store)

    def refuse(verb: str, key: str) -> None:
        if verb == "get" and "/results/" in key:
            raise StorageDenied("the credentials have expired", key=key)

    store.before = refuse
    assert app.tasks[f"{Numbers.name}.join"].apply((ledger.job_id,), retries=STORE_RETRIES).state == "IGNORED"
    store.before = lambda verb, key: None
    assert ledger.outcome() is None
    store.age(10**6)
    assert sweep_job(extension_of(app).runtime, ledger.job_id) == Move.JOIN_SENT


def silent(times: int) -> Callable[[str, str], None]:
    """A store that does not give results, so often."""
    left = iter(range(times))

    def refuse(verb: str, key: str) -> None:
        if verb == "get" and "/results/" in key and next(left, None) is not None:
            raise StorageUnavailable("no answer", key=key)

    return refuse


def test_a_join_that_is_put_off_keeps_its_claim(app: Celery, store: ScriptedStore) -> None:
    """It takes its own claim over each time, and its runs are no tries."""
    ledger = complete(app, store)
    store.before = silent(3)
    assert app.tasks[f"{Numbers.name}.join"].apply((ledger.job_id,)).get() == [1, 2]
    claims = [ledger.keys.claim(number) for number in range(4)]
    assert store.keys(ledger.keys.claims) == sorted([*claims, *map(ledger.keys.claim_interrupted, range(3))])
    assert ledger.attempts("join").count == 0


def test_a_join_that_is_put_off_too_often_has_no_result(app: Celery, store: ScriptedStore) -> None:
    """No error is stored and no errback called for a job that has not ended: a sweep goes on with it."""
    ledger = complete(app, store)
    store.before = silent(10**6)
    result = app.tasks[f"{Numbers.name}.join"].apply((ledger.job_id,), retries=STORE_RETRIES)
    assert result.state == "IGNORED"
    store.before = lambda verb, key: None
    store.age(10**6)
    assert sweep_job(extension_of(app).runtime, ledger.job_id) == Move.JOIN_SENT


def test_a_forged_chunk_is_dropped(app: Celery, store: ScriptedStore, caplog: pytest.LogCaptureFixture) -> None:
    """A message that is no handle is one line in the log and no request."""
    for row in ((), ("../x", 1), tuple(range(11))):
        assert app.tasks[f"{Numbers.name}.process"].apply(row).get() is None
    assert caplog.text.count("dropped a message that fanout did not send") == 3
    assert store.log == []


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_launch_remembers_when_it_may_start(app: Celery, store: ScriptedStore, zone: str) -> None:
    """The intent says the same moment as the message, whatever zone the app works in."""
    app.conf.timezone = zone
    app.finalize()
    eta, queue = datetime(2100, 1, 1, 12), uuid.uuid4().hex
    result = Numbers.signature({"numbers": [1]}, app=app).apply_async(eta=eta, queue=queue)
    intent = Ledger.of(store, result.id).intent()
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(queue).get(timeout=5)
        message.ack()
    assert message.headers["id"] == result.id
    assert kombu_json.loads(message.body)[:2] == [[], {"launch_id": intent.launch_id}]
    assert intent.not_before == pytest.approx(datetime.fromisoformat(message.headers["eta"]).timestamp(), abs=1.0)


def test_a_launch_is_in_the_store_before_its_message(app: Celery, store: ScriptedStore) -> None:
    """Where the message can't be sent, the intent is there for a sweep to move."""
    app.finalize()
    result = Numbers.signature({"numbers": [1]}, app=app)()
    assert result.state == fanout.JobState.LAUNCHED
    intent = Ledger.of(store, result.id).intent()
    assert intent.launch is not None
    assert json.loads(intent.launch)["task_id"] == result.id
    Ledger.of(store, result.id).write_delivered(Note(by="x"))


def test_a_bucket_is_verified_before_it_is_relied_on() -> None:
    """The runtime's store over a network is one that is probed first."""
    made = Celery("proven", broker="memory://", set_as_current=False)
    fanout.connect(made, store="s3://bucket/root")
    store = extension_of(made).runtime.store
    assert isinstance(store, VerifiedStore)
    assert store.url == "s3://bucket/root"
