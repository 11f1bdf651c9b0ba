"""Job id and index -> key. Pure: no store, no client, no state.

Everything of a job lies below `_jobs/<job_id>/`, where nothing else of a bucket lies. Nothing here can name an object
of another job, because every part of a key is either a literal, a checked id, or a number.

    _jobs/<job_id>/intent                  which launch of that id counts, and what it is to do
    _jobs/<job_id>/<launch_id>/
             continuation                  in/<attempt>/<pack>            out/<attempt>/<group>/<chunk>
             manifest                      in/<attempt>/index/<shard>     err/<step>/<try>
             outcome · value               beat/<step>                    err/<step>/<try>-off
             delivered                     claim/<n> · claim/<n>-off      done/<attempt>/<group>
                                           nudge/<n>                      node/<attempt>/<level>/<group>/<node>
    _parameters/<digest>                   parameters too large for a message, shared by content

A job id may be used again once its job is removed. A launch id never is: so what a late worker still writes of a job
that was removed can't mix with the job that has its id now.

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
JOBS_PREFIX = "_jobs/"
PARAMETERS_PREFIX = "_parameters/"

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


def is_digest(text: object) -> TypeGuard[str]:
    """Whether `text` can be the digest of a value."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def checked_digest(text: object) -> str:
    """`text` if it is a digest; else ValueError."""
    if not is_digest(text):
        raise ValueError(f"{text!r:.80} is not a digest of 32 hexadecimal digits")
    return text


def parameter_key(digest: str) -> str:
    """Where the parameter with that digest lies."""
    return f"{PARAMETERS_PREFIX}{checked_digest(digest)}"


def job_prefix(job_id: str) -> str:
    """What the keys of all launches of that id begin with."""
    return f"{JOBS_PREFIX}{checked_id(job_id, what='job id')}/"


def intent_key(job_id: str) -> str:
    """Where the intent of the launch lies that counts for that id."""
    return f"{job_prefix(job_id)}intent"


@dataclass(frozen=True, slots=True)
class JobKeys:
    """The keys of one launch of a job, in one of its rounds."""

    job_id: str
    launch_id: str
    round: int = 0

    def __post_init__(self) -> None:
        checked_id(self.job_id, what="job id")
        checked_id(self.launch_id, what="launch id")
        if type(self.round) is not int or self.round < 0:
            raise ValueError(f"round {self.round!r:.80} is not a number from 0")

    @property
    def _scope(self) -> str:
        return f"{self.prefix}round/{self.round}/" if self.round else self.prefix

    @property
    def prefix(self) -> str:
        return f"{JOBS_PREFIX}{self.job_id}/{self.launch_id}/"

    @property
    def intent(self) -> str:
        return intent_key(self.job_id)

    @property
    def continuation(self) -> str:
        return f"{self.prefix}continuation"

    @property
    def manifest(self) -> str:
        return f"{self.prefix}manifest"

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
        return f"{self.prefix}in/"

    @property
    def rounds(self) -> str:
        return f"{self.prefix}rounds/"

    def start_of(self, round: int) -> str:
        return f"{self.rounds}{round:06d}"

    def value(self, digest: str) -> str:
        return f"{self.prefix}value/{digest}"

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
        return f"{self.prefix}out/{attempt}/"

    def result_group(self, attempt: str, group: int) -> str:
        return f"{self.results(attempt)}{group:06d}/"

    def result(self, attempt: str, chunk: int) -> str:
        return f"{self.result_group(attempt, chunk // GROUP_WIDTH)}{chunk:08d}"

    def bad_result(self, attempt: str, chunk: int, failed: int) -> str:
        return f"{self.result(attempt, chunk)}-{self.round}-{failed:06d}"

    def nodes(self, attempt: str) -> str:
        return f"{self.prefix}node/{attempt}/"

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


def launch_of(key: str) -> tuple[str, str]:
    """The launch that an object of a job belongs to, and its name in there, from its key; "" for the intent."""
    _, _, rest = key.removeprefix(JOBS_PREFIX).partition("/")
    launch_id, slash, name = rest.partition("/")
    return (launch_id, name) if slash else ("", rest)


def split_round(name: str) -> tuple[int, str]:
    """The round that an object of a launch belongs to, and its name in there, from its name in the launch."""
    if not name.startswith("round/"):
        return 0, name
    _, number, rest = name.split("/", 2)
    return int(number), rest
