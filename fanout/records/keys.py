"""Keys of a job's objects, from ids and indices. Pure functions and values: no store, no client, no state.

All keys of a job begin with `_jobs/<job_id>/`. Every part of a key is a literal, a checked id or a number, so no key
made here can name an object of another job.

    _jobs/<job_id>/intent                the launch that counts for that id, and its parameters
    _jobs/<job_id>/<launch_id>/
             continuation                the engine's message after the join
             manifest                    the run of setup that counts, and how much it made
             outcome · value/<digest>    how the job ended; a large value is an object of its own
             delivered · sinks/<digest>  the outcome was delivered; a sink to which a step has begun to write
             input/<setup_id>/<pack>                        input/<setup_id>/index/<shard>
             results/<setup_id>/<group>/<chunk>
             results/<setup_id>/<group>/<chunk>+<count>     results/<setup_id>/<group>/<chunk>+<count>.shared-<done>
             combined/<setup_id>/<level>/<group>/<node>
             attempts/<step>/<n>                            attempts/<step>/<n>.interrupted
             claims/<n> · claims/<n>.interrupted            heartbeats/<step> · resends/<n>
             generations/<n>/start                          the start of the n-th retry
             generations/<n>/…                              the records of that generation alone
    _parameters/<digest>                 a parameter too large for a message, shared by content

`index` has the keys by which open, ended and tagged jobs are found.

A job id may be used again once its job is removed. A launch id is never used again. So the late writes of a worker of a
removed job can't mix with the job that has its id now.

A `<step>` is `setup`, `join`, `<setup_id>/<chunk>` for process, or `combine/<setup_id>/<level>/<node>`.

A batch of several chunks has the key `<chunk>+<count>`, by its first chunk. Its object holds the results of all of its
chunks, or of the first few, and says how the others were shared out. The share marker `….shared-<done>` announces such
an object, so that a listing shows it, with the number of chunks whose results it holds. Every chunk has exactly one
object that holds its result.

A chunk's result in which items failed has the key `<chunk>-<generation>-<failed>`, beside the key of a good result. So
one listing shows both, and the key of the good result stays free. The same holds for a node of combined results.

Generation 0 is the job before any retry. Each later generation has its start below `generations/<n>/`, and its own
claims, outcome, delivery, attempts, heartbeats and resends.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ids import check_digest, check_id

GROUP_WIDTH = 32
"""Number of chunks in a group. Their results share a prefix, so one listing shows whether the group is complete. A
batch lies in one group.

It is also the number of results that are combined at once, and the most combined values that join gets."""

SHARD_WIDTH = 1024
"""Number of chunk locations in one index shard."""

INDEXED_CHUNKS = 65
"""Number of chunks from which their locations are in index shards. Below it the manifest holds them."""

MOST_CHUNKS = 10**8
"""Most chunks of a job: keys have eight digits for a chunk, and list in the order of their numbers."""

JOBS_PREFIX = "_jobs/"
PARAMETERS_PREFIX = "_parameters/"


def process_step(setup_id: str, chunk: int) -> str:
    """Return the name of a chunk's process step, for the keys of its attempts and its heartbeat."""
    return f"{setup_id}/{chunk:08d}"


def combine_step(setup_id: str, level: int, node: int) -> str:
    """Return the name of the step that makes a node, for the keys of its attempts and its heartbeat."""
    return f"combine/{setup_id}/{level:02d}/{node:08d}"


def parameter_key(digest: str) -> str:
    """Return the key of the parameter with that digest."""
    return f"{PARAMETERS_PREFIX}{check_digest(digest)}"


def job_prefix(job_id: str) -> str:
    """Return the prefix of all keys of a job id, over all its launches."""
    return f"{JOBS_PREFIX}{check_id(job_id, what='job id')}/"


def intent_key(job_id: str) -> str:
    """Return the key of the intent that counts for a job id."""
    return f"{job_prefix(job_id)}intent"


@dataclass(frozen=True, slots=True)
class JobKeys:
    """The keys of one launch of a job, in one of its generations.

    Each member returns a key, or the prefix of several keys, as the table at the top of this module shows them.

    Attributes:
        job_id: The job.
        launch_id: The launch.
        generation: The generation.
    """

    job_id: str
    launch_id: str
    generation: int = 0

    def __post_init__(self) -> None:
        check_id(self.job_id, what="job id")
        check_id(self.launch_id, what="launch id")
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

    @property
    def sinks(self) -> str:
        return f"{self.prefix}sinks/"

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

    def batch_result(self, setup_id: str, chunk: int, count: int) -> str:
        return f"{self.result(setup_id, chunk)}+{count:02d}"

    def share_marker(self, setup_id: str, chunk: int, count: int, done: int) -> str:
        return f"{self.batch_result(setup_id, chunk, count)}.shared-{done:02d}"

    def before_result(self, setup_id: str, chunk: int) -> str:
        """The last possible key before all results of a chunk and of batches that begin with it, for listings."""
        group = self.result_group(setup_id, chunk // GROUP_WIDTH)
        return f"{group}{chunk - 1:08d}~" if chunk % GROUP_WIDTH else group

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

    def attempts(self, step: str) -> str:
        return f"{self._scope}attempts/{step}/"

    def attempt(self, step: str, number: int) -> str:
        return f"{self.attempts(step)}{number:03d}"

    def interrupted(self, step: str, number: int) -> str:
        return f"{self.attempt(step, number)}.interrupted"


@dataclass(frozen=True, slots=True)
class RunKey:
    """The parsed key of an attempt or a claim.

    Attributes:
        number: The number of the attempt or claim.
        interrupted: Whether the key records that an outage interrupted its run.
    """

    number: int
    interrupted: bool

    @classmethod
    def read(cls, key: str) -> RunKey:
        """Parse a key."""
        number, _, suffix = key.rsplit("/", 1)[1].partition(".")
        return cls(int(number), suffix == "interrupted")


@dataclass(frozen=True, slots=True)
class ResultKey:
    """The parsed key of a result, or of a node of combined results.

    Attributes:
        index: Index of the chunk, of a batch's first chunk, or of the node on its level.
        count: Number of chunks of the batch; 1 for a chunk alone and for a node.
        shared: If the key announces that the batch may be shared out, the number of chunks that are done then.
        failed: Number of its failed items; 0 for a good one.
        generation: The generation that it belongs to if items failed. A good one belongs to all: None.
    """

    index: int
    count: int = 1
    shared: int | None = None
    failed: int = 0
    generation: int | None = None

    @classmethod
    def read(cls, key: str) -> ResultKey:
        """Parse a key."""
        name = key.rsplit("/", 1)[1]
        if "+" in name:
            first, _, rest = name.partition("+")
            count, _, done = rest.partition(".shared-")
            return cls(int(first), int(count), int(done) if done else None)
        index, *bad = name.split("-")
        if not bad:
            return cls(int(index))
        generation, failed = bad
        return cls(int(index), failed=int(failed), generation=int(generation))


def level_of(key: str) -> int:
    """Return the level of a node, from its key."""
    return int(key.rsplit("/", 3)[1])


def launch_of(key: str) -> tuple[str, str]:
    """Split an object's key into its launch id and its name within the launch. The intent has launch id ""."""
    _, _, rest = key.removeprefix(JOBS_PREFIX).partition("/")
    launch_id, slash, name = rest.partition("/")
    return (launch_id, name) if slash else ("", rest)


def split_generation(name: str) -> tuple[int, str]:
    """Split an object's name within its launch into its generation and its name in there."""
    if not name.startswith("generations/"):
        return 0, name
    _, number, rest = name.split("/", 2)
    return int(number), rest
