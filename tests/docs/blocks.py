"""The pages of the project, and their fenced code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
AT_ROOT = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
FOLLOWED = ("docs/how-to/django.md",)
"""Pages of which a test of their own does all that they say, and the tests of code blocks nothing."""
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>.*)$")
NOT_RUN = re.compile(r"^\s*<!-- not run: (?P<reason>.+) -->\s*$")
TITLE = re.compile(r'title="(?P<title>[^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block.

    Attributes:
        page: Path of its page, relative to the project.
        line: Number of the line after the opening fence, from 1.
        language: First word after the fence; empty if there is none.
        title: Name of the file that the block shows, or `prints` for the output of the block before.
        text: Its lines, without the fence's indentation.
        not_run: Why the page says that it is not run; empty if it does not.
    """

    page: str
    line: int
    language: str
    title: str
    text: str
    not_run: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """The pages at the root and every page below docs/, as paths relative to the project."""
    found = [*(ROOT / name for name in AT_ROOT), *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in found]


def blocks_of(page: str) -> list[Block]:
    """The code blocks of a page, from the top."""
    return list(_blocks(page, (ROOT / page).read_text(encoding="utf-8").splitlines()))


def prose_of(page: str) -> list[tuple[int, str]]:
    """The lines of a page outside of code blocks, each with its number from 1."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    code: set[int] = set()
    for block in _blocks(page, lines):
        code.update(range(block.line - 1, block.line + len(block.text.splitlines()) + 1))
    return [(number, line) for number, line in enumerate(lines, start=1) if number not in code]


def _blocks(page: str, lines: list[str]) -> Iterator[Block]:
    position = 0
    while position < len(lines):
        fence = FENCE.match(lines[position])
        position += 1
        if fence is None:
            continue
        first, indent = position, len(fence["indent"])
        while not lines[position].strip().startswith(fence["ticks"]):
            position += 1
        above = NOT_RUN.match(lines[first - 2]) if first > 1 else None
        title = TITLE.search(fence["info"])
        yield Block(
            page=page,
            line=first + 1,
            language=(fence["info"].split() or [""])[0],
            title=title["title"] if title else "",
            text="\n".join(line[indent:] for line in lines[first:position]) + "\n",
            not_run=above["reason"] if above else "",
        )
        position += 1
