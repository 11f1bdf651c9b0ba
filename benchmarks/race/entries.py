"""Who takes part in races."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Entry:
    """A way to do a work.

    Attributes:
        name: Its name.
        label: What people call it.
        engine: Module of `engines` that runs it.
        colour, marker: How it looks in pictures; what it is ours or theirs is told by colour too.
        workers: Whether it has Celery workers.
        results: Whether it has a result backend.
        store: Whether it works on the object store.
        package: What must be installed for it, beyond what the group `bench` brings.
        store_options: Added to the store's URL.
    """

    name: str
    label: str
    engine: str
    colour: str
    marker: str = "o"
    workers: bool = False
    results: bool = False
    store: bool = False
    package: str | None = None
    store_options: str = ""

    @property
    def missing(self) -> str:
        """Why it can't take part; empty if it can."""
        if self.package is None or find_spec(self.package) is not None:
            return ""
        return f"{self.package} is not installed: pip install --group compare"


# Okabe and Ito's colours, which colour-blind people can tell apart.
_ORANGE, _SKY, _GREEN, _BLUE, _RED, _PINK = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
_VIOLET, _GREY, _DARK = "#7A5195", "#888888", "#444444"

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("fanout", "fanout", "ours", _BLUE, "D", workers=True, results=True, store=True),
        Entry("streamed", "fanout, streamed", "ours", _GREEN, "^", workers=True, results=True, store=True),
        Entry(
            "fanout-boto3",
            "fanout with boto3",
            "ours",
            _SKY,
            "v",
            workers=True,
            results=True,
            store=True,
            store_options="client=boto3",
        ),
        Entry("canvas", "bare Canvas", "canvas", _RED, "o", workers=True, results=True),
        Entry("presliced", "Canvas, sliced by hand", "canvas", _PINK, "s", workers=True, results=True),
        Entry("group", "Celery group", "canvas", _ORANGE, "o", workers=True, results=True),
        Entry("chord", "Celery chord on Redis", "canvas", _RED, "s", workers=True, results=True),
        Entry("chunks", "Celery chunks", "canvas", _RED, "o", workers=True, results=True),
        Entry("serial", "plain Python", "here", _GREY, "x"),
        Entry("pool", "multiprocessing.Pool", "here", _DARK, "P"),
        Entry("threads", "threads of one process", "here", _DARK, "P"),
        Entry("ray", "Ray", "on_ray", _PINK, "v", package="ray"),
        Entry("dask", "Dask", "on_dask", _VIOLET, "*", package="distributed"),
        Entry("lithops", "Lithops", "on_lithops", _GREY, "X", store=True, package="lithops"),
        Entry("packs", "fanout with obstore", "packs", _BLUE, "D", store=True, package="obstore"),
        Entry("packs-boto3", "fanout with boto3", "packs", _SKY, "v", store=True, store_options="client=boto3"),
        Entry("raw-obstore", "obstore alone", "raw", _DARK, "P", store=True, package="obstore"),
        Entry("raw-boto3", "boto3 alone", "raw", _GREY, "x", store=True),
    )
}
"""By name."""
