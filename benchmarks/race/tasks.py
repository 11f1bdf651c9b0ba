"""The works as tasks of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import fanout

from .works import WORKS, cut


class Whole(fanout.ForkJoinTask):
    """A work on one list, which setup cuts into parts: an item is a part."""

    name = "bench.whole"
    input_schema = {
        "work": {"type": "string", "required": True},
        "whole": {"type": "list", "required": True},
        "chunks": {"type": "integer", "required": True},
    }

    @staticmethod
    def setup(whole: list[Any], chunks: int) -> list[dict[str, Any]]:
        return [{"part": part} for part in cut(whole, chunks)]

    @staticmethod
    def process(part: list[Any], work: str) -> Any:
        return WORKS[work].step(part)

    @staticmethod
    def join(results: Iterable[Any], work: str) -> Any:
        return WORKS[work].total(results)


class Parts(fanout.ForkJoinTask):
    """The same, of parts that the caller streams: setup runs there, and each part is on its way at once."""

    name = "bench.parts"
    input_schema = {"work": {"type": "string", "required": True}, "parts": {"type": "list", "required": True}}

    @staticmethod
    def setup(parts: Iterable[list[Any]]) -> Iterator[dict[str, Any]]:
        return ({"part": part} for part in parts)

    @staticmethod
    def process(part: list[Any], work: str) -> Any:
        return WORKS[work].step(part)

    @staticmethod
    def join(results: Iterable[Any], work: str) -> Any:
        return WORKS[work].total(results)


class Items(fanout.ForkJoinTask):
    """A work item by item, cut as fanout sees fit."""

    name = "bench.items"
    input_schema = {"items": {"type": "list", "required": True}}

    @staticmethod
    def setup(items: Iterable[str]) -> Iterator[dict[str, Any]]:
        return ({"item": item} for item in items)

    @staticmethod
    def process(item: str) -> int:
        return int(item)

    @staticmethod
    def join(results: Iterable[int]) -> int:
        return sum(results)
