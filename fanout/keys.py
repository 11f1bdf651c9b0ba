"""Job id and index -> key. Pure: no store, no client, no state.

Everything a job is lies under `<job_id>/`; nothing here can name an object of another job, because every part of a
key is either a literal, a checked job id or attempt id, or a number.

    <job_id>/intent                        in/<attempt>/<pack>            out/<attempt>/<group>/<chunk>
             continuation                  in/<attempt>/index/<shard>     err/<step>/<try>
             manifest                      beat/<step>                    err/<step>/<try>-off
             outcome · value               claim/<n> · claim/<n>-off      done/<attempt>/<group>
             delivered                     nudge/<n>                      node/<attempt>/<level>/<group>/<node>
    _params/<digest>                       parameters too large for a message, shared by content

A `<step>` is `setup`, `join`, `<attempt>/<chunk>` for process, or `combine/<attempt>/<level>/<node>`. A result in
which items failed lies beside where a good one would, as `out/<attempt>/<group>/<chunk>-<round>-<failed>`, so that one
listing tells both, and a good result finds its place free; a node of combined results likewise. A job that is run again
does so in a round of its own: `rounds/<n>` starts it, and what a round must say for itself (`claim`, `outcome`,
`delivered`, `done`, `err`, `beat`, `nudge`) lies under `round/<n>/` from the second one on.
"""

from __future__ import annotations

import re
import secrets
import uuid
from dataclasses import dataclass
from typing import TypeGuard

GROUP_WIDTH = 32
"""Chunks whose results lie under one prefix, so that one listing of at most 32 keys tells whether they are all in. As
many are combined at once, and as many combined values at most is join given."""

SHARD_WIDTH = 1024
"""Chunks whose places are kept in one index object."""

INDEXED_CHUNKS = 65
"""From this number of chunks on, their places lie in index objects of their own, beside the manifest."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
PARAMETERS_PREFIX = "_params/"

_DIGEST = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """A new id for a job; never repeats."""
    return str(uuid.uuid4())


def new_token() -> str:
    """A short id that tells apart those who work on one job: setup attempts, claims. 64 random bits."""
    return secrets.token_hex(8)


def process_step(attempt: str, chunk: int) -> str:
    """Name of a chunk's process step, under which its tries and its beat lie."""
    return f"{attempt}/{chunk:08d}"


def combine_step(attempt: str, level: int, node: int) -> str:
    """Name of the step that makes a node of combined results, under which its tries and its beat lie."""
    return f"combine/{attempt}/{level:02d}/{node:08d}"


def is_id(text: object) -> TypeGuard[str]:
    """Whether `text` can be the id of a job or an attempt, and so stand in a key."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None and ".." not in text


def checked_id(text: object, *, what: str) -> str:
    """`text` if it is an id; else ValueError that names `what`."""
    if not is_id(text):
        raise ValueError(
            f"{what} {text!r:.80} is not an id: letters, digits, '.', '_' and '-', "
            "at most 128, starting with a letter or digit"
        )
    return text


def checked_digest(text: object) -> str:
    """`text` if it is a digest; else ValueError."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise ValueError(f"{text!r:.80} is not a digest of 32 hexadecimal digits")
    return text


def parameter_key(digest: str) -> str:
    """Where the parameter with that digest lies."""
    return f"{PARAMETERS_PREFIX}{checked_digest(digest)}"


@dataclass(frozen=True, slots=True)
class JobKeys:
    """The keys of one job."""

    job_id: str
    round: int = 0

    def __post_init__(self) -> None:
        checked_id(self.job_id, what="job id")
        if type(self.round) is not int or self.round < 0:
            raise ValueError(f"round {self.round!r:.80} is not a number from 0")

    @property
    def _scope(self) -> str:
        return f"{self.job_id}/round/{self.round}/" if self.round else f"{self.job_id}/"

    @property
    def prefix(self) -> str:
        return f"{self.job_id}/"

    @property
    def intent(self) -> str:
        return f"{self.job_id}/intent"

    @property
    def continuation(self) -> str:
        return f"{self.job_id}/continuation"

    @property
    def manifest(self) -> str:
        return f"{self.job_id}/manifest"

    @property
    def claims(self) -> str:
        return f"{self._scope}claim/"

    def claim(self, number: int) -> str:
        return f"{self.claims}{number:03d}"

    def claim_put_off(self, number: int) -> str:
        return f"{self.claim(number)}-off"

    @property
    def outcome(self) -> str:
        return f"{self._scope}outcome"

    @property
    def delivered(self) -> str:
        return f"{self._scope}delivered"

    @property
    def nudges(self) -> str:
        return f"{self._scope}nudge/"

    @property
    def inputs(self) -> str:
        return f"{self.job_id}/in/"

    @property
    def rounds(self) -> str:
        return f"{self.job_id}/rounds/"

    def start_of(self, round: int) -> str:
        return f"{self.rounds}{round:06d}"

    def value(self, digest: str) -> str:
        return f"{self.job_id}/value/{digest}"

    def nudge(self, number: int) -> str:
        return f"{self.nudges}{number:06d}"

    def beat(self, step: str) -> str:
        return f"{self._scope}beat/{step}"

    def packs(self, attempt: str) -> str:
        return f"{self.inputs}{attempt}/"

    def pack(self, attempt: str, pack: int) -> str:
        return f"{self.packs(attempt)}{pack:08d}"

    def index(self, attempt: str, shard: int) -> str:
        return f"{self.inputs}{attempt}/index/{shard:06d}"

    def results(self, attempt: str) -> str:
        return f"{self.job_id}/out/{attempt}/"

    def result_group(self, attempt: str, group: int) -> str:
        return f"{self.results(attempt)}{group:06d}/"

    def result(self, attempt: str, chunk: int) -> str:
        return f"{self.result_group(attempt, chunk // GROUP_WIDTH)}{chunk:08d}"

    def bad_result(self, attempt: str, chunk: int, failed: int) -> str:
        return f"{self.result(attempt, chunk)}-{self.round}-{failed:06d}"

    def nodes(self, attempt: str) -> str:
        return f"{self.job_id}/node/{attempt}/"

    def node_group(self, attempt: str, level: int, group: int) -> str:
        return f"{self.nodes(attempt)}{level:02d}/{group:06d}/"

    def node(self, attempt: str, level: int, node: int) -> str:
        return f"{self.node_group(attempt, level, node // GROUP_WIDTH)}{node:08d}"

    def bad_node(self, attempt: str, level: int, node: int, failed: int) -> str:
        return f"{self.node(attempt, level, node)}-{self.round}-{failed:06d}"

    def marks(self, attempt: str) -> str:
        return f"{self._scope}done/{attempt}/"

    def mark(self, attempt: str, group: int) -> str:
        return f"{self.marks(attempt)}{group:06d}"

    def tries(self, step: str) -> str:
        return f"{self._scope}err/{step}/"

    def a_try(self, step: str, number: int) -> str:
        return f"{self.tries(step)}{number:03d}"

    def put_off(self, step: str, number: int) -> str:
        return f"{self.a_try(step, number)}-off"


def last_number(key: str) -> int:
    """The index that a key of a pack, result, mark, try or nudge ends with."""
    return int(key.rsplit("/", 1)[1])


@dataclass(frozen=True, slots=True)
class Numbered:
    """What the key of a try or a claim tells: its number, and whether it says that the run was put off."""

    number: int
    put_off: bool

    @classmethod
    def read(cls, key: str) -> Numbered:
        number, _, off = key.rsplit("/", 1)[1].partition("-")
        return cls(int(number), bool(off))


@dataclass(frozen=True, slots=True)
class Landed:
    """What the key of a result, or of a node of combined results, tells.

    Attributes:
        index: Index of the chunk, or of the node on its level.
        failed: Items of it that failed; 0 for a good one.
        round: The round that it belongs to if items failed; a good one belongs to all.
    """

    index: int
    failed: int = 0
    round: int | None = None

    @classmethod
    def read(cls, key: str) -> Landed:
        index, *rest = key.rsplit("/", 1)[1].split("-")
        if not rest:
            return cls(int(index))
        round, failed = rest
        return cls(int(index), int(failed), int(round))


def level_of(key: str) -> int:
    """The level of a node, from its key."""
    return int(key.rsplit("/", 3)[1])


def split_round(name: str) -> tuple[int, str]:
    """The round that an object of a job belongs to, and its name in there, from its key without the job's id."""
    if not name.startswith("round/"):
        return 0, name
    _, number, rest = name.split("/", 2)
    return int(number), rest
