"""A key is a pure function of checked parts, and never the key of another job's object."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.records.ids import check_id, new_id, new_token
from fanout.records.keys import (
    GROUP_WIDTH,
    JobKeys,
    ResultKey,
    RunKey,
    combine_step,
    job_prefix,
    level_of,
    parameter_key,
    process_step,
)
from storage import check_key
from storage.s3.obstore_store import is_plain

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True).filter(lambda text: ".." not in text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/b",
        "../a",
        "a..b",
        ".",
        "..",
        "-a",
        "_params",
        ".a",
        "a" * 129,
        "a\n",
        "a b",
        "ä",
        "\x00",
        3,
        None,
        b"a",
        ["a"],
    ],
)
def test_an_invalid_id_is_refused(text: object) -> None:
    """An id cannot change the other parts of a key. The error names the kind of id."""
    with pytest.raises(ValueError, match="job id"):
        check_id(text, what="job id")
    with pytest.raises(ValueError, match="job id"):
        JobKeys(text, "launch")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "ab", "../" + "a" * 29, "A" * 32, "g" * 32, "a" * 33, "a" * 32 + "\n"])
def test_an_invalid_digest_is_refused(text: str) -> None:
    """A parameter's key is made of a digest and of nothing else."""
    with pytest.raises(ValueError, match="digest"):
        parameter_key(text)


@given(job=IDS, setup_id=IDS, number=st.integers(0, 10**9), digest=st.from_regex(r"[0-9a-f]{32}", fullmatch=True))
def test_every_key_is_under_its_job(job: str, setup_id: str, number: int, digest: str) -> None:
    """All keys of a job are valid, distinct, under the job's prefix, and such that obstore makes the request."""
    keys = JobKeys(job, "launch")
    steps = ("setup", "join", process_step(setup_id, number), combine_step(setup_id, 1, number))
    made = [
        keys.intent,
        keys.continuation,
        keys.manifest,
        keys.claim(number),
        keys.claim_interrupted(number),
        keys.outcome,
        keys.delivered,
        keys.value(digest),
        keys.resend(number),
        *(keys.heartbeat(name) for name in steps),
        keys.pack(setup_id, number),
        keys.index(setup_id, number),
        keys.result(setup_id, number),
        keys.bad_result(setup_id, number, 3),
        keys.node(setup_id, 1, number),
        keys.node(setup_id, 2, number),
        keys.bad_node(setup_id, 1, number, 3),
        keys.batch_result(setup_id, number, 32),
        keys.batch_result(setup_id, number, 2),
        keys.share_marker(setup_id, number, 2, 1),
        *(keys.attempt(name, number) for name in steps),
        *(keys.interrupted(name, number) for name in steps),
    ]
    assert len(set(made)) == len(made)
    for key in made:
        assert check_key(key).startswith(keys.prefix if key != keys.intent else job_prefix(job))
        assert is_plain(key)
        assert PurePosixPath(key).parts[:2] == ("_jobs", job)


@given(setup_id=IDS, chunk=st.integers(0, 10**7))
def test_a_result_is_in_its_group(setup_id: str, chunk: int) -> None:
    """The listing of a chunk's group finds its result, and the key of the result has the chunk's index."""
    keys = JobKeys("job", "launch")
    assert keys.result(setup_id, chunk).startswith(keys.result_group(setup_id, chunk // GROUP_WIDTH))
    assert ResultKey.read(keys.result(setup_id, chunk)) == ResultKey(chunk)


@given(setup_id=IDS, number=st.integers(1, 10**4))
def test_an_attempt_can_be_read_from_its_key(setup_id: str, number: int) -> None:
    """The keys of both records of an attempt have its number, and show whether it was interrupted."""
    keys, step = JobKeys("job", "launch"), process_step(setup_id, 7)
    assert RunKey.read(keys.attempt(step, number)) == RunKey(number, interrupted=False)
    assert RunKey.read(keys.interrupted(step, number)) == RunKey(number, interrupted=True)


@given(setup_id=IDS, level=st.integers(1, 5), node=st.integers(0, 10**7), failed=st.integers(1, 999))
def test_a_node_is_in_its_group(setup_id: str, level: int, node: int, failed: int) -> None:
    """The listing of a node's group finds the node. Its key has level, index and the number of failed items."""
    keys = JobKeys("job", "launch", 2)
    group = keys.node_group(setup_id, level, node // GROUP_WIDTH)
    good, bad = keys.node(setup_id, level, node), keys.bad_node(setup_id, level, node, failed)
    assert good.startswith(group)
    assert bad.startswith(good)
    assert level_of(good) == level_of(bad) == level
    assert ResultKey.read(good) == ResultKey(node)
    assert ResultKey.read(bad) == ResultKey(node, failed=failed, generation=2)


@given(setup_id=IDS, chunk=st.integers(0, 10**7), count=st.integers(2, GROUP_WIDTH), done=st.integers(0, GROUP_WIDTH))
def test_a_batch_can_be_read_from_its_keys(setup_id: str, chunk: int, count: int, done: int) -> None:
    """The keys of a batch's object and of its marker have its first chunk and its number of chunks.

    They are in the group of the chunk, the object directly before the marker.
    """
    keys = JobKeys("job", "launch")
    batch, marker = keys.batch_result(setup_id, chunk, count), keys.share_marker(setup_id, chunk, count, done)
    assert ResultKey.read(batch) == ResultKey(chunk, count)
    assert ResultKey.read(marker) == ResultKey(chunk, count, shared=done)
    assert batch.startswith(keys.result_group(setup_id, chunk // GROUP_WIDTH))
    others = [keys.batch_result(setup_id, chunk, other) for other in range(2, GROUP_WIDTH + 1) if other != count]
    assert batch < marker
    assert not [other for other in others if batch < other < marker]


@given(chunk=st.integers(0, 10**7), count=st.integers(2, GROUP_WIDTH))
def test_a_listing_can_begin_with_a_chunk(chunk: int, count: int) -> None:
    """Keys of results of the chunk and the chunks after it follow the key to begin after; those before it do not."""
    keys = JobKeys("job", "launch", 1)
    after = keys.before_result("x", chunk)
    for first in (chunk, chunk + 1, chunk + GROUP_WIDTH):
        for key in (keys.result("x", first), keys.bad_result("x", first, 3), keys.batch_result("x", first, count)):
            assert key > after
    for first in {max(chunk - 1, 0), chunk // GROUP_WIDTH * GROUP_WIDTH} - {chunk}:
        for key in (keys.result("x", first), keys.bad_result("x", first, 3), keys.share_marker("x", first, count, 1)):
            assert key < after


@given(first=st.integers(0, 10**7), second=st.integers(0, 10**7))
def test_results_are_listed_in_order(first: int, second: int) -> None:
    """The order of keys is the order of chunks."""
    keys = JobKeys("job", "launch")
    assert (keys.result("x", first) < keys.result("x", second)) == (first < second)


@given(setup_id=IDS, other=IDS)
def test_prefixes_of_one_setup_match_no_key_of_another(setup_id: str, other: str) -> None:
    """No prefix of one setup id matches the keys of another."""
    keys = JobKeys("job", "launch")
    if setup_id != other:
        assert not keys.result(other, 1).startswith(keys.results(setup_id))
        assert not keys.node(other, 1, 1).startswith(keys.nodes(setup_id))
        assert not keys.pack(other, 1).startswith(keys.packs(setup_id))


def test_new_ids_are_valid_and_differ() -> None:
    """New ids and tokens are valid in keys and do not repeat."""
    made = [make() for make in (new_id, new_token) for _ in range(100)]
    assert len({check_id(text, what="id") for text in made}) == 200
