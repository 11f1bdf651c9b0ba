"""The checks of `fanout doctor`: the store, the keys, and Celery in its engine; `lines` prints the findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from storage import Finding, ObjectStore, StorageError, Verdict, open_examination, open_store

from ..config.settings import Config
from ..errors import ConfigError
from .keys import check_keys
from .lines import plain, report_lines
from .store import check_store, report_error

if TYPE_CHECKING:
    from ..engines.celery import Extension

__all__ = ["check_all", "check_store", "plain", "report_lines"]


def check_all(
    extension: Extension | None, *, store_url: str | None = None, endpoints: Sequence[str] = ()
) -> Iterator[Finding]:
    """Check a store and a Celery app, and yield each finding as it comes.

    Args:
        extension: The connected app; None to check the store alone.
        store_url: The store; None for the app's own.
        endpoints: URLs of servers by which the store is reached; empty for the one of the environment.
    """
    try:
        base = extension.config if extension is not None else Config(store=store_url or "")
    except ConfigError as error:
        base = Config(store=store_url or "")
        if store_url is None:
            yield Finding("store", str(error), Verdict.BROKEN, "Name a store.")
    url = store_url or base.store
    if url:
        try:
            stores: list[ObjectStore] = [open_store(url, endpoint=each) for each in endpoints or ("",)]
            examination = open_examination(url, endpoint=endpoints[0] if endpoints else "")
        except StorageError as error:
            yield report_error("store", error)
        else:
            yield from check_store(stores[0], stall_s=base.stall_s, examination=examination, peers=stores[1:])
    if extension is not None:
        yield from check_keys(base)
        from ..engines.celery import check_app

        yield from check_app(extension.app)
