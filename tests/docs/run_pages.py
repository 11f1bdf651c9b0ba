"""Run the Python blocks of pages: `python -m tests.docs.run_pages FILE.json PAGE…`.

Each page runs in a process of its own, forked from one that has imported Celery and fanout, and in an empty directory.
A block with a title is written to that file and imported. Every other block continues the one before it.
A block in `text` with the title `prints` says what the block before it prints.

Blocks show real addresses. Here each app runs Celery's eager mode, and its store lies in memory.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from celery import Celery

import fanout

from .blocks import Block, blocks_of

PAGE_LIMIT_S = 100


def run_page(page: str) -> str:
    """Run a page's blocks in this process, and return what went wrong; empty if nothing did."""
    module = ModuleType("page")
    sys.modules["page"] = module
    printed = ""
    for block in blocks_of(page):
        if block.not_run:
            continue
        if block.language == "text" and block.title == "prints":
            if printed.strip() != block.text.strip():
                return f"{block}: the block before it printed\n{printed}"
            continue
        if block.language != "python":
            continue
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                _run(block, module)
        except (Exception, SystemExit):
            return f"{block}: {traceback.format_exc()}"
        printed = output.getvalue()
    return ""


def _run(block: Block, module: ModuleType) -> None:
    if block.title:
        path = Path(block.title)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        importlib.invalidate_caches()
        name = ".".join(path.with_suffix("").parts)
        sys.modules.pop(name, None)
        importlib.import_module(name)
        return
    # Blank lines before the code, so that a traceback shows the page's own line numbers.
    exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), module.__dict__)


def _connect_in_memory(app: Celery, *, store: str | None = None, **settings: Any) -> Celery:
    app.conf.update(task_always_eager=True, result_backend=None)
    return _connect(app, store="memory://pages", **settings)


_connect = fanout.connect


def _fork(page: str, result: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            _run_in_child(page, result)
        finally:
            os._exit(0)
    return child


def _run_in_child(page: str, result: Path) -> None:
    signal.alarm(PAGE_LIMIT_S)
    fanout.connect = _connect_in_memory
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        sys.path.insert(0, directory)
        result.write_text(run_page(page), encoding="utf-8")
        os.chdir("/")


def main(arguments: list[str]) -> None:
    """Write what went wrong on each page to a JSON file."""
    os.environ["CELERY_BROKER_URL"] = "memory://"
    out, *pages = arguments
    wrong: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as directory:
        results = {page: Path(directory) / str(number) for number, page in enumerate(pages)}
        children = {page: _fork(page, result) for page, result in results.items()}
        for page, child in children.items():
            _, status = os.waitpid(child, 0)
            said = results[page].exists()
            wrong[page] = results[page].read_text(encoding="utf-8") if said else f"{page}: ended with status {status}"
    Path(out).write_text(json.dumps(wrong), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
