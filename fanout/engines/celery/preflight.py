"""Checks before a launch that some worker can run the job."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from ...declaration.definition import Declaration
from ...errors import DeclarationError

if TYPE_CHECKING:
    from .extension import Extension

_LOG = logging.getLogger(__name__)

SCRIPT = "__main__"
"""Module name of a running script, a prompt or a notebook. It has this name in its own process only."""


def check_workers(extension: Extension, task: Declaration) -> None:
    """Check before a launch that a worker can import the task and see the store. No request.

    Logs a warning, once per process, if only some workers may be able to.

    Args:
        extension: The app's extension.
        task: The task.

    Raises:
        DeclarationError: No worker can import the task: its name exists in this process only.
    """
    if extension.app.conf.task_always_eager or extension.pool is not None:
        # The job runs in this process, or a worker does.
        return
    if task.module == SCRIPT:
        _check_script(extension, task)
    if extension.config.store.startswith("memory:"):
        _warn_once(
            extension,
            "memory",
            f"the store {extension.config.store} is in this process's memory: only workers that run in this process "
            "see it, and other workers never begin its jobs. Give connect() a store that all processes share: "
            "s3://bucket/prefix, or file:///directory on one machine",
        )


def _check_script(extension: Extension, task: Declaration) -> None:
    if task.name.startswith(f"{SCRIPT}."):
        raise DeclarationError(
            f"{task.name} is declared in the script that runs, and no worker can import {SCRIPT}: workers would "
            "discard its messages as unregistered. Move the task into a module that workers import (include=[…]), or "
            "set `name` on it and have workers import this script as a module. `run` works as it is"
        )
    if getattr(sys.modules.get(SCRIPT), "__file__", None) is None:
        _warn_once(
            extension,
            task.name,
            f"{task.name} is declared at a prompt or in a notebook, which no worker can import: move it into a module "
            "that workers import, unless they declare a task of the same name themselves",
        )


def _warn_once(extension: Extension, about: str, text: str) -> None:
    if about not in extension.warned:
        extension.warned.add(about)
        _LOG.warning("%s", text)
