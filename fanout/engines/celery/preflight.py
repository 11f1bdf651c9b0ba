"""What the process that launches a job knows already: that no worker can run it, or only one that runs in here."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from ...declaration.definition import Declaration
from ...errors import DeclarationError

if TYPE_CHECKING:
    from .extension import Extension

_LOG = logging.getLogger("fanout")

SCRIPT = "__main__"
"""What the script that is run, a prompt or a notebook is called as a module, in its own process only."""


def check_workers(extension: Extension, task: Declaration) -> None:
    """Look before a launch whether a worker can know the task and see the store. No request.

    Raises:
        DeclarationError: No worker can: the task has the name that it has in this process only.
    """
    if extension.app.conf.task_always_eager or extension.pool is not None:
        # It runs here, or a worker does.
        return
    if task.module == SCRIPT:
        _check_script(extension, task)
    if extension.config.store.startswith("memory:"):
        _warn_once(
            extension,
            "memory",
            f"the store {extension.config.store} is in this process's memory: only workers that run in this process "
            "see it, and others never begin its jobs. Give connect() a store that all share: s3://bucket/prefix, or "
            "file:///directory on one machine",
        )


def _check_script(extension: Extension, task: Declaration) -> None:
    if task.name.startswith(f"{SCRIPT}."):
        raise DeclarationError(
            f"{task.name} is declared in the script that runs, and no worker can import {SCRIPT}: its messages "
            "would be thrown away as unregistered. Move the task into a module that workers import (include=[…]), or "
            "set `name` on it and have workers import this script as a module. `run` works as it is"
        )
    if getattr(sys.modules.get(SCRIPT), "__file__", None) is None:
        _warn_once(
            extension,
            task.name,
            f"{task.name} is declared at a prompt or in a notebook, which no worker can import: unless workers declare "
            "a task of the same name themselves, move it into a module that they import",
        )


def _warn_once(extension: Extension, about: str, text: str) -> None:
    if about not in extension.warned:
        extension.warned.add(about)
        _LOG.warning("%s", text)
