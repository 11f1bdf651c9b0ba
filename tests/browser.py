"""A headless browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_browser() -> str:
    """Return the program of a browser. Without one, skip the test, in CI too: some systems have no package of one."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(PROGRAMS)} is installed: run .ci/install")
    return found


def open_page(browser: str, url: str, profile: Path, *options: str, budget_s: int = 30) -> str:
    """Open a page, let it run until it has nothing left to do, and return what the browser prints.

    Args:
        browser: The program.
        url: Address of the page.
        profile: Directory for the browser's own files.
        *options: Further options of the browser, such as `--dump-dom`.
        budget_s: Seconds by the page's clock at most. That clock leaps over waits, and stands while a request runs.
    """
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={profile}", f"--virtual-time-budget={budget_s * 1000}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Uncaught" not in done.stderr, done.stderr
    return done.stdout
