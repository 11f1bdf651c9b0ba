"""The rules under which a process may use obstore, and the limits of a call of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar

from .deadline import CallLimit, is_limited
from .errors import StorageUnavailable
from .waiting import Late, call_within

_T = TypeVar("_T")

LARGE_BYTES: Final = 16 * 2**20
"""Size over which a body has a client without a limit for the whole of a request, and a helper thread waits for it. So
it is with any call under a caller's limit. A small request is made at once: the thread would add a twentieth to its
cost."""

PART_BYTES: Final = 8 * 2**20
"""The size of a part, or about that. An object of more than two parts is uploaded in parts, several at once: one stream
uses neither the whole line nor all processors of a server."""

PARTS_AT_ONCE: Final = 4


class _FirstProcess:
    """The process that made obstore's first request. Its threads live there, and in no child forked from it."""

    def __init__(self) -> None:
        self._process: int | None = None

    def may_ask(self) -> bool:
        process = os.getpid()
        if self._process is None:
            self._process = process
        return self._process == process


_FIRST_PROCESS = _FirstProcess()


def may_ask() -> bool:
    """Return whether obstore may be used here: in a child whose parent used it, it would hang for ever."""
    return _FIRST_PROCESS.may_ask()


def ask(act: Callable[[], _T], doing: str, url: str, size_bytes: int = 0) -> _T:
    """Call obstore: at once where its own limits suffice, and else in a helper thread.

    Args:
        act: Makes the request.
        doing: The request, for the error: "writing 'a/b'".
        url: URL of the store, for the error.
        size_bytes: Size of the body, as far as it is known.

    Raises:
        StorageUnavailable: The limit has passed.
    """
    if size_bytes <= LARGE_BYTES and not is_limited():
        return act()
    return ask_within_limit(act, doing, url, size_bytes)


def ask_within_limit(act: Callable[[], _T], doing: str, url: str, size_bytes: int = 0) -> _T:
    """Call a function in a helper thread, within the limit for a body of this size; see `ask`."""
    limit = CallLimit(size_bytes)
    try:
        return call_within(act, limit)
    except Late:
        timeout_s = limit.deadline.timeout_s
        raise StorageUnavailable(f"{doing} in {url}: no answer within {timeout_s:g} s") from None
