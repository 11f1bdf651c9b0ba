"""The command that lists jobs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice

import click

from storage import CorruptObject, NewerFormat

from ..errors import JobNotFound
from ..listing import list_open, list_tagged
from ..progress import JobState
from ..records.ledger import job_ids
from ..runtime import Runtime
from ..waiting.view import JobView
from ..waiting.watch import glance
from .command import Command, CommandError
from .exit_codes import ExitCode
from .loading import JobsHolder, with_holder
from .output import format_age, json_option, note, print_document, print_table, status_line
from .values import parse_job_id, read_tags, tag_option

READERS = 8
"""Jobs that `list` reads at the same time."""

UNREADABLE = "unreadable"
"""State in the list of a job whose records are damaged."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One job of the list. `task` and what follows it are None for a job whose records are damaged."""

    job_id: str
    state: str
    task: str | None = None
    launched_at: float | None = None
    chunks_done: int | None = None
    chunks: int | None = None
    items: int | None = None
    items_failed: int | None = None
    is_partial: bool = False
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, runtime: Runtime, job_id: str, launch_id: str | None) -> _Row | None:
        """Read a job; None if it was removed meanwhile. At most six requests."""
        view = JobView(job_id, runtime, launch_id)
        try:
            intent = view.open().intent
            progress = glance(view)
        except JobNotFound:
            return None
        except (CorruptObject, NewerFormat):
            return cls(job_id, UNREADABLE)
        counts = (progress.chunks_done, progress.chunks, progress.items, progress.items_failed, progress.is_partial)
        return cls(job_id, str(progress.state), intent.task, intent.created_at, *counts, intent.tags)

    def cells(self) -> list[str]:
        """Return the cells for a table."""
        least = "≥" if self.is_partial else ""
        chunks = "" if self.chunks is None else f"{least}{self.chunks_done}/{self.chunks}"
        return [
            self.job_id,
            self.state,
            chunks,
            str(self.items_failed or ""),
            format_age(self.launched_at) if self.launched_at is not None else "",
            (self.task or "").rpartition(".")[2],
        ]


@dataclass(frozen=True, slots=True)
class _Found:
    """The jobs that a list shows.

    Attributes:
        launches: The id of each job and its launch, if that is known.
        after: The last of these ids, if there may be more in the order of ids.
        more: Number of further jobs, if that is known.
    """

    launches: list[tuple[str, str | None]]
    after: str | None = None
    more: int = 0

    @classmethod
    def of(cls, runtime: Runtime, tags: dict[str, str], *, is_all: bool, limit: int, after: str | None) -> _Found:
        """List jobs by their indexes, or all of them."""
        if is_all and not tags:
            ids = list(islice(job_ids(runtime.store, after=after), limit + 1))
            return cls([(job_id, None) for job_id in ids[:limit]], ids[limit - 1] if len(ids) > limit else None)
        entries = list_tagged(runtime, tags) if tags else list_open(runtime)
        return cls([(entry.job_id, entry.launch_id) for entry in entries[:limit]], more=max(0, len(entries) - limit))

    def explain_rest(self) -> str | None:
        """Return how to see the jobs that the list leaves out; None if there are none."""
        if self.after is not None:
            return f"The store has more jobs. Go on with --after {self.after}, or give a larger --limit."
        return f"There are {self.more:,} more. --limit shows more." if self.more else None


@click.command(name="list", cls=Command)
@click.option("--all", "is_all", is_flag=True, help="List jobs that have ended as well, in the order of their ids.")
@tag_option("Show the jobs with this tag, open or ended. May be repeated: a job must have all.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*map(str, JobState), UNREADABLE]),
    help="Show only jobs in this state. May be repeated.",
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most jobs that are read.")
@click.option(
    "--after",
    type=parse_job_id,
    metavar="ID",
    help="With --all: begin after this id, to go on where the last list ended.",
)
@json_option
@with_holder
def list_jobs(
    holder: JobsHolder,
    /,
    is_all: bool,
    tag_words: tuple[str, ...],
    states: tuple[str, ...],
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List the open jobs, or those with a tag, the latest launch first.

    One request per 1,000 open or tagged jobs, and at most six for each of the --limit jobs that are read. --state picks
    among these. --all lists the objects of all jobs, at one request per 1,000.
    """
    tags = read_tags(tag_words)
    if after is not None and (tags or not is_all):
        raise CommandError("--after needs --all, and goes with no --tag", ExitCode.USAGE)
    runtime = holder.runtime
    with status_line("reading jobs"):
        found = _Found.of(runtime, tags, is_all=is_all, limit=limit, after=after)
        # no limit: its reads end with the limits of the store
        with ThreadPoolExecutor(READERS) as pool:
            # no limit: each read ends with the limits of the store
            reads = pool.map(lambda launch: _Row.read(runtime, *launch), found.launches)
            read = list(reads)
    rows = [row for row in read if row is not None and (not states or row.state in states)]
    rows.sort(key=lambda row: row.launched_at or 0.0, reverse=True)
    if as_json:
        print_document({"jobs": [asdict(row) for row in rows], "after": found.after, "more": found.more})
        return
    if rows:
        print_table(["JOB", "STATE", "CHUNKS", "FAILED", "AGE", "TASK"], [row.cells() for row in rows])
    elif states:
        note("no job in such a state")
    else:
        note("no jobs" if is_all or tags else "no open jobs; --all lists the others")
    rest = found.explain_rest()
    if rest is not None:
        note(rest)
