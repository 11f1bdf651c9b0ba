"""The parts of the Celery engine, without a broker: messages, registered tasks, and eager mode."""

from __future__ import annotations

import json
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from unittest.mock import Mock

import pytest
from celery import Celery
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.result import allow_join_result, denied_join_result
from celery.signals import worker_init
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
from fanout.engines.stub import Chunk
from fanout.engines.submission import Submission
from fanout.records.ids import new_id
from fanout.records.ledger import Ledger
from fanout.records.models import Note, Outcome, OutcomeStatus
from fanout.sweep import Move, sweep_job
from storage import MemoryStore, StorageDenied, VerifiedStore, encode
from tests.stores import ScriptedStore
from tests.tasks import FailingTask

from .tasks import Numbers, Words
from .world import World


@pytest.fixture(autouse=True)
def _isolate_declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the apps of a test from registering the tasks that other tests declare."""
    monkeypatch.setattr(TASKS, "_listeners", [])


@pytest.fixture
def app() -> Iterator[Celery]:
    """Yield a connected app with its own store and broker, both in memory."""
    made = Celery("unit", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.update(result_backend="cache+memory://", broker_transport_options={"polling_interval": 0.01})
    fanout.connect(made, store=f"memory://unit-{uuid.uuid4().hex}")
    yield made
    made.close()


@pytest.fixture
def eager(app: Celery) -> Celery:
    """Return the app, set to run its tasks in the caller."""
    app.conf.task_always_eager = True
    return app


class Pair(ForkJoinTask):
    """Adds the received value to each of its numbers."""

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


# Messages


@pytest.mark.parametrize("documents", [["a b"], ["x" * 1000] * 100])
def test_a_submission_is_decoded_as_it_was_encoded(world: World, documents: list[str]) -> None:
    """An encoded submission is plain JSON, is small for an input of any size, and decodes to an equal submission."""
    submission = submission_of(world, Words, {"documents": documents}, chunk_items=3, max_attempts=5)
    text = json.dumps(signature_codec.encode(submission))
    assert len(text) < 1000
    decoded = signature_codec.decode(json.loads(text), Words.declaration)
    assert decoded == submission
    assert decoded.parameters.load(["documents"], world.store) == {"documents": documents}
    assert signature_codec.complete(decoded, (), world.runtime) is decoded


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
def test_a_forged_submission_is_refused(body: Any) -> None:
    """A body that no signature of the task encodes to raises InvalidInput."""
    with pytest.raises(InvalidInput, match="is not the submission of a signature of this task"):
        signature_codec.decode(body, Words.declaration)


def test_an_unknown_option_in_a_message_is_ignored(world: World) -> None:
    """A submission of a newer fanout still runs."""
    body = signature_codec.encode(submission_of(world, Words, {"documents": []}))
    body["options"]["of_the_future"] = 1
    assert signature_codec.decode(body, Words.declaration).options == Words.declaration.options


def test_a_received_value_completes_the_submission(world: World) -> None:
    """The previous step's value is validated with the other parameters. Defaults and other parameters remain."""
    submission = signature_codec.decode(
        signature_codec.encode(submission_of(world, Pair, {"numbers": [1]}, receives="plus", max_attempts=2)),
        Pair.declaration,
    )
    completed = signature_codec.complete(submission, (5,), world.runtime)
    names = sorted(completed.parameters.names())
    assert completed.parameters.load(names, world.store) == {"numbers": [1], "plus": 5, "text": "x"}
    assert completed.options.max_attempts == 2


@pytest.mark.parametrize(
    ("receives", "received", "message"),
    [
        (None, (1,), "no parameter receives it"),
        ("plus", (), "must receive one value from the previous step, not 0"),
        ("plus", (1, 2), "not 2"),
        ("plus", ("text",), "plus: must be of integer type"),
    ],
)
def test_received_values_that_do_not_fit_are_refused(
    world: World, receives: str | None, received: tuple[Any, ...], message: str
) -> None:
    """The error for a value too many, a value too few or a value of the wrong type says so."""
    values = {"numbers": [1]} if receives else {"numbers": [1], "plus": 1}
    with pytest.raises(InvalidInput, match=message):
        signature_codec.complete(submission_of(world, Pair, values, receives=receives), received, world.runtime)


def test_receives_must_name_a_field(world: World) -> None:
    """`receives` names a field of the schema."""
    with pytest.raises(InvalidInput, match="plsu: unknown field, so it can't receive"):
        submission_of(world, Pair, {"numbers": []}, receives="plsu")


class Tags(ForkJoinTask):
    """Its schema makes a list of a text, which works only once."""

    input_schema = {"tags": {"coerce": lambda text: text.split(","), "type": "list"}, "plus": {"type": "integer"}}

    def setup(tags):
        return [{"tag": tag} for tag in tags]

    def process(tag, plus=0):
        return tag * plus

    def join(results):
        return list(results)


def test_input_is_normalised_once(world: World) -> None:
    """A coercion that cannot be repeated is not repeated when the received value arrives."""
    submission = submission_of(world, Tags, {"tags": "a,b"}, receives="plus")
    completed = signature_codec.complete(submission, (2,), world.runtime)
    assert completed.parameters.load(["tags"], world.store) == {"tags": ["a", "b"]}


def test_eager_input_is_normalised_once(eager: Celery) -> None:
    """Eager mode, too, normalises the input once."""
    assert Tags.signature({"tags": "a,b", "plus": 2}, app=eager)().get() == ["aa", "bb"]


# The end of a stage


def test_a_stopped_child_process_is_no_failure_of_a_step() -> None:
    """billiard raises SystemExit in a child process that it stops. A step's own SystemExit is the step's failure."""
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
def test_a_small_json_value_is_sent_as_it_is(app: Celery, value: Any) -> None:
    """A small value that JSON can encode is sent as it is, and resolves to itself."""
    assert make_sendable(value, app, LEDGER) is value
    assert resolve(value, extension_of(app).runtime) == value


@pytest.mark.parametrize("value", ["x" * LIMIT_BYTES, {1, 2}, object, {(1, 2): 3}])
def test_other_values_are_sent_as_a_reference(app: Celery, value: Any) -> None:
    """A large value, or one that JSON cannot encode, is sent as a reference, which any receiver can resolve."""
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
    [
        {REFERENCE: "unknown-job"},
        {REFERENCE: "unknown-job", "generation": 1},
        [1, {REFERENCE: "unknown-job"}],
        [[({REFERENCE: 1},)]],
    ],
)
def test_a_value_that_resembles_a_reference_arrives_unchanged(app: Celery, value: Any) -> None:
    """If a join returns a value that resembles a reference, the receiver gets that value."""
    for generation in (0, 2):
        ledger = Ledger(extension_of(app).runtime.store, new_id(), "launch", generation)
        ledger.write_outcome(Outcome(status=OutcomeStatus.SUCCEEDED, task="t", stats=[], value=encode(value)))
        sent = json.loads(json.dumps(make_sendable(value, app, ledger)))
        assert resolve(sent, extension_of(app).runtime) == value


def test_a_reference_to_a_missing_job_is_an_error(app: Celery) -> None:
    """A reference to a removed job and a forged reference raise errors."""
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


def test_a_field_has_a_value_or_receives_one(world: World) -> None:
    """A value for the field that `receives` names would be lost, so it is refused."""
    with pytest.raises(InvalidInput, match="numbers: has a value, and is named in `receives`"):
        submission_of(world, Numbers, {"numbers": [1]}, receives="numbers")


# Settings


def settings_of(app: Celery) -> list[str]:
    return [entry.setting for entry in advice(app)]


def test_recommended_settings_give_no_advice() -> None:
    """An app with the recommended settings gets no advice."""
    app = Celery("good", broker="amqp://", set_as_current=False)
    app.conf.update(fanout.RECOMMENDED)
    assert advice(app) == []


def test_each_dangerous_setting_is_named_with_its_danger() -> None:
    """The advice names each setting that may lose messages, attempts or workers, the most dangerous first."""
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


def test_an_annotation_that_overrides_a_stage_setting_is_named(app: Celery) -> None:
    """An annotation for all tasks overrides late acknowledgement of a stage, so the advice names it.

    A stage's own settings take precedence over other settings of the app.
    """
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
    """A time limit at or above the visibility timeout is named: Redis would deliver a longer chunk twice."""
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
    """Without a soft shutdown, messages of a stopped worker return only after the visibility timeout."""
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
def test_a_stage_ends_before_redelivery(broker: str, settings: dict[str, Any], expected: float | None) -> None:
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
def test_the_broker_is_recognised_in_every_spelling(
    settings: dict[str, Any], read: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kombu recognises lists, aliases, old names, classes and one URL per direction, without a connection."""
    monkeypatch.setattr(socket, "create_connection", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    app = Celery("spelt", set_as_current=False)
    app.config_from_object(settings)
    assert (broker_for_read(app).kind, broker_for_write(app).kind) == (read, written)
    limits = {"amqp": 1500, "redis": 3000, "sqs": 1500}
    assert default_limit_s(app) == limits.get(read)
    unconfirmed = "broker_transport_options['confirm_publish']" in settings_of(app)
    assert unconfirmed == (written == "amqp")


def test_the_broker_of_the_environment_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery reads CELERY_BROKER_URL, which may hold a list."""
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
def test_safe_content_is_recognised_by_name_and_by_type(accepted: Any, *, expected: bool) -> None:
    """The advice does not name serializers without code, by their name or by their content type."""
    app = Celery("content", broker="memory://", set_as_current=False)
    app.conf.accept_content = accepted
    assert ("accept_content" in settings_of(app)) is expected
    app.conf.result_accept_content = accepted
    assert ("result_accept_content" in settings_of(app)) is expected


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
    """The advice names a queue whose limit drops the oldest message and an exchange that does not persist messages."""
    app = Celery("queues", broker=["amqp://a", "amqp://b"], set_as_current=False)
    app.conf.update(fanout.RECOMMENDED, task_queues=[queue])
    assert settings_of(app) == ([expected] if expected else [])


@pytest.mark.parametrize("form", [dict, lambda rule: [rule], lambda rule: {"*": {"acks_late": True, **rule["*"]}}])
def test_a_time_limit_in_an_annotation_is_checked(form: Callable[[Any], Any]) -> None:
    """The advice names a time limit beyond the broker's, also if an annotation sets it."""
    app = Celery("annotated", broker=["amqp://a"], set_as_current=False)
    app.conf.update(fanout.RECOMMENDED, task_annotations=form({"*": {"time_limit": 7200}}))
    fanout.connect(app, store="memory://annotated")
    app.finalize()
    assert f"task_annotations['{Words.name}.process']['time_limit']" in settings_of(app)


# The extension


def test_an_unconnected_app_names_connect() -> None:
    """Every call that needs the app says to call connect."""
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
    """The error names a misspelt setting, and the app is not connected."""
    bare = Celery("bare", set_as_current=False)
    with pytest.raises(
        ConfigError,
        match="no such setting: pack_byte; there are encryption_keys, external_endpoints, inline_bytes",
    ):
        fanout.connect(bare, store="memory://a", pack_byte=3)
    assert not hasattr(bare, ATTRIBUTE)


def test_settings_come_from_code_then_configuration_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
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
    """A second connect keeps the extension of the first."""
    before = extension_of(app)
    assert isinstance(before, Extension)
    assert extension_of(fanout.connect(app)) is before


def test_a_configuration_read_later_does_not_undo_connect() -> None:
    """`config_from_object` after connect does not override the settings that connect was given."""
    made = Celery("later", set_as_current=False)
    fanout.connect(made, store="memory://code")
    made.config_from_object({"fanout_store": "memory://object", "fanout_upload_concurrency": 2})
    config = extension_of(made).config
    assert (config.store, config.upload_concurrency) == ("memory://code", 2)


def test_tasks_declared_before_and_after_are_registered(app: Celery) -> None:
    """The app has the three Celery tasks of a declaration, in any order of declaration, connect and finalisation."""
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


def test_a_task_may_be_declared_again(app: Celery) -> None:
    """A class at a prompt or in a function may be declared again without a warning, and the last declaration runs."""
    app.finalize()
    app.conf.task_always_eager = True

    def declare(version: str) -> type[ForkJoinTask]:
        class Anew(ForkJoinTask):
            input_schema: Any = {}

            def setup():
                return [{"number": 1}]

            def process(number):
                return version

            def join(results):
                return list(results)

        return Anew

    first, last = declare("first"), declare("last")
    assert first.name == last.name
    assert [task.submit({}, app=app).get(10) for task in (first, last)] == [["last"], ["last"]]


def test_two_apps_use_their_own_stores() -> None:
    """The tasks of each app use that app's store."""
    apps = [Celery(f"app-{number}", set_as_current=False) for number in range(2)]
    for number, each in enumerate(apps):
        fanout.connect(each, store=f"memory://apart-{number}")
        each.finalize()
    stores = [each.tasks[f"{Words.name}.join"].runtime.store.url for each in apps]
    assert stores == ["memory://apart-0", "memory://apart-1"]


def test_sweep_every_s_schedules_the_sweep(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sweep_every_s` adds the sweep task to celery beat's schedule, where it cannot pile up.

    By default the schedule is empty.
    """
    app.finalize()
    assert SweepTask.name in app.tasks
    assert app.conf.beat_schedule == {}
    monkeypatch.setenv("FANOUT_SWEEP_EVERY_S", "30")
    other = Celery("other", broker="memory://", set_as_current=False)
    fanout.connect(other, store="memory://x")
    other.finalize()
    (entry,) = other.conf.beat_schedule.values()
    assert (entry["task"], entry["schedule"], entry["options"]) == (SweepTask.name, 30.0, {"expires": 30.0})


def test_the_sweep_task_moves_stalled_jobs(app: Celery, store: ScriptedStore) -> None:
    """The sweep task sends the messages of a stalled job again, as the command does."""
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
    """An eager signature that is called, delayed or applied runs the job in the caller.

    The result is the join's value with its types.
    """
    signature = Words.signature({"documents": ["a b", "b"]}, app=eager)
    for result in (signature(), signature.delay(), signature.apply_async()):
        assert result.get() == Counter(b=2, a=1)
        assert type(result.get()) is Counter


def test_an_eager_failure_is_raised(eager: Celery) -> None:
    """A step that raises in eager mode raises the error of a real job."""
    result = FailingTask.signature({"step": "process", "numbers": [1, 2, 3]}, app=eager).delay()
    with pytest.raises(JobFailed, match="process was told to fail at 3"):
        result.get()


def test_eager_callbacks_are_called_once(eager: Celery) -> None:
    """In eager mode a link receives the value once."""
    seen: list[Any] = []

    @eager.task
    def note(value: Any) -> None:
        seen.append(value)

    Numbers.signature({"numbers": [1, 2]}, app=eager).apply_async(link=note.s())
    assert seen == [[1, 2]]


def test_an_eager_chain_passes_values_on(eager: Celery) -> None:
    """A job in an eager chain receives the previous step's value, and passes its own to the next step."""

    @eager.task
    def one() -> int:
        return 1

    @eager.task
    def total(values: list[int]) -> int:
        return sum(values)

    chain = one.s() | Pair.signature({"numbers": [1, 2]}, receives="plus", app=eager) | total.s()
    assert chain.apply_async().get() == 5


def test_an_eager_submit_runs_a_stream(eager: Celery) -> None:
    """Eager mode runs a job with a streamed input in the caller, like any other."""
    assert Numbers.submit({"numbers": iter([1, 2])}, app=eager).get(0.1) == [1, 2]


# Waiting


@pytest.mark.parametrize("wait", [lambda job: job.get(5), list])
def test_a_task_must_not_wait_for_a_job(app: Celery, wait: Callable[[Any], Any]) -> None:
    """Within a task, where Celery refuses to wait for a result, waiting for a job raises an error with the remedy."""
    job = Numbers.submit({"numbers": [1]}, app=app)
    with denied_join_result(), pytest.raises(RuntimeError, match=r"never wait for a job within a task .*allow_join"):
        wait(job)


def test_a_task_may_wait_if_celery_allows_it(app: Celery) -> None:
    """A task may wait within `allow_join_result`, and may always get the value of a job that has ended."""
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
    """Return a scripted store that replaces the app's store."""
    scripted = ScriptedStore()
    extension_of(app).runtime.store = scripted
    return scripted


def job_before_join(app: Celery, store: ScriptedStore) -> Ledger:
    """Return the ledger of a job that lacks only its join."""
    world = World()
    world.store = store
    world.runtime = world.process()
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    world.dispatcher.drain(world.runtime, until=lambda: not isinstance(world.dispatcher.waiting[0], Chunk))
    return ledger


def test_a_join_records_the_delivery(app: Celery, store: ScriptedStore) -> None:
    """After Celery has the value, the join records that the job was delivered."""
    ledger = job_before_join(app, store)
    result = app.tasks[f"{Numbers.name}.join"].apply((ledger.job_id,))
    assert result.get() == [1, 2]
    assert ledger.is_delivered()


def test_a_join_without_an_outcome_is_not_delivered(app: Celery, store: ScriptedStore) -> None:
    """A job whose join the store refused can still be moved by a sweep."""
    ledger = job_before_join(app, store)

    with store.failing("get", "/results/", error=StorageDenied):
        assert app.tasks[f"{Numbers.name}.join"].apply((ledger.job_id,), retries=STORE_RETRIES).state == "IGNORED"
    assert ledger.outcome() is None
    store.age(10**6)
    assert sweep_job(extension_of(app).runtime, ledger.job_id) == Move.JOIN_SENT


def test_an_interrupted_join_keeps_its_claim(app: Celery, store: ScriptedStore) -> None:
    """An interrupted join takes over its own claim each time, and its runs do not count as attempts."""
    ledger = job_before_join(app, store)
    with store.failing("get", "/results/", times=3):
        assert app.tasks[f"{Numbers.name}.join"].apply((ledger.job_id,)).get() == [1, 2]
    claims = [ledger.keys.claim(number) for number in range(4)]
    assert store.keys(ledger.keys.claims) == sorted([*claims, *map(ledger.keys.claim_interrupted, range(3))])
    assert ledger.attempts("join").count == 0


def test_a_join_that_is_interrupted_too_often_has_no_result(app: Celery, store: ScriptedStore) -> None:
    """Celery stores no error and calls no errback, because the job has not ended. A sweep moves it later."""
    ledger = job_before_join(app, store)
    with store.failing("get", "/results/"):
        result = app.tasks[f"{Numbers.name}.join"].apply((ledger.job_id,), retries=STORE_RETRIES)
    assert result.state == "IGNORED"
    store.age(10**6)
    assert sweep_job(extension_of(app).runtime, ledger.job_id) == Move.JOIN_SENT


def test_a_forged_chunk_is_dropped(app: Celery, store: ScriptedStore, caplog: pytest.LogCaptureFixture) -> None:
    """A message without a valid chunk ref causes one line in the log and no request."""
    for row in ((), ("../x", 1), tuple(range(11))):
        assert app.tasks[f"{Numbers.name}.process"].apply(row).get() is None
    assert caplog.text.count("dropped a message that fanout did not send") == 3
    assert store.log == []


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_launch_records_its_eta(app: Celery, store: ScriptedStore, zone: str) -> None:
    """The intent has the same time as the message, whatever the time zone of the app."""
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
    """If the message cannot be sent, the store has the intent, so that a sweep can move the job."""
    app.finalize()
    result = Numbers.signature({"numbers": [1]}, app=app)()
    assert result.state == fanout.JobState.LAUNCHED
    intent = Ledger.of(store, result.id).intent()
    assert intent.launch is not None
    assert json.loads(intent.launch)["task_id"] == result.id
    Ledger.of(store, result.id).write_delivered(Note(by="x"))


def test_a_worker_preloads_its_store_before_it_forks(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker preloads the store of its app before it starts its pool. A wrong URL is left to the first job."""
    urls: list[str] = []
    worker = Mock(app=app)
    monkeypatch.setattr("fanout.engines.celery.extension.preload_store", urls.append)
    worker_init.send(sender=worker)
    assert urls == [app.conf.fanout_store]
    monkeypatch.undo()
    app.conf.fanout_store = "no-store"
    assert [answer for _, answer in worker_init.send(sender=worker) if answer] == []


def test_a_store_over_a_network_is_verified_first() -> None:
    """The runtime wraps a store over a network in a VerifiedStore."""
    made = Celery("verified", broker="memory://", set_as_current=False)
    fanout.connect(made, store="s3://bucket/root")
    store = extension_of(made).runtime.store
    assert isinstance(store, VerifiedStore)
    assert store.url == "s3://bucket/root"
