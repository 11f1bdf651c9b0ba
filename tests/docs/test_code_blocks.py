"""Every code block of the pages is run, or is checked as far as that goes without servers."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .blocks import FOLLOWED, ROOT, Block, blocks_of, pages
from .commands import check_command, commands_of

LANGUAGES = {"python", "console", "json", "toml", "text"}
MOST_NOT_RUN = 3
"""Blocks that may be marked `<!-- not run: reason -->`, on all pages together."""

PAGES = [page for page in pages() if page not in FOLLOWED]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHOWN = {".".join(Path(block.title).with_suffix("").parts) for block in BLOCKS if block.title.endswith(".py")}
"""Modules that the pages show, by name."""


def _of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and not block.not_run]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What went wrong on each page with Python in it."""
    out = tmp_path_factory.mktemp("pages") / "wrong.json"
    chosen = sorted({block.page for block in _of("python")})
    program = [sys.executable, "-m", "tests.docs.run_pages", str(out), *chosen]
    subprocess.run(program, check=True, cwd=ROOT, timeout=120)
    found: dict[str, str] = json.loads(out.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("page", sorted({block.page for block in _of("python")}))
def test_python_blocks_run(page: str, wrong: dict[str, str]) -> None:
    """The Python blocks of a page run from top to bottom, and print what the page says."""
    assert not wrong[page], wrong[page]


@pytest.mark.parametrize("block", _of("console"), ids=str)
def test_commands_are_there(block: Block) -> None:
    """A command names a target, module, option, extra or app that is there."""
    for words in commands_of(block.text):
        check_command(words, apps=SHOWN)


@pytest.mark.parametrize("block", [*_of("json"), *_of("toml")], ids=str)
def test_data_can_be_read(block: Block) -> None:
    """A block of data is well formed."""
    _ = json.loads(block.text) if block.language == "json" else tomllib.loads(block.text)


def test_each_block_names_its_language() -> None:
    """No block passes by these tests because its language is missing or unknown."""
    assert [str(block) for block in BLOCKS if block.language not in LANGUAGES] == []


def test_few_blocks_are_not_run() -> None:
    """Blocks that are marked as not run stay few."""
    marked = [f"{block}: {block.not_run}" for block in BLOCKS if block.not_run]
    assert len(marked) <= MOST_NOT_RUN, marked
