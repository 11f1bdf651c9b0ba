"""A message's signature covers all that a worker acts upon."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.config.settings import Config
from fanout.engines.celery import signing
from fanout.engines.celery.signing import BadSignature, check, describe, sign
from fanout.errors import ConfigError

KEYS = {"new": "n" * 32, "old": "o" * 32}
ARGS, KWARGS = ["job-1", 3], {"launch_id": "abc", "resent": True}
EMBEDDED = {"callbacks": [{"task": "shop.notify", "args": ["x"]}], "errbacks": None, "chain": [], "chord": None}
HEADERS = {
    "id": "job-1",
    "task": "shop.words.setup",
    "expires": "2026-12-01T00:00:00+00:00",
    "timelimit": [None, None],
    "retries": 0,
    "group": None,
    "fanout_message": "m-1",
    "origin": "gen1@host",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


class Request(dict[str, Any]):
    """A request as a worker has it."""

    @property
    def args(self) -> Any:
        return self["args"]

    @property
    def kwargs(self) -> Any:
        return self["kwargs"]


def received(**changes: Any) -> Request:
    """Return the request of a signed message, changed on its way."""
    task, facts = "shop.words.setup", describe(tuple(ARGS), KWARGS, EMBEDDED, HEADERS)
    signature = sign(KEYS, task, facts, at=int(time.time()))
    return Request({**HEADERS, **EMBEDDED, "args": ARGS, "kwargs": KWARGS, "fanout_signature": signature, **changes})


def check_request(task: str, request: Request, config: Config) -> None:
    """Check a request whose task gets the arguments that it names."""
    signing.check_request(task, request, config, args=request.args, kwargs=request.kwargs)


def settings(**changes: Any) -> Config:
    return Config(**{"store": "memory://x", "signing_keys": KEYS, "require_signatures": True, **changes})


def test_a_signed_message_is_accepted() -> None:
    """Tuples become lists on the way, and a header that no worker acts upon may change."""
    check_request("shop.words.setup", received(origin="another", delivery_info={"redelivered": True}), settings())


@pytest.mark.parametrize(
    "change",
    [
        {"args": ["job-2", 3]},
        {"args": [*ARGS, 1]},
        {"kwargs": {**KWARGS, "resent": False}},
        {"kwargs": {"launch_id": "abc", "resent": 1}},
        {"callbacks": [{"task": "shop.refund", "args": ["x"]}]},
        {"errbacks": [{"task": "shop.refund"}]},
        {"chain": [{"task": "shop.refund"}]},
        {"chord": {"task": "shop.refund"}},
        {"expires": "2020-01-01T00:00:00+00:00"},
        {"id": "job-2"},
        {"retries": 9},
        {"group": "g"},
        {"fanout_message": "m-2"},
        {"fanout_overran_s": 3.0},
        {"fanout_store": "s3://theirs"},
        {"reply_to": "their-queue"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_altered_message_is_refused(change: dict[str, Any]) -> None:
    """Arguments, following tasks and the headers that a worker acts upon are covered."""
    with pytest.raises(BadSignature, match="altered"):
        check_request("shop.words.setup", received(**change), settings())


def test_a_message_of_another_task_is_refused() -> None:
    """A signature of one task is none of another."""
    with pytest.raises(BadSignature, match="altered"):
        check_request("shop.words.join", received(), settings())


def test_the_arguments_that_the_task_gets_are_checked() -> None:
    """A forged body can put signed arguments into the request, beside others that the task gets."""
    with pytest.raises(BadSignature, match="altered"):
        signing.check_request("shop.words.setup", received(), settings(), args=["job-2", 3], kwargs=KWARGS)


@pytest.mark.parametrize("value", [None, "", 3, ["x"], "new", "new:1:xyz", f"new:{'9' * 13}:{'0' * 64}", "x" * 100_000])
def test_a_message_without_a_signature_is_refused(value: Any) -> None:
    """Any other value of the header counts as none."""
    with pytest.raises(BadSignature, match="not signed"):
        check_request("shop.words.setup", received(fanout_signature=value), settings())


def test_keys_are_rotated() -> None:
    """A worker accepts all of its keys. A message of a key that was removed is refused, and the key named."""
    older = settings(signing_keys={"newest": "x" * 32, "new": KEYS["new"]})
    check_request("shop.words.setup", received(), older)
    with pytest.raises(BadSignature, match="the key 'new', which is not among"):
        check_request("shop.words.setup", received(), settings(signing_keys={"old": KEYS["old"]}))
    with pytest.raises(BadSignature, match="another secret"):
        check_request("shop.words.setup", received(), settings(signing_keys={"new": "y" * 32}))


@pytest.mark.parametrize("at", [-70, 400])
def test_a_signature_expires(at: int) -> None:
    """With `signature_max_age_s`, an old one is refused, and so is one of the far future."""
    facts = describe(ARGS, KWARGS, EMBEDDED, HEADERS)
    signature = sign(KEYS, "t", facts, at=int(time.time()) + at)
    with pytest.raises(BadSignature, match="signature_max_age_s is 60"):
        check(signature, KEYS, "t", lambda: facts, max_age_s=60.0)
    check(signature, KEYS, "t", lambda: facts, max_age_s=None)


@pytest.mark.parametrize("at", [-50, 0, 200])
def test_clocks_may_differ(at: int) -> None:
    """A sender's clock may be some minutes ahead."""
    facts = describe(ARGS, KWARGS, EMBEDDED, HEADERS)
    check(sign(KEYS, "t", facts, at=int(time.time()) + at), KEYS, "t", lambda: facts, max_age_s=60.0)


def test_without_the_setting_no_message_needs_a_signature() -> None:
    """Keys alone make a process sign, so that all senders can have them before workers require them."""
    check_request("shop.words.setup", received(fanout_signature=None), settings(require_signatures=False))


@given(args=st.lists(JSON, max_size=3), kwargs=st.dictionaries(st.text(), JSON, max_size=3))
def test_any_arguments_are_described_alike_on_both_sides(args: list[Any], kwargs: dict[str, Any]) -> None:
    """Once JSON has carried a message, it is described as before."""
    from kombu.utils import json

    there = json.loads(json.dumps([args, kwargs, EMBEDDED, HEADERS]))
    assert describe(*there) == describe(tuple(args), kwargs, EMBEDDED, HEADERS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"signing_keys": {}}, "needs signing_keys"),
        ({"signing_keys": {"a b": "x" * 32}}, "'a b' is no id"),
        ({"signing_keys": {"a": "hunter2"}}, "the secret of 'a' must be"),
        ({"signing_keys": {"a": 3}}, "the secret of 'a' must be"),
        ({"signature_max_age_s": 0}, "signature_max_age_s"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    """The error names the setting and the key, and no secret."""
    with pytest.raises(ConfigError, match=message) as caught:
        settings(**wrong)
    assert "hunter2" not in str(caught.value)


def test_settings_show_no_secret() -> None:
    """Neither a repr nor the error about a value repeats secrets."""
    assert KEYS["new"] not in repr(settings())
    with pytest.raises(ConfigError) as caught:
        Config.read({"store": "memory://x", "signing_keys": f"{{{KEYS['new']}"})
    assert KEYS["new"] not in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("1", True), ("No", False), ("false", False)])
def test_truths_come_from_the_environment(text: str, expected: bool) -> None:
    """A setting that is true or false is read from text."""
    read = Config.read({"store": "memory://x", "signing_keys": KEYS, "require_signatures": text})
    assert read.require_signatures is expected
    with pytest.raises(ConfigError, match="require_signatures"):
        Config.read({"store": "memory://x", "require_signatures": "maybe"})
