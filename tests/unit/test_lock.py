"""The locks of CI hold all that pyproject.toml asks for, with hashes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
"""Those of .github/workflows/ci.yml."""
PIN = re.compile(r"^(\S+==\S+)(?: ; ([^\\]+))? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def _read_lock(name: str) -> tuple[list[Requirement], str]:
    """Return what a lock pins with hashes, and the lines that are neither that nor a comment."""
    text = (ROOT / ".ci" / name).read_text(encoding="utf-8")
    pins = [Requirement(f"{pin} ; {marker}" if marker else pin) for pin, marker, _ in PIN.findall(text)]
    rest = re.sub(r"^#.*\n", "", PIN.sub("", text), flags=re.MULTILINE)
    return pins, rest


def _wanted(project: dict[str, Any], group: str) -> Iterator[Requirement]:
    """Yield what a group asks for, with the groups that it includes."""
    for entry in project["dependency-groups"][group]:
        if isinstance(entry, str):
            yield Requirement(entry)
        else:
            yield from _wanted(project, entry["include-group"])


def _missing(wanted: list[Requirement], pins: list[Requirement], python: str) -> list[str]:
    """Return what is asked for on a Python and pinned by no version, by several, or by one out of bounds."""
    here = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    here |= {"sys_platform": "linux", "platform_python_implementation": "CPython", "implementation_name": "cpython"}
    pinned: dict[str, list[str]] = {}
    for pin in pins:
        if pin.marker is None or pin.marker.evaluate(here):
            pinned.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    missing = []
    for line in wanted:
        versions = pinned.get(canonicalize_name(line.name), [])
        is_wanted = line.marker is None or line.marker.evaluate(here)
        if is_wanted and not (len(versions) == 1 and line.specifier.contains(versions[0], prereleases=True)):
            missing.append(f"{line}: {versions}")
    return missing


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_have_all_that_ci_installs(python: str) -> None:
    """Each dependency, and each package of CI's groups, has one version within its bounds: `make lock` mends it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    building = [*map(Requirement, project["build-system"]["requires"])]
    wanted = [*building, *map(Requirement, project["project"]["dependencies"]), *_wanted(project, "ci")]
    locked, _ = _read_lock("lock.txt")
    assert not _missing(wanted, locked, python)
    assert not _missing([*_wanted(project, "ci-slow")], _read_lock("lock-slow.txt")[0], python)


@pytest.mark.parametrize("name", ["lock.txt", "lock-slow.txt"])
def test_a_lock_has_hashes_and_nothing_else(name: str) -> None:
    """No line pins a package without a hash, and none names an index."""
    pins, rest = _read_lock(name)
    assert pins
    assert rest == ""


def test_the_locks_agree() -> None:
    """A package in both has the same version in both, or pip refuses to install them together."""
    quick, slow = (
        {(pin.name, str(pin.specifier)) for pin in _read_lock(name)[0]} for name in ("lock.txt", "lock-slow.txt")
    )
    shared = {name for name, _ in quick} & {name for name, _ in slow}
    assert shared
    assert {pin for pin in quick if pin[0] in shared} == {pin for pin in slow if pin[0] in shared}


def test_a_package_out_of_its_bounds_is_found() -> None:
    """So is one that the lock has not, and one with two versions; one for other Pythons is not missed."""
    pins = [Requirement(line) for line in ("old==1.0", "two==1.0", "two==2.0 ; python_version >= '3.12'")]
    wanted = [Requirement(line) for line in ("old>=2", "two>=1", "none", "later ; python_version >= '3.13'")]
    assert _missing(wanted, pins, "3.12") == ["old>=2: ['1.0']", "two>=1: ['1.0', '2.0']", "none: []"]
