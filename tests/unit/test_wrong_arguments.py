"""Calls with an argument of a wrong type raise an error of fanout's that names it, before anything is done."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

import fanout
from fanout import Config, ConfigError, DeclarationError, FanoutError, InvalidInput, InvalidLocation, sinks, sources
from fanout.declaration.definition import TASKS
from storage import StorageError, Unregistrable, register_type

from .tasks import Numbers

VALUES = {"numbers": [1, 2]}
URL = "s3://bucket/a"


@pytest.fixture(scope="module")
def app() -> Iterator[Celery]:
    """Yield an app that runs jobs in this process, with a store in memory."""
    patch = pytest.MonkeyPatch()
    patch.setattr(TASKS, "_listeners", [])
    app = Celery("wrong", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True
    fanout.connect(app, store=f"memory://{uuid.uuid4().hex}")
    yield app
    app.close()
    patch.undo()


@pytest.fixture(scope="module")
def job(app: Celery) -> fanout.Job[Any]:
    """Return a job that has succeeded."""
    return Numbers.submit(VALUES, app=app)


Call = Callable[[Any, Any], object]
"""Makes a wrong call, given the job and the app."""


async def _submit(app: Celery, values: Any) -> object:
    return await Numbers.submit_async(values, app=app)


NO_SECONDS = ("5", True, math.nan, [1], b"1")
CALLS: list[tuple[str, type[Exception], Call]] = [
    *(("timeout must be a number", ConfigError, lambda job, _, bad=bad: job.get(timeout=bad)) for bad in NO_SECONDS),
    *(("timeout must be a number", ConfigError, lambda job, _, bad=bad: job.watch(bad)) for bad in NO_SECONDS),
    *(("timeout must be a number", ConfigError, lambda job, _, bad=bad: job.as_completed(bad)) for bad in NO_SECONDS),
    ("progress must be True, False or a function", ConfigError, lambda job, _: job.get(progress="yes")),
    ("sweeping must be True or False", ConfigError, lambda job, _: job.watch(sweeping="no")),
    ("file must be a file", ConfigError, lambda job, _: job.progress_bar("out.txt")),
    ("read_bytes must be a whole number", ConfigError, lambda job, _: job.report(read_bytes="5")),
    ("on_progress must be a function", ConfigError, lambda job, _: job.report(on_progress=3)),
    ("prices must be Prices, or a mapping", ConfigError, lambda job, _: job.report(prices=[1])),
    ("per_put must be a number", ConfigError, lambda *_: fanout.Prices(per_put=True)),
    ("path must be the path", ConfigError, lambda job, _: job.report().save(None)),
    *(
        ("job id .* is not an id", ConfigError, lambda _, app, bad=bad: fanout.attach(bad, app=app))
        for bad in (3, b"a")
    ),
    ("store must be text", ConfigError, lambda *_: fanout.attach("a", store=3)),  # type: ignore[arg-type]
    ("store must be text", ConfigError, lambda *_: fanout.jobs(store=b"s3://a")),  # type: ignore[arg-type]
    ("ended must be True or False", ConfigError, lambda _, app: fanout.jobs(app=app, ended="no")),  # type: ignore[arg-type]
    ("app must be a Celery app", ConfigError, lambda *_: fanout.connect("shop")),  # type: ignore[arg-type]
    ("engine must be one", ConfigError, lambda *_: Numbers.submit(VALUES, engine="dask")),  # type: ignore[arg-type]
    (
        "setup_in_caller must be",
        ConfigError,
        lambda _, app: Numbers.submit(VALUES, app=app, setup_in_caller="no"),  # type: ignore[arg-type]
    ),
    ("send_options must be a mapping", ConfigError, lambda _, app: Numbers.submit(VALUES, app=app, send_options=[1])),  # type: ignore[arg-type]
    ("queue must be its name", ConfigError, lambda _, app: Numbers.submit(VALUES, app=app, send_options={"queue": 3})),
    ("receives must be text", ConfigError, lambda _, app: Numbers.signature({}, app=app, receives=["n"])),  # type: ignore[arg-type]
    *(
        ("must be a mapping", InvalidInput, lambda _, app, bad=bad: asyncio.run(_submit(app, bad)))
        for bad in (None, [1], "x", [("numbers", [1])])
    ),
    ("workers must be a whole number", ConfigError, lambda *_: Numbers.run(VALUES, workers="5")),  # type: ignore[arg-type]
    ("store must be text", ConfigError, lambda *_: Numbers.run(VALUES, store=3)),  # type: ignore[arg-type]
    ("limit_items must be", ConfigError, lambda *_: Numbers.plan(VALUES, limit_items="5")),  # type: ignore[arg-type]
    ("limit_s must be a number", ConfigError, lambda *_: Numbers.plan(VALUES, limit_s=math.nan)),
    ("like must be the report", ConfigError, lambda job, _: Numbers.plan(VALUES, like=job)),
    ("assumptions must be", ConfigError, lambda *_: Numbers.plan(VALUES, assumptions=3)),  # type: ignore[arg-type]
    ("prices must be Prices", ConfigError, lambda *_: Numbers.plan(VALUES, prices="x")),  # type: ignore[arg-type]
    *(
        ("a URL or a path", InvalidLocation, lambda *_, make=make, bad=bad: make(bad))
        for make in (sources.lines, sources.csv, sources.parquet, sources.manifest, sinks.csv, sinks.published)
        for bad in (None, 3, b"/x", {"a": 1}, True)
    ),
    ("a URL or a path", InvalidLocation, lambda *_: sources.lines([None])),  # type: ignore[list-item]
    ("types must map columns", ConfigError, lambda *_: sources.csv(URL, types="ab")),  # type: ignore[arg-type]
    ("types must map columns", ConfigError, lambda *_: sources.jsonl(URL, types={1: 2})),  # type: ignore[dict-item]
    ("quoted_newlines must be", ConfigError, lambda *_: sources.csv(URL, quoted_newlines="no")),  # type: ignore[arg-type]
    ("header must be a list", ConfigError, lambda *_: sources.csv(URL, header=3)),  # type: ignore[arg-type]
    ("column must be text", ConfigError, lambda *_: sources.manifest(URL, column=3)),  # type: ignore[arg-type]
    ("endpoint must be text", ConfigError, lambda *_: sinks.parquet(URL, endpoint=3)),  # type: ignore[arg-type]
    ("endpoint must be text", ConfigError, lambda *_: sinks.published(URL, endpoint=3)),  # type: ignore[arg-type]
    ("schema must be an Arrow schema", ConfigError, lambda *_: sinks.parquet(URL, schema=b"x")),  # type: ignore[arg-type]
    ("partition_by must be names", ConfigError, lambda *_: sinks.parquet(URL, partition_by=3)),  # type: ignore[arg-type]
    ("columns must be names", ConfigError, lambda *_: sinks.csv(URL, columns=3)),  # type: ignore[arg-type]
    ("header must be True", ConfigError, lambda *_: sinks.csv(URL, header="no")),  # type: ignore[arg-type]
    ("inline_bytes must be", ConfigError, lambda *_: Config(store="-", inline_bytes=-1)),
    ("require_signatures must be", ConfigError, lambda *_: Config(store="-", require_signatures="no")),  # type: ignore[arg-type]
    ("signing_keys must be a mapping", ConfigError, lambda *_: Config(store="-", signing_keys="x")),  # type: ignore[arg-type]
    ("encryption_keys must be a mapping", ConfigError, lambda *_: Config(store="-", encryption_keys=[3])),  # type: ignore[arg-type]
    ("external_endpoints must be", ConfigError, lambda *_: Config(store="-", external_endpoints="x")),  # type: ignore[arg-type]
    (
        "name must be a string",
        DeclarationError,
        lambda *_: fanout.fork_join(3, setup=iter, process=id, join=sum, input_schema={}),  # type: ignore[arg-type]
    ),
    ("encode of .* is 3", Unregistrable, lambda *_: register_type(Numbers, encode=3, decode=id)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("text", "kind", "call"), CALLS, ids=[f"{at}-{text}" for at, (text, *_) in enumerate(CALLS)])
def test_a_wrong_argument_is_named(
    text: str, kind: type[Exception], call: Call, job: fanout.Job[Any], app: Celery
) -> None:
    """The error is one of fanout's or the store's, names the argument, and says what it must be."""
    with pytest.raises(kind, match=text) as caught:
        call(job, app)
    assert isinstance(caught.value, FanoutError | StorageError)


def test_a_negative_timeout_is_over(job: fanout.Job[Any]) -> None:
    """A caller may pass the rest of its own time, which may be below 0: a job that has ended gives its value."""
    assert job.get(timeout=-0.1) == [1, 2]


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        (3, "filters must be a list, not 3"),
        ("ab", "filters must be a list"),
        ({"a": 1}, "filters must be a list"),
        ([], "filters must be a list, not \\[\\]"),
        ([[]], "which is no triple"),
        (("a", "=", 3), "which is no triple"),
        ([("a", 3)], "which is no triple"),
        ([[("a", "=", 3)], ("b", "=", 3)], "which is no triple"),
        ([(1, "=", 3)], "1 is no name of a column"),
        ([("a", "~", 3)], "'~' is no operator; there are =, =="),
        ([("a", "in", 3)], "'in' needs a list of values, not 3"),
        ([("a", "not in", "xy")], "'not in' needs a list"),
        ([("a", "==", [3])], "'==' compares with one value"),
        ([("a", "==", object())], r"filters\[0\]\[2\] is a builtins.object"),
    ],
)
def test_wrong_filters_are_refused_at_once(filters: Any, text: str) -> None:
    """Conditions that no worker could apply are refused where the source is made."""
    with pytest.raises(ConfigError, match=text):
        sources.parquet(URL, filters=filters)


@pytest.mark.parametrize(
    "filters",
    [[("a", "=", 3)], [[("a", "in", {1, 2})], [("b", "not in", ("x",)), ("c", "<", 1.5)]], (["a", "!=", None],)],
)
def test_right_filters_are_taken(filters: Any) -> None:
    """The forms of pyarrow are taken."""
    assert sources.parquet(URL, filters=filters).format.filters == list(filters)
