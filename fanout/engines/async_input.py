"""Async iterators as the input of a job: the event loop reads them, and setup takes their elements in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

AHEAD = 16
"""Most elements of a stream that the loop has read and setup has not taken."""

LOOP_CHECK_S = 1.0
"""Seconds between two checks of a waiting setup whether the loop still runs."""


class AsyncInput(Iterator[Any]):
    """The elements of an async iterator, for a thread. The loop begins to read when the thread asks for the first.

    Args:
        source: The async iterator.
        loop: The event loop in which it runs.
    """

    def __init__(self, source: AsyncIterator[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop
        self._elements: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._room = asyncio.Semaphore(AHEAD)
        self._reading: asyncio.Task[None] | None = None
        self._is_begun = False
        self._is_closed = False
        self._end: BaseException | None = None

    def __next__(self) -> Any:
        # A closed input must not look like one that has ended: setup would make a job of half the input.
        if self._end is None and self._is_closed:
            self._end = asyncio.CancelledError()
        if self._end is not None:
            raise self._end
        if not self._is_begun:
            self._is_begun = True
            self._loop.call_soon_threadsafe(self._begin)
        element, error = self._take()
        if error is not None:
            self._end = error
            raise error
        self._loop.call_soon_threadsafe(self._room.release)
        return element

    def close(self) -> None:
        """End the reading. The loop calls this."""
        self._is_closed = True
        if self._reading is not None:
            self._reading.cancel()
        self._elements.put((None, asyncio.CancelledError()))

    def _take(self) -> tuple[Any, BaseException | None]:
        while True:
            try:
                # no limit: the author of the iterator decides how long an element takes
                return self._elements.get(timeout=LOOP_CHECK_S)
            except Empty:
                if not self._loop.is_running():
                    return None, asyncio.CancelledError()

    def _begin(self) -> None:
        if not self._is_closed:
            self._reading = self._loop.create_task(self._read())

    async def _read(self) -> None:
        error: BaseException = StopIteration()
        try:
            async for element in self._source:
                # no limit: setup takes elements as fast as it can, and `close` ends the wait
                await self._room.acquire()
                self._elements.put((element, None))
        except BaseException as raised:
            error = raised
        self._elements.put((None, error))
        if isinstance(self._source, AsyncGenerator):
            await self._source.aclose()


@contextmanager
def stream_async_input(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield values with an iterator in the place of each async iterator. They can be read inside the block.

    The block runs in the event loop, and a thread reads the iterators.

    Args:
        values: The input of a job, by name. Anything else is yielded as it is, for the launch to refuse.
    """
    if not isinstance(values, Mapping):
        yield values
        return
    loop = asyncio.get_running_loop()
    streams = [name for name, value in values.items() if isinstance(value, AsyncIterator)]
    inputs = {name: AsyncInput(values[name], loop) for name in streams}
    try:
        yield {**values, **inputs}
    finally:
        for each in inputs.values():
            each.close()
