"""The caller, a process of its own: `python -m benchmarks.memory.caller CASE`, driven through its standard streams.

First it runs a tiny case of the same variant, so that every process has its connections and modules, as in a service
that has been up for a while, and prints one JSON line with the time that took. It prints another when it is ready,
waits for a line, runs the case, prints one JSON line with the wall time and a fingerprint of the answer, and keeps its
connections open until its input ends: what they carried is read meanwhile.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from ..text import fingerprint
from .app import prepared
from .cases import Case


def main() -> None:
    """Run one case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory.caller", description=__doc__)
    parser.add_argument("case", help="a case by its name: VARIANT-BYTES-CHUNKS-REPEAT")
    parser.add_argument("--document-bytes", type=int, required=True)
    parser.add_argument("--timeout-s", type=float, required=True)
    arguments = parser.parse_args()
    case = Case.parsed(arguments.case, document_bytes=arguments.document_bytes)
    _say({"warm_up_s": _timed(prepared(case.tiny), arguments.timeout_s)[0]})
    run = prepared(case)
    _say({"ready": True})
    if not sys.stdin.readline():
        return
    wall_s, answer = _timed(run, arguments.timeout_s)
    _say({"wall_s": wall_s, "fingerprint": fingerprint(answer)})
    sys.stdin.read()


def _timed(run: Callable[[float], dict[str, int]], timeout_s: float) -> tuple[float, dict[str, int]]:
    started = time.perf_counter()
    answer = run(timeout_s)
    return time.perf_counter() - started, answer


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
