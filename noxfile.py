"""Tests in environments of their own: `nox` for each Python, `nox --session lowest` for the oldest dependencies.

Each session installs the wheel, and runs the tests in a directory without the library's sources.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.sessions = ["pythons"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
TESTS = (".ci", "tests", "devstack", "examples", "benchmarks", "localstack", "docs", "pyproject.toml")
"""What the tests import and read; neither `fanout/` nor `storage/` is among it."""
CHOSEN = ("tests/unit", "tests/storage", "tests/simulation", "tests/integration/test_article.py")


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def pythons(session: nox.Session) -> None:
    """Test the wheel on a Python, with the newest dependencies."""
    session.install(_build_wheel(session), *nox.project.dependency_groups(PYPROJECT, "dev"))
    _run_tests(session)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Test the wheel with the lowest versions of its dependencies that pyproject.toml allows."""
    project = PYPROJECT["project"]
    direct = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    # uv's own choice of the lowest is higher wherever the newest version of another package asks for more.
    lowest = Path(session.create_tmp()) / "lowest.txt"
    lowest.write_text("\n".join(line.replace(">=", "==") for line in direct), encoding="utf-8")
    dev = nox.project.dependency_groups(PYPROJECT, "dev")
    session.install(_build_wheel(session), *dev, "--constraint", str(lowest))
    _run_tests(session)


def _build_wheel(session: nox.Session) -> str:
    """Build the wheel, and return its path."""
    directory = Path(session.create_tmp()) / "dist"
    shutil.rmtree(directory, ignore_errors=True)
    session.run("uv", "build", "--quiet", "--wheel", "--out-dir", str(directory), external=True)
    (wheel,) = directory.glob("*.whl")
    return str(wheel)


def _run_tests(session: nox.Session) -> None:
    """Run the tests in a directory without the library's sources."""
    directory = Path(session.create_tmp()) / "project"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name in TESTS:
        if Path(name).is_dir():
            shutil.copytree(name, directory / name, ignore=shutil.ignore_patterns("__pycache__", ".venv"))
        else:
            shutil.copy(name, directory)
    session.chdir(directory)
    # An import of the sources would not find them here.
    session.run("python", "-c", "import fanout, sys; print(sys.version, fanout.__file__)")
    session.run("python", "-m", "pytest", "--numprocesses", "2", "--dist", "loadfile", *(session.posargs or CHOSEN))
