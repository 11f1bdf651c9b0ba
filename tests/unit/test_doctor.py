"""`fanout doctor` names problems of store, settings and workers, each with a remedy."""

from __future__ import annotations

import json
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner, Result
from kombu import Queue

import fanout
from fanout.cli import main
from fanout.declaration.definition import TASKS
from fanout.doctor import check_all, check_store, plain, report_lines
from fanout.doctor.keys import check_keys
from fanout.engines.celery import check_app, checkup, extension_of
from storage import BucketNotFound, Finding, Retention, StorageDenied, StorageError, StorageUnavailable, Verdict
from tests import broken_stores
from tests.stores import ScriptedStore

from .tasks import Words

GUARANTEES = ["write once", "read after write", "overwrite", "ranged read", "list after write", "list after delete"]
OTHERS = ["store: clock", "store: root", "store: removal", "store: speed"]


@pytest.fixture(autouse=True)
def _isolate_declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the apps of a test from registering the tasks that other tests declare."""
    monkeypatch.setattr(TASKS, "_listeners", [])


@pytest.fixture
def app() -> Iterator[Celery]:
    made = Celery("doctored", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.update(fanout.RECOMMENDED, broker_transport_options={})
    fanout.connect(made, store="memory://doctored")
    yield made
    made.close()


# The store


def test_a_good_store_has_only_good_findings() -> None:
    """The doctor probes each guarantee anew, finds that the clocks agree, and leaves nothing behind."""
    store = ScriptedStore()
    findings = [*check_store(store, stall_s=60)]
    assert [finding.check for finding in findings] == ["store", *(f"store: {name}" for name in GUARANTEES), *OTHERS]
    assert {finding.verdict for finding in findings} == {Verdict.OK}
    assert {finding.remedy for finding in findings} == {""}
    assert store.keys() == []


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (BucketNotFound("no bucket"), "store: bucket"),
        (StorageDenied("no entry"), "store: credentials"),
        (StorageUnavailable("no answer"), "store: reachable"),
        (StorageError("no idea", remedy="Think."), "store: answers"),
    ],
)
@pytest.mark.parametrize("verb", ["list", "get"])
def test_a_store_that_does_not_answer(error: StorageError, check: str, verb: str) -> None:
    """An error of the store in a listing or a read is the last finding, with the error's remedy."""
    store = ScriptedStore()

    def answer(asked: str, key: str) -> None:
        if asked == verb:
            raise error

    store.before = answer
    last = [*check_store(store, stall_s=60)][-1]
    assert last == Finding(check, str(error.args[0]), Verdict.BROKEN, error.remedy)


def test_a_broken_guarantee_is_named() -> None:
    """The finding names the guarantee, the observation and the remedy."""
    findings = {f.check: f for f in check_store(broken_stores.Careless(), stall_s=60)}
    finding = findings["store: write once"]
    assert (finding.found, finding.verdict) == ("32 of 32 writers won", Verdict.BROKEN)
    assert "If-None-Match" in finding.remedy
    assert [f.check for f in findings.values() if f.verdict is not Verdict.OK] == ["store: write once"]


def test_servers_that_do_not_share_a_condition_are_broken() -> None:
    """Writers that meet by way of two servers show that each keeps the condition for itself."""
    stores = [ScriptedStore(), ScriptedStore()]
    findings = {f.check: f for f in check_store(stores[0], stall_s=60, peers=stores[1:])}
    assert (findings["store: write once"].found, findings["store: write once"].verdict) == (
        "2 of 32 writers won",
        Verdict.BROKEN,
    )
    assert findings["store: read after write"].verdict is Verdict.BROKEN


@pytest.mark.parametrize(
    ("ahead_s", "verdict", "said"),
    [
        (0.0, Verdict.OK, "agrees"),
        (0.9, Verdict.OK, "agrees"),
        (-5.0, Verdict.OK, "5 s behind"),
        (5.0, Verdict.OK, "5 s ahead of"),
        (-20.0, Verdict.CHANGE, "20 s behind"),
        (20.0, Verdict.CHANGE, "20 s ahead of"),
        (-100.0, Verdict.BROKEN, "100 s behind"),
        (100.0, Verdict.BROKEN, "100 s ahead of"),
    ],
)
def test_clocks_that_differ(ahead_s: float, verdict: Verdict, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding names the direction of a clock that is off by much of `stall_s`.

    A second of difference is no problem.
    """
    store = ScriptedStore()
    monkeypatch.setattr(store, "now", lambda: time.time() + ahead_s)
    finding = {finding.check: finding for finding in check_store(store, stall_s=60)}["store: clock"]
    assert finding.verdict is verdict
    assert said in finding.found
    assert bool(finding.remedy) is (verdict is not Verdict.OK)
    assert store.keys() == []


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["_jobs/1/intent", "_jobs/2/~/é", "_parameters/x", "_probe/clock"], None),
        (["photos/a/1.jpg", "photos/b.jpg", "_jobs/1/intent", "README", "team/_jobs/1"], "README, photos/, team/"),
        (["_jobs-old/1", "_jobs", "é/1", "é/2"], "_jobs, _jobs-old/, é/"),
        ([f"{letter}/{number}" for letter in "abcdefghij" for number in range(50)], "a/, b/, c/, d/, e/ and more"),
    ],
)
def test_objects_of_other_programs_are_named(keys: list[str], said: str | None) -> None:
    """The finding names the first segments of a few other keys, at one request each, and says to leave them alone."""
    store = ScriptedStore()
    for key in keys:
        store.put(key, b"")
    findings = {finding.check: finding for finding in check_store(store, stall_s=60)}
    finding = findings["store: root"]
    if said is None:
        assert finding == Finding("store: root", "holds only fanout's objects")
    else:
        assert finding.found == f"holds objects of others: {said}"
        assert finding.verdict is Verdict.CHANGE
        assert "leave them alone" in finding.remedy
    assert {*keys} <= {*store.keys()}


@pytest.mark.parametrize(
    ("kept", "verdict", "found", "remedy"),
    [
        (Retention(), Verdict.OK, "gone", ""),
        (None, Verdict.UNKNOWN, "does not say", "s3:GetBucketVersioning"),
        (Retention(versions=True), Verdict.CHANGE, "keeps earlier versions", "NoncurrentVersionExpiration"),
        (Retention(True, True), Verdict.CHANGE, "may lock them", "NoncurrentVersionExpiration"),
        (Retention(True, True, "GOVERNANCE", 30), Verdict.CHANGE, "30 days (GOVERNANCE)", "without a default"),
    ],
)
def test_a_bucket_that_keeps_versions_is_named(
    kept: Retention | None, verdict: Verdict, found: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that keeps versions keeps removed jobs. The finding says so, with the lifecycle rule that helps."""
    store = ScriptedStore()
    monkeypatch.setattr(store, "retention", lambda: kept)
    finding = {finding.check: finding for finding in check_store(store, stall_s=60)}["store: removal"]
    assert finding.verdict is verdict
    assert found in finding.found
    assert remedy in finding.remedy


# An app


def test_settings_are_named_with_their_remedy(app: Celery) -> None:
    """The finding for a setting to change has the recommended value and the reason."""
    app.conf.worker_prefetch_multiplier = 7
    found = {finding.check: finding for finding in checkup.check_settings(app)}
    finding = found["setting worker_prefetch_multiplier"]
    assert (finding.found, finding.verdict) == ("7", Verdict.CHANGE)
    assert finding.remedy.startswith("Should be 1: ")
    assert found["result backend"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({}, Verdict.UNKNOWN),
        ({"x-consumer-timeout": 60_000}, Verdict.BROKEN),
        ({"x-consumer-timeout": 1_600_000}, Verdict.OK),
    ],
)
def test_a_known_consumer_timeout_is_checked(settings: dict[str, Any], verdict: Verdict) -> None:
    """A queue's own consumer timeout is compared with the time limit. Without one the verdict is unknown."""
    app = Celery("timed", broker="amqp://", set_as_current=False)
    app.conf.update(task_time_limit=1500, task_queues=[Queue("q", queue_arguments=settings)])
    assert checkup._consumer_timeout(app).verdict is verdict


class Inspected:
    """Answers of workers to `inspect`, in Celery's shapes."""

    def __init__(self, app: Celery, *workers: str) -> None:
        known = [f"{name} [rate_limit=1/s]" for name in app.tasks]
        self.answers: dict[str, dict[str, Any]] = {
            "stats": {
                worker: {"pool": {"implementation": "celery.concurrency.prefork:TaskPool"}} for worker in workers
            },
            "registered": dict.fromkeys(workers, known),
            "active_queues": {worker: [{"name": "celery"}] for worker in workers},
            "conf": {worker: {"fanout_store": "memory://doctored"} for worker in workers},
        }

    def __call__(self, **_: Any) -> Inspected:
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda: self.answers[name] or None


def worker_findings(app: Celery, monkeypatch: pytest.MonkeyPatch, inspected: Inspected) -> Mapping[str, Finding]:
    monkeypatch.setattr(app.control, "inspect", inspected)
    return {finding.check: finding for finding in checkup._check_workers(app)}


def test_workers_that_answer_are_good(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that knows the tasks of its queues is good."""
    found = worker_findings(app, monkeypatch, Inspected(app, "a@here", "b@here"))
    assert [(check, finding.verdict) for check, finding in found.items()] == [
        ("worker a@here", Verdict.OK),
        ("worker b@here", Verdict.OK),
    ]


def test_no_worker_is_something_to_change(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no worker answers, the verdict is to change, and not broken, because workers may start later."""
    assert worker_findings(app, monkeypatch, Inspected(app))["workers"].verdict is Verdict.CHANGE


@pytest.mark.parametrize(
    ("question", "answer", "verdict", "said"),
    [
        ("registered", ["celery.chord"], Verdict.BROKEN, f"does not know .*{Words.name}.process"),
        ("conf", {"fanout_store": "s3://other/root"}, Verdict.BROKEN, "uses the store s3://other/root"),
        ("conf", {}, Verdict.OK, "answers"),
        (
            "stats",
            {"pool": {"implementation": "celery.concurrency.thread:TaskPool"}},
            Verdict.CHANGE,
            "celery.concurrency.thread",
        ),
    ],
)
def test_an_unfit_worker_is_named(
    app: Celery, monkeypatch: pytest.MonkeyPatch, question: str, answer: Any, verdict: Verdict, said: str
) -> None:
    """The finding names a worker that does not know the tasks, uses another store, or cannot stop a step."""
    inspected = Inspected(app, "a@here")
    inspected.answers[question]["a@here"] = answer
    finding = worker_findings(app, monkeypatch, inspected)["worker a@here"]
    assert finding.verdict is verdict
    assert re.search(said, finding.found)


def test_a_queue_without_a_worker_is_named(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that are routed to a queue without a worker would wait for ever."""
    app.conf.task_routes = {f"{Words.name}.process": {"queue": "elsewhere"}}
    app.finalize()
    found = worker_findings(app, monkeypatch, Inspected(app, "a@here"))
    assert found["worker a@here"].verdict is Verdict.OK
    assert found["queue elsewhere"].verdict is Verdict.BROKEN
    assert f"{Words.name}.process" in found["queue elsewhere"].found


# The command


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_every_broker_of_a_list_is_checked(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failover broker that is down has its own finding; the findings of the first broker are unchanged."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    app.conf.broker_url = ["memory://first", f"amqp://guest:secret@127.0.0.1:{port}//"]
    monkeypatch.setattr(checkup, "_check_workers", lambda app: iter(()))
    found = {finding.check: finding for finding in check_app(app)}
    assert found["broker"].found.startswith("memory at")
    assert found["broker: reachable (1 of 2)"].verdict is Verdict.OK
    down = found["broker: reachable (2 of 2)"]
    assert down.verdict is Verdict.CHANGE
    assert "refused" in down.found
    assert "secret" not in down.found


def test_brokers_for_reading_and_writing_are_checked(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """If workers read from another broker than callers write to, each of the two must answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    app.conf.broker_read_url = f"amqp://127.0.0.1:{port}//"
    monkeypatch.setattr(checkup, "_check_workers", lambda app: pytest.fail("workers can't answer"))
    found = {finding.check: finding for finding in check_app(app)}
    assert found["broker"].found.startswith("memory at")
    assert found["broker: reachable"].verdict is Verdict.BROKEN


def test_the_command_succeeds_for_a_good_store(tmp_path: Path) -> None:
    """The command can check a store alone, and its status is 0 if nothing is broken."""
    result = command("--store", tmp_path.as_uri())
    assert result.exit_code == 0, result.output
    assert "store: write once" in result.output
    assert "1 of 32 writers won" in result.output


def test_the_command_fails_if_something_is_broken() -> None:
    """The status is 1 if something is broken, and the command prints the remedy."""
    result = command("--store", "ftp://nowhere")
    assert result.exit_code == 1
    assert "broken" in result.output
    assert "→ Use s3://bucket/prefix" in result.output


def test_the_command_prints_json(tmp_path: Path) -> None:
    """With --json the command prints a list of findings with check, found, verdict and remedy."""
    findings = json.loads(command("--store", tmp_path.as_uri(), "--json").output)
    assert findings[0]["verdict"] == "ok"
    assert all(set(finding) == {"check", "found", "verdict", "remedy"} for finding in findings)


def test_the_command_needs_an_app_or_a_store() -> None:
    """Without an app or a store the command fails and names --store."""
    result = command()
    assert result.exit_code == 2
    assert "--store" in result.output


def test_an_app_without_a_store_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing store is a finding, and the doctor still checks the rest of the app."""
    monkeypatch.delenv("FANOUT_STORE", raising=False)
    bare = Celery("bare", broker="memory://bare", set_as_current=False)
    fanout.connect(bare)
    findings = [*check_all(extension_of(bare))]
    assert findings[0].verdict is Verdict.BROKEN
    assert "FANOUT_STORE" in findings[0].found
    assert "result backend" in [finding.check for finding in findings]


def test_lines_fit_the_terminal() -> None:
    """Each line has at most the width of the terminal, and no text is lost."""
    finding = Finding("check", "found " * 40, Verdict.BROKEN, "remedy " * 40)
    lines = [*report_lines([finding], width=80)]
    assert max(map(len, lines)) <= 80
    text = " ".join(lines)
    assert (text.count("found"), text.count("remedy")) == (40, 40)
    assert plain([finding])[0]["verdict"] == "broken"


# The keys

KEY, OTHER = "k" * 43, "K" * 43
"""No secrets: 32 bytes in base64, and long enough for a signature."""


@pytest.mark.parametrize(
    ("settings", "encryption", "signatures"),
    [
        ({}, ("ok", "off: those who may read or write the store"), ("ok", "off: those who may write to the queues")),
        (
            {"encryption_keys": {"new": KEY, "old": OTHER}, "signing_keys": {"a": KEY}},
            ("change this", r"sealed with the key 'new' \(accepted, too: 'old'\); unsealed"),
            ("change this", "signed with the key 'a', and signatures never expire; unsigned"),
        ),
        (
            {
                "encryption_keys": lambda key_id: (key_id or "of-a-function", b"k" * 32),
                "require_encryption": True,
                "signing_keys": {"a": KEY, "b": OTHER},
                "require_signatures": True,
                "signature_max_age_s": 60,
            },
            ("ok", "required; objects are sealed with the key 'of-a-function'$"),
            ("ok", r"required; messages are signed with the key 'a' \(accepted, too: 'b'\), and .* after 60 s"),
        ),
        (
            {"encryption_keys": lambda key_id: ("short", b"k")},
            ("broken", "the key 'short' must be 32 bytes"),
            ("ok", "off"),
        ),
    ],
)
def test_the_doctor_says_what_keys_protect(
    app: Celery, settings: dict[str, Any], encryption: tuple[str, str], signatures: tuple[str, str]
) -> None:
    """It names the ids of keys, says what is accepted without one, and shows no key."""
    made = Celery("keyed", broker=app.conf.broker_url, set_as_current=False)
    fanout.connect(made, store="memory://keyed", **settings)
    findings = {finding.check: finding for finding in check_keys(extension_of(made).config)}
    for check, (verdict, found) in (("encryption", encryption), ("signatures", signatures)):
        assert str(findings[check].verdict) == verdict
        assert re.search(found, findings[check].found)
        assert bool(findings[check].remedy) is (verdict != "ok")
    shown = "".join(report_lines(findings.values()))
    assert KEY not in shown
    assert OTHER not in shown
    made.close()


def test_the_doctor_of_an_app_checks_its_keys(app: Celery) -> None:
    """Both findings are among those of `fanout doctor -A`."""
    checks = [finding.check for finding in check_all(extension_of(app))]
    assert {"encryption", "signatures"} <= set(checks)
