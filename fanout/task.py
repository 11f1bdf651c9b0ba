"""What a user writes: a task of three steps or four, checked when it is declared."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import storage
from storage import Compression, Unregistrable

from .config.settings import GIB, MIB
from .declaration.definition import TASKS, Declaration
from .engines import local
from .errors import DeclarationError
from .job import Job

if TYPE_CHECKING:
    from celery import Celery

    from .engines.celery import ForkJoinSignature

STEPS = ("setup", "process", "join")
COMBINE = "combine"
OPTIONS = (
    "chunk_items",
    "groups",
    "chunk_bytes",
    "max_item_bytes",
    "parallelism",
    "max_attempts",
    "deadline_s",
    "tolerate",
    "min_success",
    "compression",
)

T = TypeVar("T", bound=type[Any])


def register_type(
    cls: T,
    *,
    name: str | None = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
) -> T:
    """Let values of a class travel: in a task's input, items, results and value, at any depth.

    Dataclasses, attrs classes, named tuples, enums and Pydantic models need nothing else, and may as well stand in
    the `types` of a task; a class of another kind needs `encode` and `decode`. What arrives is equal and of the same
    class, restored by its state: no constructor runs. Bytes say a name only, and a process looks it up among the
    classes that it has registered, so callers and workers both call this, best where the class is defined. It can be
    used as a decorator, and calling it twice is harmless.

    Args:
        cls: The class. A subclass of it is another class.
        name: What the bytes call it, for as long as such bytes are around; module and class name if not given.
        encode: Makes something that travels of a value, such as a dict of its attributes.
        decode: Makes the value of what `encode` returned.

    Returns:
        The class.

    Raises:
        DeclarationError: It can't be registered like this; says why.
    """
    try:
        return storage.register_type(cls, name=name, encode=encode, decode=decode)
    except Unregistrable as error:
        raise DeclarationError(str(error)) from error


class ForkJoinTask:
    """A task that forks its work over a cluster and joins the results.

    A subclass writes its steps as plain functions of named arguments:

        class WordCounterTask(ForkJoinTask):
            input_schema = {"documents": {"type": "list", "required": True}, "delimiter": {"type": "string"}}

            def setup(documents):                       # returns or yields one dict an item
                return [{"document": document} for document in documents]

            def process(document, delimiter=" "):       # once an item, anywhere in the cluster
                return Counter(document.split(delimiter))

            def join(word_counters):                    # once, with the results in item order
                return {"word_count": sum(word_counters, Counter())}

    It may write a fourth, so that join has little to do however many items there are:

            def combine(word_counters):                 # or combine(a, b): results in order, of which it makes one
                return sum(word_counters, Counter())

    `combine` is run where the results are, on those of each chunk, and above 32 chunks on what it made of 32 others,
    and so on; `join` is then given at most 32 values. So it must be associative: how values are grouped must not
    matter. Their order is kept. It is not called for one value alone.

    A field of the schema is bound by name to every step that declares it; the keys of an item are arguments of
    `process`, and win over a parameter of the same name. `join` is given the results, a lazy `Results` sequence, as
    its first argument that is no field; `combine` is given a list of values as the only one of its required
    arguments that is no field, or a value and the one that follows it as the two that are none. A step may be a
    static or a class method, or take `self`; then it gets a fresh instance. Steps may run more than once, so what
    they do besides returning a value must bear repetition; and they must not change their arguments, for a worker
    keeps a parameter at hand for the next item.

    Attributes:
        input_schema: The input in Cerberus form. A `get_input_schema` classmethod does as well. The same input is
            accepted, or refused for the same reasons, by whichever way it comes; see docs/input.md.
        name: The task's name, unique in a process; module and class name if not given.
        types: Classes whose values may travel in parameters, items, results and the value: dataclasses, attrs classes,
            named tuples, enums and Pydantic models. Each is registered, as `register_type` does.
        validator: The subclass of `cerberus.Validator` that checks the input, if it has rules, types or
            normalisation of its own.
        chunk_items, groups, chunk_bytes, item_bytes, parallelism, max_attempts, deadline_s, tolerate, min_success,
            compression: See `Options`.

    Raises:
        DeclarationError: When the class is declared; names the class, the step and the argument.
    """

    input_schema: ClassVar[Mapping[str, Any]]
    name: ClassVar[str]
    types: ClassVar[Iterable[type[Any]]] = ()
    validator: ClassVar[type[Any] | None] = None
    chunk_items: ClassVar[int | None] = None
    groups: ClassVar[int | None] = None
    chunk_bytes: ClassVar[int] = 8 * MIB
    max_item_bytes: ClassVar[int] = GIB
    parallelism: ClassVar[int] = 32
    max_attempts: ClassVar[int] = 3
    deadline_s: ClassVar[float | None] = None
    tolerate: ClassVar[int | float | None] = None
    min_success: ClassVar[int | float | None] = None
    compression: ClassVar[Compression] = "none"

    declaration: ClassVar[Declaration]

    # What a step takes is its author's choice, so these are not methods that a subclass would have to match.
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
        _register_types(name, cls.types)
        optional = [COMBINE] if getattr(cls, COMBINE, None) is not None else []
        cls.declaration = Declaration.of(
            name,
            module=module,
            schema=cls.get_input_schema(),
            validator=cls.validator,
            steps={step: _bound(cls, step) for step in (*STEPS, *optional)},
            options={option: getattr(cls, option) for option in OPTIONS},
        )
        made_anew = given is None and (module == "__main__" or "<locals>" in cls.__qualname__)
        TASKS.add(cls.declaration, replaceable=made_anew)

    @classmethod
    def get_input_schema(cls) -> Mapping[str, Any]:
        """The input in Cerberus form: `input_schema`, unless a subclass says otherwise."""
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
        executor: local.ExecutorName = "inline",
        workers: int | None = None,
        **options: Any,
    ) -> Any:
        """Run the task here, without Celery and without a server, and return the join's value.

        Args:
            values: The input by name; an iterator or an open file is streamed.
            executor: `inline` (for debugging), `threads` or `processes`.
            workers: Number of threads or processes; the machine's processors if not given.
            **options: See `Options`.

        Raises:
            InvalidInput: The input does not fit the schema; nothing was run.
            JobFailed: A step raised, or an element of a stream does not fit; the exception is the `__cause__`.
        """
        return local.run(cls.declaration, values, executor=executor, workers=workers, options=options)

    @classmethod
    def signature(
        cls,
        values: Mapping[str, Any] | None = None,
        *,
        receives: str | None = None,
        app: Celery | None = None,
        **options: Any,
    ) -> ForkJoinSignature:
        """The task with its input as a Celery signature, for any chain, group or chord.

        Calling it launches a job and returns its `Job`; `delay` and `apply_async` return Celery's `AsyncResult`.
        Large parameters are written to the store here, so that the signature stays small wherever it travels.

        Args:
            values: The input by name.
            receives: Name of the parameter that takes the value of the step before, in a chain. The input then travels
                as it is given, and is normalised as a whole when that value is there.
            app: The Celery app; if not given, the one that is connected, or of several the current one.
            **options: See `Options`.

        Raises:
            InvalidInput: The input does not fit the schema; nothing was stored or sent.
            ConfigError: No store is configured.
            DeclarationError: The task is declared in the script that runs, where no worker finds it.
            Unencodable: A value can't travel.
        """
        from .engines import celery

        return celery.signature(cls.declaration, values or {}, receives=receives, app=app, options=options)

    @classmethod
    def submit(
        cls,
        values: Mapping[str, Any],
        *,
        job_id: str | None = None,
        setup_in_caller: bool = False,
        app: Celery | None = None,
        send_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Job:
        """Launch a job over Celery and return its handle.

        If a value is an iterator or an open file, setup runs here and streams: each chunk is on its way to a worker
        while the next is being made, and `submit` returns when the input is used up. Otherwise setup runs on a worker
        and `submit` returns at once.

        Args:
            values: The input by name.
            job_id: An id of your own, such as an order's. Submitting the same input and options under it once more
                makes no second job but returns the first one's handle. What stays with the caller is not compared.
            setup_in_caller: Run setup in this process although no value is an iterator. Values that only setup declares
                are
                then not stored first, for a worker to fetch them: a large list that is at hand is cut and sent at once.
            app: The Celery app; if not given, the one that is connected, or of several the current one.
            send_options: Options of all messages of the job, by Celery's names: `queue`, `priority`, `headers`,
                `time_limit` and so on. What `signature(…).set(…)` takes besides belongs to a signature.
            **options: See `Options`.

        Raises:
            InvalidInput: The input does not fit the schema; nothing was stored or sent.
            JobConflict: A job of that id exists, with another input or other options.
            JobFailed: The input is streamed, and setup raised or an element does not fit; see its `__cause__`.
            ConfigError: No store is configured.
            DeclarationError: The task is declared in the script that runs, where no worker finds it.
            Unencodable: A value can't travel.
        """
        from .engines import celery

        return celery.submit(
            cls.declaration,
            values,
            job_id=job_id,
            setup_in_caller=setup_in_caller,
            app=app,
            send_options=send_options,
            options=options,
        )


def fork_join(
    name: str,
    *,
    setup: Callable[..., Any],
    process: Callable[..., Any],
    join: Callable[..., Any],
    input_schema: Mapping[str, Any],
    combine: Callable[..., Any] | None = None,
    types: Iterable[type[Any]] = (),
    validator: type[Any] | None = None,
    **options: Any,
) -> type[ForkJoinTask]:
    """A task of loose functions; what it returns is used like a class that was written out.

    Args:
        name: The task's name, unique in a process. Workers must import the module that calls this.
        setup: Returns or yields one dict an item.
        process: Called once an item.
        join: Called once, with the results in item order.
        input_schema: The input in Cerberus form.
        combine: Makes one of several results, if given; see `ForkJoinTask`.
        types: Classes whose values may travel; see `ForkJoinTask`.
        validator: The subclass of `cerberus.Validator` that checks the input; see `ForkJoinTask`.
        **options: See `Options`.

    Raises:
        DeclarationError: Names the task and the step.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise DeclarationError(f"{name}: no such option: {', '.join(unknown)}; there are {', '.join(OPTIONS)}")
    given = {"setup": setup, "process": process, "join": join, COMBINE: combine}
    steps = {step: staticmethod(function) for step, function in given.items() if function is not None}
    # The module that makes the task is the one to import for it, as for a class; a namedtuple looks there as well.
    module = sys._getframe(1).f_globals.get("__name__", "__main__")
    body = {"name": name, "input_schema": input_schema, "types": types, "validator": validator, "__module__": module}
    return type(name, (ForkJoinTask,), {**body, **steps, **options})


def _register_types(task: str, types: object) -> None:
    if not isinstance(types, Iterable) or isinstance(types, type):
        raise DeclarationError(f"{task}: types must name classes, as in types = (Point,), not {types!r:.80}")
    for each in types:
        try:
            register_type(each)
        except DeclarationError as error:
            raise DeclarationError(f"{task}: types: {error}") from error


def _bound(cls: type[ForkJoinTask], step: str) -> Callable[..., Any]:
    """A step as a function of named arguments, however the class wrote it down."""
    for owner in cls.__mro__:
        if step in owner.__dict__:
            written = owner.__dict__[step]
            break
    else:
        raise DeclarationError(f"{cls.__qualname__}: has no {step}; a task has setup, process and join")
    if isinstance(written, staticmethod):
        return written.__func__
    if isinstance(written, classmethod):
        return getattr(cls, step)  # type: ignore[no-any-return]
    if inspect.isfunction(written) and next(iter(inspect.signature(written).parameters), None) == "self":
        return _on_instance(cls, written)
    return written  # type: ignore[no-any-return]


def _on_instance(cls: type[ForkJoinTask], written: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(written)
    def step(**arguments: Any) -> Any:
        return written(cls(), **arguments)

    signature = inspect.signature(written)
    step.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
    return step
