"""The task that a user writes: three steps or four, checked where it is declared."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from storage import Compression

from .config.settings import GIB, MIB, Options
from .declaration.definition import TASKS, Declaration
from .declaration.misspelt import refuse_misspelt_options
from .declaration.steps import bind_step
from .declaration.value_types import register_types
from .engines import local
from .engines.async_input import stream_async_input
from .engines.engine import Engine, launch
from .errors import DeclarationError
from .job import Job, R
from .plan import LIMIT_ITEMS, LIMIT_S, Assumptions, Plan, Rates, find_shape, make_plan
from .prices import Prices
from .report import Report

if TYPE_CHECKING:
    from celery import Celery

    from .engines.celery import ForkJoinSignature

STEPS = ("setup", "process", "join")
COMBINE = "combine"
OPTIONS = tuple(option.name for option in fields(Options))


class ForkJoinTask(Generic[R]):
    """A task that forks its work over a cluster and joins the results.

    A subclass writes its steps as functions of named arguments, and may name the type of the job's value:

        class WordCounterTask(ForkJoinTask[dict[str, Counter[str]]]):
            input_schema = {"documents": {"type": "list", "required": True}, "delimiter": {"type": "string"}}

            @staticmethod
            def setup(documents):                       # returns or yields one dict per item
                return [{"document": document} for document in documents]

            @staticmethod
            def process(document, delimiter=" "):       # runs once per item, anywhere in the cluster
                return Counter(document.split(delimiter))

            @staticmethod
            def join(word_counters):                    # runs once, with the results in item order
                return {"word_count": sum(word_counters, Counter())}

    A fourth step keeps join short however many items there are:

            @staticmethod
            def combine(word_counters):                 # or combine(a, b): makes one result of several, in order
                return sum(word_counters, Counter())

    Workers run `combine` on the results of each chunk, then on groups of 32 such values, and so on. `join` gets at most
    32 values. So `combine` must be associative: the grouping of values must not matter. Their order is kept. It does
    not run for one value alone.

    Each field of the schema is bound by name to every step that declares it. The keys of an item are arguments of
    `process`, and win over a parameter of the same name. `join` gets the results, a lazy `Results` sequence, as its
    first argument that is no field. `combine` gets a list of values as its only required argument that is no field,
    or two consecutive values as the two that are no fields. A step may be a static method, a class method, a plain
    function in the class, or take `self`; then it gets a fresh instance. A program that a type checker reads uses
    `@staticmethod`. Steps may run more than once, so their side effects must bear repetition. They must not change
    their arguments: a worker reuses a parameter for the next item.

    Attributes:
        input_schema: The input in Cerberus form. A `get_input_schema` classmethod does as well. The same input is
            accepted, or refused for the same reasons, in every way of launching; see docs/input.md.
        name: The task's name, unique in a process; module and class name if not given.
        types: Classes whose values may travel in parameters, items, results and the value: dataclasses, attrs classes,
            named tuples, enums and Pydantic models. The task registers each, as `register_type` does.
        validator: A subclass of `cerberus.Validator` with rules, types or normalisation of its own.
        chunk_items, chunk_count, chunk_bytes, max_item_bytes, max_attempts, deadline_s, tolerate, min_success,
            compression, memory_limit_bytes: See `Options`.

    Raises:
        DeclarationError: When the class is declared; names the class, the step and the argument.
    """

    input_schema: ClassVar[Mapping[str, Any]]
    name: ClassVar[str]
    types: ClassVar[Iterable[type[Any]]] = ()
    validator: ClassVar[type[Any] | None] = None
    chunk_items: ClassVar[int | None] = None
    chunk_count: ClassVar[int | None] = None
    chunk_bytes: ClassVar[int] = 8 * MIB
    max_item_bytes: ClassVar[int] = GIB
    max_attempts: ClassVar[int] = 3
    deadline_s: ClassVar[float | None] = None
    tolerate: ClassVar[int | float | None] = None
    min_success: ClassVar[int | float | None] = None
    compression: ClassVar[Compression] = "none"
    memory_limit_bytes: ClassVar[int | None] = None

    declaration: ClassVar[Declaration]

    # An author chooses what a step takes, so these are not methods that a subclass would have to match.
    if TYPE_CHECKING:
        setup: Any
        process: Any
        combine: Any
        join: Any

    def __init_subclass__(cls, *, abstract: bool = False, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if abstract:
            return
        given = cls.__dict__.get("name")
        module = "__main__" if cls.__module__ == "__mp_main__" else cls.__module__
        name = given if given is not None else f"{module}.{cls.__qualname__}"
        if not isinstance(name, str) or not name:
            raise DeclarationError(f"{cls.__qualname__}: name must be a string, not {name!r}")
        cls.name = name
        refuse_misspelt_options(cls, OPTIONS)
        register_types(name, cls.types)
        optional = [COMBINE] if getattr(cls, COMBINE, None) is not None else []
        cls.declaration = Declaration.of(
            name,
            module=module,
            schema=cls.get_input_schema(),
            validator=cls.validator,
            steps={step: bind_step(cls, step) for step in (*STEPS, *optional)},
            options={option: getattr(cls, option) for option in OPTIONS},
        )
        made_anew = given is None and (module == "__main__" or "<locals>" in cls.__qualname__)
        TASKS.add(cls.declaration, replaceable=made_anew)

    @classmethod
    def get_input_schema(cls) -> Mapping[str, Any]:
        """Return the input in Cerberus form: `input_schema`, unless a subclass overrides this."""
        try:
            return cls.input_schema
        except AttributeError:
            raise DeclarationError(
                f"{cls.__qualname__}: write an input_schema attribute or a get_input_schema classmethod; "
                "{} if it takes no input"
            ) from None

    @classmethod
    def run(
        cls,
        values: Mapping[str, Any],
        *,
        executor: local.ExecutorName | Executor = "inline",
        workers: int | None = None,
        store: str | None = None,
        **options: Any,
    ) -> R:
        """Run the task without Celery and without a server, and return the join's value.

        Args:
            values: The input by name; an iterator or an open file is streamed.
            executor: `inline` (for debugging), `threads`, `processes`, or any executor in the sense of
                `concurrent.futures`, whose workers run the chunks.
            workers: Number of threads or processes; the machine's processors if not given.
            store: URL of the store for the job's data, which must be one that the executor's workers reach. If not
                given, memory or a temporary directory.
            **options: See `Options`.

        Raises:
            InvalidInput: The input does not fit the schema; nothing was run.
            JobFailed: A step raised, or an element of a stream does not fit; the exception is the `__cause__`.
            FanoutError: The executor broke, or could not run a chunk.
        """
        value: R = local.run(cls.declaration, values, executor=executor, workers=workers, store=store, options=options)
        return value

    @classmethod
    def plan(
        cls,
        values: Mapping[str, Any] | None = None,
        *,
        workers: int = 1,
        item_s: float | None = None,
        items: int | None = None,
        item_bytes: float | None = None,
        result_bytes: int | None = None,
        limit_items: int = LIMIT_ITEMS,
        limit_s: float = LIMIT_S,
        like: Report | None = None,
        assumptions: Assumptions | None = None,
        prices: Prices | None = None,
        **options: Any,
    ) -> Plan:
        """Return what a job over Celery will take, before anything is stored or sent.

        Setup runs in this process, and its items are encoded, counted and forgotten. An iterator among the values is
        used up by that. Without values, the plan is made of `items` and `item_bytes`. With values and one of these, the
        plan takes what setup has shown for the other one.

        Args:
            values: The input by name.
            workers: Number of worker processes that take the job's messages, and no others.
            item_s: Seconds that process takes for an item; 0 if neither given nor in `like`.
            items: Number of items.
            item_bytes: Mean encoded size of an item.
            result_bytes: Encoded size of the result of an item, of a combined value, and of join's value; 100 if it is
                neither given nor in `like`.
            limit_items: Number of items after which setup is stopped; the plan then covers those that it has yielded.
            limit_s: Seconds after which setup is stopped.
            like: The report of a job of this task, for all rates and sizes that are not given.
            assumptions: The speed of store, broker and processes.
            prices: The prices of requests; AWS's if not given.
            **options: See `Options`.

        Raises:
            InvalidInput: The input does not fit the schema.
            JobFailed: Setup raised; the exception is the `__cause__`.
            MemoryLimitExceeded: A process would take more than `memory_limit_bytes`.
            ConfigError: An argument is missing or out of range.
        """
        rates = Rates.choose(like, item_s=item_s, result_bytes=result_bytes, assumptions=assumptions)
        shape = find_shape(
            cls.declaration,
            values,
            items=rates.items if values is None and items is None else items,
            item_bytes=rates.item_bytes if values is None and item_bytes is None else item_bytes,
            limit_items=limit_items,
            limit_s=limit_s,
            options=options,
        )
        return make_plan(cls.declaration, shape, rates, workers=workers, prices=prices, options=options)

    @classmethod
    def signature(
        cls,
        values: Mapping[str, Any] | None = None,
        *,
        receives: str | None = None,
        app: Celery | None = None,
        tags: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ForkJoinSignature[R]:
        """Make a Celery signature of the task and its input, for any chain, group or chord.

        A call of the signature launches a job and returns its `Job`; `delay` and `apply_async` return Celery's
        `AsyncResult`. This method writes large parameters to the store, so that the signature stays small.

        Args:
            values: The input by name.
            receives: Name of the parameter that takes the value of the previous task of a chain. The input then travels
                as it is given, and setup validates it as a whole when that value has come.
            app: The Celery app; if not given, the one that is connected, or of several the current one.
            tags: Names and texts by which the job is found again; see `submit`.
            **options: See `Options`.

        Raises:
            InvalidInput: The input does not fit the schema; nothing was stored or sent.
            ConfigError: No store is configured, or a tag can't be one.
            DeclarationError: The task is declared in the script that runs, where no worker finds it.
            Unencodable: A value can't travel.
        """
        from .engines import celery

        return celery.signature(cls.declaration, values or {}, receives=receives, app=app, tags=tags, options=options)

    @classmethod
    def submit(
        cls,
        values: Mapping[str, Any],
        *,
        job_id: str | None = None,
        setup_in_caller: bool = False,
        engine: Engine | None = None,
        app: Celery | None = None,
        send_options: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Job[R]:
        """Launch a job over Celery, or over another engine, and return its handle.

        If a value is an iterator or an open file, setup runs in this process and streams: it sends each chunk while it
        makes the next, and `submit` returns when the input is used up. Otherwise setup runs on a worker and `submit`
        returns at once.

        Args:
            values: The input by name.
            job_id: An id of your own, such as an order's. A second submission of the same input and options under it
                makes no second job but returns the first one's handle. Values that stay with the caller are not
                compared.
            setup_in_caller: Run setup in this process although no value is an iterator. The caller then does not store
                values that only setup declares: it cuts and sends them at once.
            engine: A `DaskEngine`, a `RayEngine`, or in tests a `StubEngine`; Celery if not given.
            app: The Celery app; if not given, the one that is connected, or of several the current one.
            send_options: Options of all messages of the job, by Celery's names: `queue`, `priority`, `headers`,
                `time_limit` and so on. Links and other options of a signature belong to `signature(…).set(…)`.
            tags: Names and texts by which `fanout.jobs` finds the job again, such as `{"order": "4711"}`. At most 16;
                a name has at most 64 and a text at most 180 ASCII characters. Each costs one request.
            **options: See `Options`.

        Raises:
            InvalidInput: The input does not fit the schema; nothing was stored or sent.
            JobConflict: A job of that id exists, with another input or other options.
            JobFailed: The input is streamed, and setup raised or an element does not fit; see its `__cause__`.
            ConfigError: No store is configured, a tag can't be one, or an engine is given with what is Celery's.
            DeclarationError: The task is declared in the script that runs, where no worker finds it.
            Unencodable: A value can't travel.
        """
        return launch(
            cls.declaration,
            values,
            engine=engine,
            app=app,
            send_options=send_options,
            job_id=job_id,
            setup_in_caller=setup_in_caller,
            tags=tags,
            options=options,
        )

    @classmethod
    async def submit_async(
        cls,
        values: Mapping[str, Any],
        *,
        job_id: str | None = None,
        setup_in_caller: bool = False,
        engine: Engine | None = None,
        app: Celery | None = None,
        send_options: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Job[R]:
        """Launch a job from an event loop; see `submit`. A thread of the loop's executor makes the requests.

        An async iterator streams as an iterator does. The loop reads at most 16 elements more than setup has taken.
        The cancellation of the waiting task cancels a job whose input still streams. It leaves any other job, which
        may still be launched then. The arguments are those of `submit`.

        Raises:
            InvalidInput: And all other errors of `submit`.
        """
        chosen = {"engine": engine, "app": app, "send_options": send_options, "tags": tags, **options}
        with stream_async_input(values) as streamed:
            return await asyncio.to_thread(
                cls.submit, streamed, job_id=job_id, setup_in_caller=setup_in_caller, **chosen
            )
