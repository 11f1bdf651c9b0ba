"""The caller's process: `python -m benchmarks.race.runner ENTRY`, driven through its standard streams.

It opens its entry's engine, and runs every load that it is given as a line of JSON. For each it makes the input,
prints `{"ready": true}`, waits for a line, does the work as often as it was told, and prints one JSON line: when each
run began and ended, and whether all answers were right. The first load is a small one, so that modules are imported and
connections open. When its input ends it puts away what it started.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from .engines import opened
from .entries import ENTRIES
from .works import WORKS, Load


def main() -> None:
    """Run the loads that standard input names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race.runner", description=__doc__)
    parser.add_argument("entry", choices=list(ENTRIES))
    parser.add_argument("--timeout-s", type=float, required=True)
    arguments = parser.parse_args()
    # What a framework prints must not get between our lines.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=lines, flush=True)

    with opened(ENTRIES[arguments.entry]) as engine:
        for line in sys.stdin:
            order = json.loads(line)
            load = Load(**order["load"])
            run = engine(load)
            say({"ready": True})
            if not sys.stdin.readline():
                return
            walls_s, answers, runs = [], [], []
            for _ in range(order["times"]):
                started, began_at = time.perf_counter(), time.time()
                answers.append(run(arguments.timeout_s))
                walls_s.append(time.perf_counter() - started)
                runs.append((began_at, began_at + walls_s[-1]))
            right = all(_right(load, answer) for answer in answers)
            say({"walls_s": walls_s, "right": right, "runs": runs})


def _right(load: Load, answer: Any) -> bool:
    if load.work in WORKS:
        return bool(answer == WORKS[load.work].expected(load))
    # What was encoded is a little more than the text, and what is decoded is the text.
    return bool(load.size_bytes <= answer < load.size_bytes * 1.01)


if __name__ == "__main__":
    main()
