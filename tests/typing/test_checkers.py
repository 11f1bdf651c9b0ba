"""mypy and pyright find no error in `accepted.py`, and one in each line of `refused.py` that says so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = [str(HERE / name) for name in ("accepted.py", "refused.py")]


def refused_lines() -> list[tuple[str, int]]:
    lines = (HERE / "refused.py").read_text().splitlines()
    return [("refused.py", number) for number, line in enumerate(lines, start=1) if line.endswith("# refused")]


def errors_of_mypy() -> list[tuple[str, int]]:
    options = ["--follow-imports=silent", "--no-error-summary", "--check-untyped-defs", "--config-file="]
    command = [sys.executable, "-m", "mypy", *options, *FILES]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    found = re.findall(r"^(.+?):(\d+): error", run.stdout, flags=re.M)
    return [(Path(file).name, int(line)) for file, line in found]


def errors_of_pyright() -> list[tuple[str, int]]:
    program = shutil.which("basedpyright", path=str(Path(sys.executable).parent))
    assert program is not None, "basedpyright is not installed: make .venv/dev"
    options = ["--outputjson", "--level", "error", "--project", str(HERE / "pyrightconfig.json")]
    command = [program, *options, "--pythonpath", sys.executable]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    found = json.loads(run.stdout)["generalDiagnostics"]
    return [(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in found]


@pytest.mark.parametrize("errors_of", [errors_of_mypy, errors_of_pyright])
def test_a_checker_accepts_what_the_docs_show_and_refuses_misuse(errors_of: object) -> None:
    """The types of values reach the caller; a wrong argument or a wrong use of the value is an error."""
    assert callable(errors_of)
    assert sorted(set(errors_of())) == refused_lines()
