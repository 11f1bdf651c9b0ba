"""Ways to do a work, one small module for each library. A module is imported where its contender runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ..workloads import Workload

Job = Callable[[float], Any]
"""Does the work within so many seconds, and returns the answer, or it as `Measured`."""
Prepare = Callable[[Workload], Job]
"""Makes what the caller has before the clock starts, and returns what is timed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An answer with figures that the contender measured itself.

    Attributes:
        answer: The answer.
        find: Finds the figures by name, after the clock has stopped.
    """

    answer: Any
    find: Callable[[], dict[str, float]]


CONTENDER = "FANOUT_BENCH_CONTENDER"
"""Environment variable that names the contender."""
QUEUES = "FANOUT_BENCH_QUEUES"
"""Environment variable that is set where each step has a queue of its own."""

PROCESSES = 2
"""Worker processes of each contender."""
THREADS = 32
"""Worker threads of each contender of `shape`."""
CHUNK_ITEMS = {1: "#E69F00", 4: "#CC79A7", 16: "#7A5195", 64: "#888888"}
"""Hand-chosen sizes of chunks, and the colour of each."""
BATCH_ITEMS = 1000
"""Items in a task of every contender but fanout, for work that is given item by item."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to do a work.

    Attributes:
        name: Its name.
        label: Its name in tables and pictures; at most 22 characters.
        module: The module of this package that runs it.
        colour, marker: Its looks in pictures.
        broker: The broker of its Celery workers: `rabbitmq` or `redis`; it has no workers if empty.
        store: Where its objects lie: on the `s3` server or in a `file` directory; it has none if empty.
        package: A package that it needs beyond the dependency group `bench`.
        store_options: Added to the URL of an `s3` store.
        chunk_items: Items in a chunk of fanout's, for work that is given item by item; None for fanout's own choice.
        settings: Settings of its Celery app.
        broker_settings: Lines of `rabbitmq.conf` beyond those of all contenders.
    """

    name: str
    label: str
    module: str
    colour: str
    marker: str = "o"
    broker: str = ""
    store: str = ""
    package: str | None = None
    store_options: str = ""
    chunk_items: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    broker_settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """Why it can't take part; empty if it can."""
        if self.package is None or find_spec(self.package) is not None:
            return ""
        return f"{self.package} is not installed: pip install --group compare"

    def open(self) -> AbstractContextManager[Prepare]:
        """Start what it needs in the caller's process, for as long as the context lasts."""
        made: AbstractContextManager[Prepare] = import_module(f".{self.module}", __name__).start(self.name)
        return made


# Okabe and Ito's colours, which colour-blind people can tell apart.
_ORANGE, _SKY, _GREEN, _BLUE, _RED, _PINK = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
_VIOLET, _GREY, _DARK, _BROWN = "#7A5195", "#888888", "#444444", "#8C564B"

_KEY = "k" * 43
"""No secret: it seals and signs what benchmarks make."""
_SIGNED = {"fanout_signing_keys": {"bench": _KEY}, "fanout_require_signatures": True}
_SEALED = {"fanout_encryption_keys": {"bench": _KEY}, "fanout_require_encryption": True}


def _canvas(
    name: str, label: str, colour: str, marker: str = "o", *, broker: str = "rabbitmq", **more: Any
) -> Contender:
    return Contender(name, label, "canvas", colour, marker, broker=broker, **more)


def _fanout(name: str, label: str, colour: str, marker: str, *, store: str = "s3", **more: Any) -> Contender:
    return Contender(name, label, "with_fanout", colour, marker, broker="rabbitmq", store=store, **more)


CONTENDERS = {
    contender.name: contender
    for contender in (
        _canvas("canvas", "bare Canvas", _RED),
        _canvas("canvas-zstd", "Canvas, zstd", _ORANGE, "P", settings={"task_compression": "zstd"}),
        _canvas("canvas-16mib", "Canvas, 16 MiB limit", _BROWN, "X", broker_settings={"max_message_size": "16777216"}),
        _canvas("canvas-redis", "Canvas on Redis", _VIOLET, "v", broker="redis"),
        _canvas("canvas-keys", "Canvas, keys by hand", _DARK, "x", store="s3"),
        _canvas("presliced", "Canvas, sliced by hand", _PINK, "s"),
        _canvas("group", "Celery group", _ORANGE),
        _canvas("chord", "Celery chord on Redis", _RED, "s"),
        _canvas("chunks", "Celery chunks", _RED),
        _fanout("fanout", "fanout", _BLUE, "D"),
        _fanout("streamed", "fanout, streamed", _GREEN, "^"),
        _fanout("fanout-file", "fanout on file://", _SKY, "h", store="file"),
        _fanout("streamed-file", "streamed on file://", _GREY, "h", store="file"),
        _fanout("fanout-signed", "fanout, signed", _PINK, "P", settings=_SIGNED),
        _fanout("fanout-sealed", "fanout, encrypted", _VIOLET, "X", settings=_SEALED),
        _fanout("here", "fanout, caller's setup", _ORANGE, "v"),
        _fanout("stream-caller", "setup in the caller", _BLUE, "D"),
        _fanout("stream-worker", "setup on a worker", _GREEN, "^"),
        *(
            _fanout(f"items-{items}", f"chunk_items={items}", colour, "s", chunk_items=items)
            for items, colour in CHUNK_ITEMS.items()
        ),
        _fanout("fanout-boto3", "fanout with boto3", _SKY, "v", store_options="client=boto3"),
        _fanout("lines", "fanout, sources.lines", _BLUE, "D", package="obstore"),
        _fanout("objects", "fanout, one a part", _BLUE, "D", package="obstore"),
        _fanout("objects-gathered", "fanout, 64 a part", _GREEN, "^", package="obstore"),
        Contender("raw-objects", "obstore alone", "raw_objects", _DARK, "P", package="obstore"),
        _canvas("group-of-keys", "Celery, a key a task", _ORANGE, store="s3"),
        Contender("raw-lines", "obstore alone", "raw_text", _DARK, "P", package="obstore"),
        Contender("dask-bag", "Dask bag", "with_dask", _VIOLET, "*", package="s3fs"),
        Contender("dask-frame", "Dask dataframe", "with_dask", _ORANGE, "*", package="s3fs"),
        Contender("ray-objects", "Ray Data", "with_ray", _PINK, "v", package="ray"),
        Contender("ray-data", "Ray Data", "with_ray", _PINK, "v", package="ray"),
        Contender("lithops-text", "Lithops", "with_lithops", _GREY, "X", store="s3", package="lithops"),
        Contender("serial", "plain Python", "pools", _GREY, "x"),
        Contender("pool", "multiprocessing.Pool", "pools", _DARK, "P"),
        Contender("threads", "threads of one process", "pools", _DARK, "P"),
        Contender("ray", "Ray", "with_ray", _PINK, "v", package="ray"),
        Contender("dask", "Dask", "with_dask", _VIOLET, "*", package="distributed"),
        Contender("fanout-dask", "fanout on Dask", "with_clusters", _VIOLET, "h", store="file", package="distributed"),
        Contender("fanout-ray", "fanout on Ray", "with_clusters", _PINK, "h", store="file", package="ray"),
        Contender("lithops", "Lithops", "with_lithops", _GREY, "X", store="s3", package="lithops"),
        Contender("packs", "fanout with obstore", "data_plane", _BLUE, "D", store="s3", package="obstore"),
        Contender("packs-boto3", "fanout with boto3", "data_plane", _SKY, store="s3", store_options="client=boto3"),
        Contender("raw-obstore", "obstore alone", "data_plane", _DARK, "P", store="s3", package="obstore"),
        Contender("raw-boto3", "boto3 alone", "data_plane", _GREY, "x", store="s3"),
    )
}
"""By name, in the order of tables."""
