"""A message for setup or join that fanout did not send is refused with one short line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import InvalidInput
from fanout.engines.celery import signature_codec
from fanout.engines.celery.messages import JoinMessage, SetupMessage, check_submission

from .tasks import Words

SUBMISSION = {"inline": "gA==", "references": {"documents": "0" * 32}, "options": {"max_attempts": 3}, "receives": None}
LONGEST = 400

T = TypeVar("T")

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20)
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def near(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of mappings that have some of the right names, with any values."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything))


submissions = st.fixed_dictionaries(
    {}, optional={name: st.just(value) | anything for name, value in SUBMISSION.items()}
)


def parsed_or_refusal(parse: Callable[[], T]) -> tuple[T | None, str]:
    """Return the parsed value, or the reason why it is refused. An error other than a ValueError is let through."""
    try:
        return parse(), ""
    except ValueError as error:
        return None, str(error)


@given(
    anything | st.just("job"),
    anything | st.lists(anything, max_size=2),
    anything | near("submission", "generation", "launch_id", "x") | st.fixed_dictionaries({"submission": submissions}),
)
def test_anything_is_a_message_for_setup_or_refused(job_id: Any, args: Any, kwargs: Any) -> None:
    """Any JSON gives a message with fields of the right types, or a ValueError of bounded length."""
    message, refusal = parsed_or_refusal(lambda: SetupMessage.parse(job_id, args, kwargs))
    assert len(refusal) < LONGEST
    if message is not None:
        assert type(message.generation) is int
        assert type(message.received) is tuple
        assert message.job_id == job_id


@given(
    anything | st.lists(st.just("job") | anything, max_size=2),
    anything | near("resent", "generation", "held", "launch_id"),
)
def test_anything_is_a_message_for_join_or_refused(args: Any, kwargs: Any) -> None:
    """Any JSON gives a message for join with fields of the right types, or a ValueError of bounded length."""
    message, refusal = parsed_or_refusal(lambda: JoinMessage.parse(args, kwargs))
    assert len(refusal) < LONGEST
    if message is not None:
        assert type(message.resent) is bool
        assert all(type(token) is str for token in message.held)


@given(anything | submissions)
def test_anything_is_a_submission_or_refused(body: Any) -> None:
    """A submission in a message is decoded, or is an error of the input. No other error is raised."""
    submission, refusal = parsed_or_refusal(lambda: signature_codec.decode(body, Words.declaration))
    assert len(refusal) < LONGEST
    assert submission is None or submission.task is Words.declaration


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), {}, SetupMessage("job")),
        ([], {"generation": 2}, SetupMessage("job", generation=2)),
        ((), {"launch_id": "0a1b"}, SetupMessage("job", launch_id="0a1b")),
        ((), {"submission": SUBMISSION}, SetupMessage("job", submission=SUBMISSION)),
        ([3], {"submission": SUBMISSION}, SetupMessage("job", received=(3,), submission=SUBMISSION)),
    ],
)
def test_setup_messages_that_fanout_sends_are_parsed(args: Any, kwargs: Any, expected: SetupMessage) -> None:
    """Each form that a dispatcher or a signature sends is parsed, also after a way through JSON."""
    assert SetupMessage.parse("job", args, kwargs) == expected
    assert SetupMessage.parse("job", *json.loads(json.dumps([args, kwargs]))) == expected


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, JoinMessage("job")),
        ({"resent": True, "generation": 1}, JoinMessage("job", resent=True, generation=1)),
        ({"held": ["0a", "1b"], "launch_id": "2c"}, JoinMessage("job", held=("0a", "1b"), launch_id="2c")),
    ],
)
def test_join_messages_that_fanout_sends_are_parsed(kwargs: Any, expected: JoinMessage) -> None:
    """Each form that a dispatcher sends to join is parsed, also after a way through JSON."""
    assert JoinMessage.parse(("job",), kwargs) == expected
    assert JoinMessage.parse(["job"], json.loads(json.dumps(kwargs))) == expected


@pytest.mark.parametrize(
    ("job_id", "args", "kwargs", "message"),
    [
        ("../job", (), {}, "job id '../job' is not an id"),
        (None, (), {}, "job id None is not an id"),
        ("job", 3, {}, "arguments: 3 is no list"),
        ("job", (), {"generation": True}, "generation is True, not a number from 0"),
        ("job", (), {"generation": -1}, "generation is -1, not from 0"),
        ("job", (), {"generation": 1.0}, "generation is 1.0, not a number"),
        ("job", (), {"generation": 10**400}, "generation is a number of 1329 bits"),
        ("job", (3,), {}, "it has 1 arguments, and no submission that receives them"),
        ("job", (), {"generations": 1}, "an argument 'generations', which this version of fanout does not know"),
        ("job", (), {"submission": "submission"}, "submission: 'submission' is no mapping"),
        ("job", (), {"submission": {}}, "submission lacks inline, options, receives, references"),
        ("job", (), {"submission": {**SUBMISSION, "inline": "%%%"}}, "inline is not base64"),
        ("job", (), {"submission": {**SUBMISSION, "inline": "\x00é" * 1000}}, "inline is not base64"),
        (
            "job",
            (),
            {"submission": {**SUBMISSION, "references": {"a": "../../intent"}}},
            r"references\['a'\]: .* not a digest",
        ),
        (
            "job",
            (),
            {"submission": {**SUBMISSION, "options": {"a": []}}},
            r"options\['a'\] is a list of 0, and no plain value",
        ),
        ("job", (), {"submission": {**SUBMISSION, "receives": 3}}, "receives is 3, not the name"),
        ("job", (), {"launch_id": "a/b"}, "launch id 'a/b' is not an id"),
    ],
)
def test_a_wrong_setup_message_is_refused_with_the_part(job_id: Any, args: Any, kwargs: Any, message: str) -> None:
    """Each part of a message is checked, and the error names the part."""
    with pytest.raises(ValueError, match=message):
        SetupMessage.parse(job_id, args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "must be one argument, the job's id, and not 0"),
        (("job", "job"), {}, "and not 2"),
        ((3,), {}, "job id 3 is not an id"),
        (("job",), {"resent": 1}, "resent is 1, not true or false"),
        (("job",), {"held": 3}, "held: 3 is no list"),
        (("job",), {"held": [3]}, "held 3 is not an id"),
        (("job",), {"held": ["a"] * 65}, "held names 65 runs, more than 64"),
        (("job",), {"submission": SUBMISSION}, "an argument 'submission', which"),
    ],
)
def test_a_wrong_join_message_is_refused_with_the_part(args: Any, kwargs: Any, message: str) -> None:
    """Each part of a message for join is checked, and the error names the part."""
    with pytest.raises(ValueError, match=message):
        JoinMessage.parse(args, kwargs)


def test_an_error_quotes_only_the_start_of_a_large_value() -> None:
    """A payload of megabytes leaves a short line in the log. The whole payload is not formatted for that line."""
    with pytest.raises(ValueError, match="submission: 'xxx") as raised:
        check_submission("x" * 10_000_000)
    assert len(str(raised.value)) < LONGEST
    with pytest.raises(InvalidInput, match="compression must be one of") as refused:
        signature_codec.decode({**SUBMISSION, "options": {"compression": "x" * 10_000_000}}, Words.declaration)
    assert len(str(refused.value)) < LONGEST + 100
