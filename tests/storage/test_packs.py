"""Packs keep the order of their chunks, bound their memory, and report only durable slices."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import (
    Body,
    Content,
    CorruptObject,
    CountingStore,
    MemoryStore,
    ObjectNotFound,
    PackReader,
    PackWriter,
    Slice,
    StorageUnavailable,
    checksum,
    remaining_s,
    within,
)
from storage.packs import _Buffers
from tests.stores import ScriptedStore


def key(pack: int) -> str:
    return f"packs/{pack:06d}"


def uploading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pack-upload")]


class GatedStore(MemoryStore):
    """A store whose puts wait until the test lets each of them end."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._ended: set[str] = set()
        self.begun: list[str] = []
        self.failing: set[str] = set()
        self.on_put: Callable[[], None] = lambda: None

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        with self._changed:
            self.on_put()
            self.begun.append(key)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: key in self._ended, timeout=30)
        if key in self.failing:
            raise StorageUnavailable(f"no room for {key}", key=key)
        super().put(key, body, if_absent=if_absent)

    def let_end(self, *packs: int) -> None:
        with self._changed:
            self._ended |= {key(pack) for pack in packs}
            self._changed.notify_all()

    def wait_for_begun(self, packs: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= packs, timeout=30)

    def begins(self, packs: int, *, within_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.begun) >= packs, timeout=within_s)


def wait_until_stored(store: MemoryStore, *packs: int) -> None:
    """Wait until these packs are stored, without asking the writer."""
    done = threading.Event()
    while not {key(pack) for pack in packs} <= {info.key for info in store.list()}:
        done.wait(0.001)


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=40), max_size=40), st.integers(1, 100), st.integers(1, 5), st.data())
def test_slices_keep_order(chunks: list[bytes], pack_bytes: int, upload_concurrency: int, data: st.DataObject) -> None:
    """A reader gets every chunk by its slice, in order, wherever the packs were cut or flushed."""
    store = CountingStore(MemoryStore())
    flush_after = data.draw(st.sets(st.integers(0, 40), max_size=5))
    with PackWriter(store, key, pack_bytes=pack_bytes, upload_concurrency=upload_concurrency) as writer:
        slices: list[Slice] = []
        for position, chunk in enumerate(chunks):
            writer.append(chunk)
            if position in flush_after:
                writer.flush()
            slices += writer.stored()
        slices += writer.close()
    assert store.requests["put"] == (slices[-1].pack + 1 if slices else 0)
    assert [PackReader(store).read(key(location.pack), location) for location in slices] == chunks
    assert [(location.pack, location.offset) for location in slices] == sorted(
        (location.pack, location.offset) for location in slices
    )


def test_a_pack_is_no_larger_than_its_limit() -> None:
    """A chunk that would exceed the pack begins the next one. Only a chunk larger than a pack makes a larger pack."""
    store = MemoryStore()
    writer = PackWriter(store, key, pack_bytes=10)
    for length in (4, 4, 4, 25, 10, 1):
        writer.append(b"x" * length)
    slices = writer.close()
    assert [(location.pack, location.offset, location.length) for location in slices] == [
        (0, 0, 4),
        (0, 4, 4),
        (1, 0, 4),
        (2, 0, 25),
        (3, 0, 10),
        (4, 0, 1),
    ]
    assert [info.size for info in store.list()] == [8, 4, 25, 10, 1]


def test_order_survives_uploads_that_end_out_of_order() -> None:
    """A slice is returned only when every earlier one is durable, in whatever order the uploads end."""
    store = GatedStore()
    with PackWriter(store, key, pack_bytes=1, upload_concurrency=3) as writer:
        for chunk in (b"a", b"b", b"c"):
            writer.append(chunk)
        store.wait_for_begun(3)
        store.let_end(1, 2)
        wait_until_stored(store, 1, 2)
        assert writer.stored() == []
        store.let_end(0)
        assert [location.pack for location in writer.close()] == [0, 1, 2]
        assert writer.stored() == []
        assert writer.close() == []
    assert uploading_threads() == []


def test_memory_is_bounded_while_uploads_are_slow() -> None:
    """Chunks that are not yet durable never exceed (uploads + 1) packs and a chunk."""
    store = GatedStore()
    appended = 0
    waiting: list[int] = []

    def observe() -> None:
        waiting.append(appended - sum(info.size for info in store.list()))

    store.on_put = observe

    def produce() -> None:
        nonlocal appended
        with PackWriter(store, key, pack_bytes=100, upload_concurrency=3) as writer:
            for _ in range(200):
                appended += 30
                writer.append(b"x" * 30)

    producer = threading.Thread(target=produce)
    producer.start()
    for pack in range(200 // 3 + 1):
        store.wait_for_begun(pack + 1)
        observe()
        store.let_end(pack)
    producer.join(30)
    assert not producer.is_alive()
    assert sum(info.size for info in store.list()) == 6000
    assert max(waiting) <= 100 * (3 + 1) + 30


def test_a_failed_upload_is_raised_by_every_later_call() -> None:
    """append, flush, stored and close all raise the error of an upload that failed, and go on raising it."""
    store = GatedStore()
    store.failing = {key(0)}
    writer = PackWriter(store, key, pack_bytes=1, upload_concurrency=1)
    writer.append(b"a")
    store.let_end(0, 1)
    with pytest.raises(StorageUnavailable, match="no room"):
        writer.append(b"b")
    for use in (writer.stored, lambda: writer.append(b"c"), writer.close):
        with pytest.raises(StorageUnavailable, match="no room") as caught:
            use()
        assert caught.value.key == key(0)
    assert uploading_threads() == []


def test_close_raises_the_error_of_the_last_upload() -> None:
    """A writer whose last pack cannot be stored raises in close, and its threads end."""
    store = GatedStore()
    store.failing = {key(0)}
    store.let_end(0)

    def write() -> None:
        with PackWriter(store, key) as writer:
            writer.append(b"a")

    with pytest.raises(StorageUnavailable):
        write()
    assert uploading_threads() == []


def test_a_failing_block_leaves_no_thread_behind() -> None:
    """When the block raises, the writer waits for begun uploads and drops the rest. The block's error is raised."""
    store = GatedStore()
    store.let_end(0)

    def write() -> None:
        with PackWriter(store, key, pack_bytes=1, upload_concurrency=2) as writer:
            writer.append(b"a")
            raise KeyError("from the block")

    with pytest.raises(KeyError, match="from the block"):
        write()
    assert [info.key for info in store.list()] == [key(0)]
    assert uploading_threads() == []


def test_a_block_that_ends_well_closes_the_writer() -> None:
    """The end of the block uploads the rest, and stored() returns the slices that close() would have returned."""
    store = MemoryStore()
    with PackWriter(store, key) as writer:
        writer.append(b"abc")
    assert writer.stored() == [Slice(0, 0, 3, checksum(b"abc"))]
    assert writer.stored() == []
    with pytest.raises(ValueError, match="closed"):
        writer.append(b"d")


def test_a_writer_without_chunks_stores_nothing() -> None:
    """A writer without chunks makes no request, and an empty chunk is a chunk."""
    store = CountingStore(MemoryStore())
    with PackWriter(store, key) as writer:
        writer.flush()
        assert writer.close() == []
    assert store.requests == {}
    with PackWriter(store, key) as writer:
        writer.append(b"")
        (location,) = writer.close()
    assert PackReader(store).read(key(0), location) == b""


@pytest.mark.parametrize("sizes", [{"pack_bytes": 0}, {"upload_concurrency": 0}])
def test_sizes_must_be_positive(sizes: dict[str, int]) -> None:
    """A pack of no bytes or no uploads at all is refused at once."""
    with pytest.raises(ValueError, match="positive"):
        PackWriter(MemoryStore(), key, **sizes)


def test_reading_a_slice_is_one_verified_request() -> None:
    """Reading makes one ranged get, and finds a changed, shortened or missing pack."""
    store = CountingStore(MemoryStore())
    store.put(key(0), b"aaabbbccc")
    location = Slice(0, 3, 3, checksum(b"bbb"))
    store.reset()
    assert PackReader(store).read(key(0), location) == b"bbb"
    assert (store.requests, store.bytes_out) == ({"get": 1}, 6)
    store.put(key(0), b"aaabXbccc")
    with pytest.raises(CorruptObject, match=r"bytes 3 to 6 of 'packs/000000' .*digest") as caught:
        PackReader(store).read(key(0), location)
    assert caught.value.key == key(0)
    store.put(key(0), b"aaab")
    with pytest.raises(CorruptObject, match="1 of 3 bytes"):
        PackReader(store).read(key(0), location)
    with pytest.raises(ObjectNotFound):
        PackReader(store).read(key(1), location)


def test_small_slices_are_read_together() -> None:
    """A reader of many small chunks reads 64 KiB of them at once, and a large one exactly."""
    store = CountingStore(MemoryStore())
    with PackWriter(store, key) as writer:
        for size in [10] * 5000 + [100_000]:
            writer.append(b"x" * size)
        slices = writer.close()
    store.reset()
    reader = PackReader(store)
    for location in slices[:5000]:
        reader.read(key(0), location)
    assert (store.requests["get"], store.bytes_out) == (1, 64 * 1024)
    reader.read(key(0), slices[5000])
    assert (store.requests["get"], store.bytes_out) == (2, 64 * 1024 + 100_000)


def test_a_read_that_was_begun_is_not_repeated() -> None:
    """A reader waits for the request that was begun for a small slice; other slices make requests of their own."""
    store = CountingStore(MemoryStore())
    with PackWriter(store, key) as writer:
        for size in (10, 100_000, 10):
            writer.append(b"x" * size)
        first, large, last = writer.close()
    store.reset()
    with ThreadPoolExecutor(1) as pool:

        def begin(request: Callable[[], Content]) -> Callable[[], Content]:
            return pool.submit(request).result

        reader = PackReader(store)
        reader.begin(key(0), first, begin)
        assert bytes(reader.read(key(0), first)) == b"x" * 10
        assert store.requests["get"] == 1
        reader.begin(key(0), large, begin)
        reader.begin(key(1), first, begin)
        assert bytes(reader.read(key(0), last)) == b"x" * 10
        # The pack that is missing is the business of its own slice.
        with pytest.raises(ObjectNotFound):
            reader.read(key(1), first)
    assert store.requests["get"] == 3


def test_damaged_read_ahead_is_read_again() -> None:
    """A reader discards damaged read-ahead bytes, and its next read asks the store again."""
    store = MemoryStore()
    reader = PackReader(store)
    location = Slice(0, 0, 3, checksum(b"abc"))
    store.put(key(0), b"abX")
    with pytest.raises(CorruptObject):
        reader.read(key(0), location)
    store.put(key(0), b"abc")
    assert reader.read(key(0), location) == b"abc"


def test_first_bytes_makes_the_first_pack_small() -> None:
    """With `first_bytes` the first chunks are durable early, and later packs are as large as without."""
    writer = PackWriter(MemoryStore(), key, pack_bytes=40, first_bytes=10)
    for _ in range(16):
        writer.append(b"x" * 10)
    sizes = Counter(location.pack for location in writer.close())
    assert [sizes[pack] for pack in sorted(sizes)] == [1, 2, 4, 4, 4, 1]


def test_a_small_first_pack_is_uploaded_alone() -> None:
    """No other upload begins until the first pack is durable; then as many run as are allowed."""
    store = GatedStore()
    begun: list[list[str]] = []

    def produce() -> None:
        with PackWriter(store, key, pack_bytes=1, first_bytes=1, upload_concurrency=3) as writer:
            for chunk in (b"a", b"b", b"c", b"d"):
                writer.append(chunk)

    producer = threading.Thread(target=produce)
    producer.start()
    store.wait_for_begun(1)
    assert not store.begins(2, within_s=0.05)
    begun.append(list(store.begun))
    store.let_end(0)
    store.wait_for_begun(4)
    # The threads of a pool begin in any order.
    begun.append(sorted(store.begun))
    store.let_end(1, 2, 3)
    producer.join(30)
    assert not producer.is_alive()
    assert begun == [[key(0)], [key(pack) for pack in range(4)]]


def test_buffers_are_used_again() -> None:
    """A writer uses at most one buffer per upload, and one that it fills, for any number of packs."""
    store = MemoryStore()
    with PackWriter(store, key, pack_bytes=100, upload_concurrency=2) as writer:
        seen: set[int] = set()
        for _ in range(300):
            writer.append(b"x" * 40)
            seen.add(id(writer._buffer))
    assert len(seen - {id(None)}) <= 3


def test_a_buffer_whose_upload_failed_is_not_used_again() -> None:
    """A buffer of a failed upload is dropped: a client without an answer may still be sending it."""
    buffers = _Buffers(100)
    fates: list[Future[None]] = [Future() for _ in range(3)]
    taken = [buffers.take() for _ in fates]
    for buffer, fate in zip(taken, fates, strict=True):
        buffers.release(buffer, after=fate)
    fates[0].set_exception(StorageUnavailable("no answer"))
    fates[1].set_result(None)
    again = [buffers.take() for _ in range(2)]
    assert again[0] is taken[1]
    assert again[1] not in taken


def test_uploads_keep_the_limit_of_the_caller() -> None:
    """The threads that upload have the limit of the caller that appends."""
    left: list[float | None] = []
    store = ScriptedStore()
    store.before = lambda verb, key: left.append(remaining_s())
    with within(50), PackWriter(store, key, pack_bytes=10) as writer:
        writer.append(b"x" * 20)
    assert [limit is not None and 0 < limit <= 50 for limit in left] == [True]


def test_a_chunk_as_large_as_a_pack_is_not_copied() -> None:
    """Bytes as large as a pack are uploaded as they are; a view, which its owner may overwrite, is copied."""
    store = MemoryStore()
    large = b"x" * 100
    with PackWriter(store, key, pack_bytes=100) as writer:
        for chunk in (b"small", large, large, memoryview(large)):
            writer.append(chunk)
    # This store keeps and returns the bytes that it was given.
    bodies = [store.get(key(pack)) for pack in range(4)]
    assert [body is large for body in bodies] == [False, True, True, False]
    assert bodies[1:] == [large] * 3
