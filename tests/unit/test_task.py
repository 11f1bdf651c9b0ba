"""A task is checked when it is declared, and its steps may have any form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fanout import DeclarationError, ForkJoinTask, Options, fork_join
from fanout.declaration.definition import TASKS

from . import steps
from .tasks import Squares

SCHEMA = {"numbers": {"type": "list"}}


def declare(**body: Any) -> type[ForkJoinTask]:
    """Declare a working task, changed by `body`. None removes a name."""
    working = {"input_schema": SCHEMA, "setup": steps.each, "process": steps.squared, "join": steps.total}
    written = {name: value for name, value in {**working, **body}.items() if value is not None}
    return type("Made", (ForkJoinTask,), {"__qualname__": "test.<locals>.Made", "__module__": __name__, **written})


async def coroutine(number):
    return number


def positional_only(number, /):
    return number


def any_number(*numbers):
    return numbers


def nothing():
    return None


@pytest.mark.parametrize("step", ["setup", "process", "join"])
@pytest.mark.parametrize("function", [coroutine, positional_only, any_number, 3, "text"])
def test_a_step_that_cannot_be_called_by_name_is_refused(step: str, function: Any) -> None:
    """The error names the class and the step, for a coroutine, '*args', a positional-only argument or no function."""
    with pytest.raises(DeclarationError, match=rf"Made\.{step}\b"):
        declare(**{step: function})


@pytest.mark.parametrize("step", ["setup", "process", "join"])
def test_a_missing_step_is_refused(step: str) -> None:
    """The error of a task without one of its steps names the class and the step."""
    with pytest.raises(DeclarationError, match=rf"Made: has no {step}"):
        declare(**{step: None})


def test_a_missing_schema_is_refused() -> None:
    """The error of a task without a schema says how to write one."""
    with pytest.raises(DeclarationError, match="Made: write an input_schema"):
        declare(input_schema=None)


@pytest.mark.parametrize("schema", [[], "text", {"a b": {}}, {"1st": {}}, {3: {}}, {"numbers": {"type": "lisst"}}])
def test_a_schema_that_cerberus_rejects_is_refused(schema: Any) -> None:
    """A value that is no schema, or names no argument, is refused with the name of the class."""
    with pytest.raises(DeclarationError, match=r"Made: (input_schema|Cerberus)"):
        declare(input_schema=schema)


@pytest.mark.parametrize("step", ["setup", "join"])
def test_an_argument_without_a_field_is_refused(step: str) -> None:
    """The error names the class, the step and the argument, if a required argument of setup or join is no field."""
    with pytest.raises(DeclarationError, match=rf"Made\.{step}: nothing supplies its argument 'other'"):
        declare(**{step: needy_setup if step == "setup" else needy_join})


def one(numbers):
    return [{"number": 1}]


def needy_setup(numbers, other):
    return []


def needy_join(results, other):
    return results


def test_a_join_without_an_argument_is_refused() -> None:
    """The error of a join that can't take the results names the class and the step."""
    with pytest.raises(DeclarationError, match=r"Made\.join: must declare an argument for the results"):
        declare(join=nothing)


def test_a_combine_that_cannot_be_called_is_refused() -> None:
    """Combine is checked like the other steps, in any form. None removes it."""
    with pytest.raises(DeclarationError, match=r"Made\.combine: .*it has no such argument"):
        declare(combine=nothing)
    with pytest.raises(DeclarationError, match=r"Made\.combine: is a coroutine"):
        declare(combine=coroutine)
    assert declare(combine=staticmethod(steps.total)).declaration.binding.combined_arguments == ("squares",)
    assert declare().declaration.binding.combine is None


def test_a_process_without_an_argument_is_refused() -> None:
    """The error of a process that can't take an item names the class and the step."""
    with pytest.raises(DeclarationError, match=r"Made\.process: must declare at least one argument"):
        declare(process=nothing)


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_items": 0},
        {"chunk_items": True},
        {"chunk_count": -1},
        {"chunk_bytes": "8"},
        {"max_attempts": 0},
        {"deadline_s": float("nan")},
        {"chunk_items": 1, "chunk_count": 1},
    ],
)
def test_a_bad_option_is_refused(options: dict[str, Any]) -> None:
    """The error of an option out of range, or of two contradicting options, names the class."""
    with pytest.raises(DeclarationError, match="Made: "):
        declare(**options)


@pytest.mark.parametrize("name", ["chunk_items", "chunk_count", "chunk_bytes", "max_item_bytes", "max_attempts"])
def test_a_count_that_is_no_integer_is_refused(name: str) -> None:
    """A count must be an integer."""
    with pytest.raises(DeclarationError, match=name):
        declare(**{name: 2.5})


def test_a_coroutine_method_is_refused() -> None:
    """A coroutine that takes self is refused, too."""

    async def process(self, number):
        return number

    with pytest.raises(DeclarationError, match=r"Made\.process: is a coroutine"):
        declare(process=process)


def test_a_builtin_without_a_signature_is_refused() -> None:
    """A function without a signature can't be bound."""
    with pytest.raises(DeclarationError, match=r"Made\.process"):
        declare(process=max)


def test_two_tasks_of_one_name_are_refused() -> None:
    """The error of the second task names the task and both modules. The first task stays declare."""
    first = fork_join("unit.twice", setup=steps.each, process=steps.squared, join=steps.total, input_schema=SCHEMA)
    with pytest.raises(DeclarationError, match=r"unit\.twice: two tasks have this name"):
        fork_join("unit.twice", setup=one, process=steps.squared, join=steps.total, input_schema=SCHEMA)
    assert TASKS.find("unit.twice") is first.declaration


def test_a_reloaded_task_replaces_itself() -> None:
    """Running the same code again declares the same task again."""
    for _ in range(2):
        task = fork_join("unit.again", setup=steps.each, process=steps.squared, join=steps.total, input_schema=SCHEMA)
    assert TASKS.find("unit.again") is task.declaration


@pytest.mark.parametrize("name", [3, "", b"x"])
def test_a_name_that_is_no_string_is_refused(name: Any) -> None:
    """The name of a task must be a string that is not empty."""
    with pytest.raises(DeclarationError, match="name must be a string"):
        declare(name=name)


def test_the_default_name_has_module_and_class() -> None:
    """A task without a `name` has that of its module and class. A subclass does not inherit the name."""

    class Named(ForkJoinTask):
        name = "unit.named"
        input_schema = SCHEMA
        setup, process, join = steps.each, steps.squared, steps.total

    class Heir(Named):
        pass

    assert Named.name == "unit.named"
    assert Heir.name == f"{__name__}.{Heir.__qualname__}"


def test_steps_of_every_form_run() -> None:
    """Plain functions, static methods, class methods and methods with self make one task."""

    class Mixed(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}, "factor": {"type": "integer", "default": 3}}
        bonus = 100

        @staticmethod
        def setup(numbers):
            return [{"number": number} for number in numbers]

        @classmethod
        def process(cls, number, factor):
            return number * factor + cls.bonus

        def join(self, results):
            assert isinstance(self, Mixed)
            return sum(results)

    class Plain(Mixed):
        def setup(numbers):
            return [{"number": -number} for number in numbers]

    assert Mixed.run({"numbers": [1, 2]}) == 209
    assert Plain.run({"numbers": [1, 2]}) == 191


def test_every_run_of_a_method_has_a_fresh_instance() -> None:
    """An attribute that a step sets on self is not there for the next item."""

    class Forgetful(ForkJoinTask):
        input_schema = SCHEMA

        def setup(self, numbers):
            self.seen = True
            return [{"number": number} for number in numbers]

        def process(self, number):
            before, self.seen = hasattr(self, "seen"), True
            return before

        def join(self, results):
            return list(results)

    assert Forgetful.run({"numbers": [1, 2]}) == [False, False]


def test_subclasses_of_an_abstract_class_are_checked() -> None:
    """An abstract class may lack steps. A subclass inherits the ones that it has."""

    class Frame(ForkJoinTask, abstract=True):
        input_schema = SCHEMA
        chunk_items = 7

        def join(results):
            return list(results)

    class Filled(Frame):
        setup, process = steps.each, steps.squared

    assert Filled.run({"numbers": [3, 4]}) == [9, 16]
    assert Filled.declaration.options.chunk_items == 7
    with pytest.raises(DeclarationError, match="Empty: has no setup"):
        type("Empty", (Frame,), {})


def test_keywords_receive_every_parameter() -> None:
    """A step with '**keywords' is given all fields, and an item may have any key."""

    class Greedy(ForkJoinTask):
        input_schema = {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}}

        def setup(**fields):
            return [dict(fields, extra=1)]

        def process(**fields):
            return fields

        def join(results, **fields):
            return [*results, fields]

    assert Greedy.run({"a": 1}) == [{"a": 1, "b": 2, "extra": 1}, {"a": 1, "b": 2}]


def test_a_schema_may_be_a_method() -> None:
    """A `get_input_schema` classmethod may replace the attribute."""

    class Asked(ForkJoinTask):
        setup, process, join = steps.each, steps.squared, steps.total

        @classmethod
        def get_input_schema(cls):
            return SCHEMA

    assert Asked.run({"numbers": [2]}) == 4


def test_functions_make_a_task() -> None:
    """`fork_join` makes the same task as a class, with options."""
    assert Squares.run({"numbers": [1, 2, 3]}) == 14
    assert Squares.name == "unit.squares"
    assert Squares.declaration.options == Options(chunk_items=2)


def test_an_unknown_option_of_fork_join_is_refused() -> None:
    """`fork_join` names the unknown option."""
    with pytest.raises(DeclarationError, match=r"unit\.wrong: no such option: chunkitems"):
        fork_join(
            "unit.wrong", setup=steps.each, process=steps.squared, join=steps.total, input_schema={}, chunkitems=1
        )


def test_a_task_of_functions_belongs_to_the_calling_module() -> None:
    """The module that calls `fork_join` is the one to import in another process."""
    assert Squares.declaration.module == "tests.unit.tasks"


def test_a_task_of_a_script_has_one_name_in_every_process(tmp_path: Path) -> None:
    """A script's task runs in spawned processes, where the script has another module name."""
    script = tmp_path / "script.py"
    script.write_text(
        "from fanout import ForkJoinTask\n"
        "class Doubled(ForkJoinTask):\n"
        "    input_schema = {'numbers': {'type': 'list'}}\n"
        "    def setup(numbers): return [{'number': number} for number in numbers]\n"
        "    def process(number): return number * 2\n"
        "    def join(results): return list(results)\n"
        "if __name__ == '__main__':\n"
        "    print(Doubled.name, Doubled.run({'numbers': [1, 2]}, executor='processes', workers=1))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("__main__.Doubled [2, 4]\n", "")


@pytest.mark.parametrize(("written", "meant"), [("tolerat", "tolerate"), ("chunk_item", "chunk_items")])
def test_a_misspelt_option_is_refused_where_the_class_is_declared(written: str, meant: str) -> None:
    """An attribute that is almost an option names the option. Others are the user's own."""
    with pytest.raises(DeclarationError, match=f"{written} is no option: write {meant},"):
        declare(**{written: 1})
    declare(chunk_colour="red")
