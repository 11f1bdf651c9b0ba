"""The caller's process: `python -m benchmarks.runner CONTENDER TIMEOUT_S PIPE`. It prepares and runs what it is told.

Its first workload is a tiny one, so that modules are imported and connections open. Its connections stay open until the
pipe is closed: what they carried is counted meanwhile.
"""

from __future__ import annotations

import sys
import time
from multiprocessing.connection import Connection

from .contenders import CONTENDERS, Measured, Prepare


def main(contender: str, timeout_s: float, pipe: Connection) -> None:
    """Serve until the pipe is closed; an error is sent as its text, and is the end."""
    try:
        with CONTENDERS[contender].open() as prepare:
            _serve(prepare, timeout_s, pipe)
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
        raise


def _serve(prepare: Prepare, timeout_s: float, pipe: Connection) -> None:
    while True:
        job = prepare(pipe.recv())
        pipe.send(None)
        walls_s, values, spans = [], [], []
        for _ in range(pipe.recv()):
            began_at, started = time.time(), time.perf_counter()
            values.append(job(timeout_s))
            walls_s.append(time.perf_counter() - started)
            spans.append((began_at, began_at + walls_s[-1]))
        noted = values[-1].find() if isinstance(values[-1], Measured) else {}
        answers = [value.answer if isinstance(value, Measured) else value for value in values]
        pipe.send((walls_s, answers, spans, noted))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Connection(int(sys.argv[3])))
