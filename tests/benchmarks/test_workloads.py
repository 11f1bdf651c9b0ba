"""Every work has one right answer, however it is cut, and another one is noticed."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from benchmarks.comparisons import COMPARISONS, MB
from benchmarks.contenders import CONTENDERS
from benchmarks.text import LONGEST_LINE_BYTES, OBJECTS, text_lines, upload_text
from benchmarks.workloads import WORKS, Workload, cut, documents, serial_count, shuffled_documents, tail_waits
from storage import open_store


@pytest.mark.parametrize("name", list(WORKS))
def test_a_work_done_in_parts_gives_the_expected_answer(name: str) -> None:
    """The total over parts, whatever their number, is accepted, and another answer is not."""
    work = WORKS[name]
    workload = work.tiny if name != "wait" else Workload("wait", chunks=3, items=3)
    whole = work.whole(workload)
    for number in [workload.chunks] if name == "empty" else [1, 2, workload.chunks, len(whole)]:
        answer = work.total(map(work.step, cut(whole, number)))
        assert workload.accepts(answer)
        assert not workload.accepts(answer * 2)


@pytest.mark.parametrize(("items", "chunks"), [(0, 2), (1, 7), (7, 2), (64, 7)])
def test_parts_rejoin(items: int, chunks: int) -> None:
    """Parts have all items in order, and differ in length by at most one."""
    parts = cut(range(items), chunks)
    assert [*chain(*parts)] == [*range(items)]
    assert len(parts) == chunks
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_documents_have_the_size_asked_for_and_compress_as_text_does() -> None:
    """Shuffled or not, the documents have the size and the words of the serial count; shuffled, zstd finds a third."""
    zstd = pytest.importorskip("backports.zstd")
    workload = Workload("words", chunks=1, size_bytes=MB)
    shuffled = shuffled_documents(workload)
    for texts in (list(documents(MB)), shuffled):
        assert sum(map(len, texts)) == MB
        assert WORKS["words"].step(texts) == serial_count(workload)
    assert 2.5 < MB / len(zstd.compress("".join(shuffled).encode())) < 4


def test_an_uploaded_text_has_the_lines_of_its_workload(tmp_path: Path) -> None:
    """The objects of a text, in their order, have its lines, each whole in one object."""
    upload_text(tmp_path.as_uri(), 10 * MB)
    store = open_store(tmp_path.as_uri())
    bodies = [bytes(store.get(info.key)) for info in store.list()]
    assert len(bodies) == OBJECTS
    assert sum(map(len, bodies)) == 10 * MB
    assert all(body.endswith(b"\n") for body in bodies)
    lines = b"".join(bodies).decode().splitlines()
    assert lines == text_lines(10 * MB)
    assert max(map(len, lines)) < LONGEST_LINE_BYTES


@pytest.mark.parametrize("name", ["serial", "pool", "threads"])
@pytest.mark.parametrize("work", ["words", "digits"])
def test_pools_give_the_right_answer(name: str, work: str) -> None:
    """Plain Python, processes and threads give the expected answer, again and again."""
    workload = WORKS[work].tiny
    with CONTENDERS[name].open() as prepare:
        job = prepare(workload)
        assert workload.accepts(job(30))
        assert workload.accepts(job(30))


@pytest.mark.parametrize("name", list(COMPARISONS))
def test_comparisons_name_contenders_and_works_that_there_are(name: str) -> None:
    """Each comparison can be run: its contenders and works are known, and quick means less."""
    quick, full = (COMPARISONS[name](quick=quick) for quick in (True, False))
    for contender, workload in (*quick.cases, *full.cases):
        assert contender in CONTENDERS
        assert workload.work in {*WORKS, "upload", "download"}
    sizes = [sum(workload.size for _, workload in one.cases) * one.repeat * one.runs for one in (quick, full)]
    assert sizes[0] < sizes[1]
    assert len(set(full.cases)) == len(full.cases)
    assert {contender for contender, _ in full.select(["fanout"]).cases} <= {"fanout"}


def test_memory_has_a_session_for_each_case_and_the_contenders_take_turns() -> None:
    """At each size all contenders follow each other; elsewhere a contender's session has all its workloads."""
    memory = COMPARISONS["memory"](quick=False, sizes=[MB], chunks=[8])
    assert [len(workloads) for _, workloads in memory.sessions] == [1] * 18
    assert len({name for name, _ in memory.sessions[:9]}) == 9
    assert [len(workloads) for _, workloads in COMPARISONS["overhead"](quick=False).sessions] == [6] * 11


def test_few_items_of_a_tail_take_nearly_all_of_the_time() -> None:
    """One item in a hundred takes a second and the others a millisecond; where they are is the same each time."""
    waits_s = tail_waits(Workload("tail", items=3000))
    assert (waits_s.count(1.0), waits_s.count(0.001)) == (30, 2970)
    assert tail_waits(Workload("tail", items=3000, threads=8)) == waits_s


def test_a_session_has_one_number_of_threads_and_the_sizes_take_turns() -> None:
    """On each number of threads all contenders of `tail` follow each other, each in a session of its own."""
    sessions = COMPARISONS["tail"](quick=False).sessions
    threads = [{workload.threads for workload in workloads} for _, workloads in sessions]
    assert threads == [{2}] * 5 + [{8}] * 5 + [{32}] * 5
    assert [name for name, _ in sessions[:5]] == [name for name, _ in sessions[5:10]]
    assert len({name for name, _ in sessions[:5]}) == 5


def test_chunks_of_a_stream_keep_their_size() -> None:
    """Ten times the input has ten times the chunks, of the same number of documents."""
    one, _, ten, _ = (workload for _, workload in COMPARISONS["scale"](quick=False, sizes=[10**9, 10**10]).cases)
    assert (one.chunks, ten.chunks) == (256, 2560)
    assert (one.chunk_documents, one.document_bytes) == (ten.chunk_documents, ten.document_bytes) == (4, 976_562)
