"""Job id and index -> key. Pure: no store, no client, no state.

Everything of a job lies below `_jobs/<job_id>/`, where nothing else of a bucket lies. Nothing here can name an object
of another job, because every part of a key is either a literal, a checked id, or a number.

    _jobs/<job_id>/intent                which launch of that id counts, and what it is to do
    _jobs/<job_id>/<launch_id>/
             continuation                what the engine sends after the join
             manifest                    which run of setup counts, and how much it made
             outcome · value/<digest>    how the job ended; a large value lies beside it
             delivered                   the outcome has been passed on
             input/<setup_id>/<pack>                        input/<setup_id>/index/<shard>
             results/<setup_id>/<group>/<chunk>             complete/<setup_id>/<group>
             combined/<setup_id>/<level>/<group>/<node>
             attempts/<step>/<n>                            attempts/<step>/<n>.interrupted
             claims/<n> · claims/<n>.interrupted            heartbeats/<step> · resends/<n>
             generations/<n>/start                          what starts the n-th retry
             generations/<n>/…                              what it says for itself
    _parameters/<digest>                 parameters too large for a message, shared by content

A job id may be used again once its job is removed. A launch id never is: so what a late worker still writes of a job
that was removed can't mix with the job that has its id now.

A `<step>` is `setup`, `join`, `<setup_id>/<chunk>` for process, or `combine/<setup_id>/<level>/<node>`. A result in
which items failed lies beside a good one's key, as `<chunk>-<generation>-<failed>`, so that one listing tells both, and
a good result finds its key free; a node of combined results likewise. Generation 0 is the job's first one. Each later
one lies under `generations/<n>/`: its `start`, and its own claims, outcome, delivery, markers, attempts, heartbeats and
resends.
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


def process_step(setup_id: str, chunk: int) -> str:
    """Name of a chunk's process step, under which its tries and its beat lie."""
    return f"{setup_id}/{chunk:08d}"


def combine_step(setup_id: str, level: int, node: int) -> str:
    """Name of the step that makes a node of combined results, under which its tries and its beat lie."""
    return f"combine/{setup_id}/{level:02d}/{node:08d}"


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
    generation: int = 0

    def __post_init__(self) -> None:
        checked_id(self.job_id, what="job id")
        checked_id(self.launch_id, what="launch id")
        if type(self.generation) is not int or self.generation < 0:
            raise ValueError(f"generation {self.generation!r:.80} is not a number from 0")

    @property
    def _scope(self) -> str:
        return f"{self.generations}{self.generation}/" if self.generation else self.prefix

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
        return f"{self._scope}claims/"

    def claim(self, number: int) -> str:
        return f"{self.claims}{number:03d}"

    def claim_interrupted(self, number: int) -> str:
        return f"{self.claim(number)}.interrupted"

    @property
    def outcome(self) -> str:
        return f"{self._scope}outcome"

    @property
    def delivered(self) -> str:
        return f"{self._scope}delivered"

    @property
    def resends(self) -> str:
        return f"{self._scope}resends/"

    @property
    def inputs(self) -> str:
        return f"{self.prefix}input/"

    @property
    def generations(self) -> str:
        return f"{self.prefix}generations/"

    def start_of(self, generation: int) -> str:
        return f"{self.generations}{generation}/start"

    def value(self, digest: str) -> str:
        return f"{self.prefix}value/{digest}"

    def resend(self, number: int) -> str:
        return f"{self.resends}{number:06d}"

    def heartbeat(self, step: str) -> str:
        return f"{self._scope}heartbeats/{step}"

    def packs(self, setup_id: str) -> str:
        return f"{self.inputs}{setup_id}/"

    def pack(self, setup_id: str, pack: int) -> str:
        return f"{self.packs(setup_id)}{pack:08d}"

    def index(self, setup_id: str, shard: int) -> str:
        return f"{self.inputs}{setup_id}/index/{shard:06d}"

    def results(self, setup_id: str) -> str:
        return f"{self.prefix}results/{setup_id}/"

    def result_group(self, setup_id: str, group: int) -> str:
        return f"{self.results(setup_id)}{group:06d}/"

    def result(self, setup_id: str, chunk: int) -> str:
        return f"{self.result_group(setup_id, chunk // GROUP_WIDTH)}{chunk:08d}"

    def bad_result(self, setup_id: str, chunk: int, failed: int) -> str:
        return f"{self.result(setup_id, chunk)}-{self.generation}-{failed:06d}"

    def nodes(self, setup_id: str) -> str:
        return f"{self.prefix}combined/{setup_id}/"

    def node_group(self, setup_id: str, level: int, group: int) -> str:
        return f"{self.nodes(setup_id)}{level:02d}/{group:06d}/"

    def node(self, setup_id: str, level: int, node: int) -> str:
        return f"{self.node_group(setup_id, level, node // GROUP_WIDTH)}{node:08d}"

    def bad_node(self, setup_id: str, level: int, node: int, failed: int) -> str:
        return f"{self.node(setup_id, level, node)}-{self.generation}-{failed:06d}"

    def group_markers(self, setup_id: str) -> str:
        return f"{self._scope}complete/{setup_id}/"

    def group_marker(self, setup_id: str, group: int) -> str:
        return f"{self.group_markers(setup_id)}{group:06d}"

    def attempts(self, step: str) -> str:
        return f"{self._scope}attempts/{step}/"

    def attempt(self, step: str, number: int) -> str:
        return f"{self.attempts(step)}{number:03d}"

    def interrupted(self, step: str, number: int) -> str:
        return f"{self.attempt(step, number)}.interrupted"


def last_number(key: str) -> int:
    """The index that a key of a pack, result, mark, try or nudge ends with."""
    return int(key.rsplit("/", 1)[1])


@dataclass(frozen=True, slots=True)
class Numbered:
    """What the key of a try or a claim tells: its number, and whether it says that the run was put off."""

    number: int
    interrupted: bool

    @classmethod
    def read(cls, key: str) -> Numbered:
        number, _, suffix = key.rsplit("/", 1)[1].partition(".")
        return cls(int(number), suffix == "interrupted")


@dataclass(frozen=True, slots=True)
class Landed:
    """What the key of a result, or of a node of combined results, tells.

    Attributes:
        index: Index of the chunk, or of the node on its level.
        failed: Items of it that failed; 0 for a good one.
        generation: The round that it belongs to if items failed; a good one belongs to all.
    """

    index: int
    failed: int = 0
    generation: int | None = None

    @classmethod
    def read(cls, key: str) -> Landed:
        index, *rest = key.rsplit("/", 1)[1].split("-")
        if not rest:
            return cls(int(index))
        generation, failed = rest
        return cls(int(index), int(failed), int(generation))


def level_of(key: str) -> int:
    """The level of a node, from its key."""
    return int(key.rsplit("/", 3)[1])


def launch_of(key: str) -> tuple[str, str]:
    """The launch that an object of a job belongs to, and its name in there, from its key; "" for the intent."""
    _, _, rest = key.removeprefix(JOBS_PREFIX).partition("/")
    launch_id, slash, name = rest.partition("/")
    return (launch_id, name) if slash else ("", rest)


def split_generation(name: str) -> tuple[int, str]:
    """Split an object's name within its launch into its generation and its name in there."""
    if not name.startswith("generations/"):
        return 0, name
    _, number, rest = name.split("/", 2)
    return int(number), rest
