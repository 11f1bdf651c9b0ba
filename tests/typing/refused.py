"""Misuse that type checkers refuse: each line with `refused` is an error; never run."""

from __future__ import annotations

from collections import Counter

from fanout import Job

from .accepted import Squares, WordCount

WordCount.run()  # refused
WordCount.run(["a b"])  # refused
WordCount.run({"documents": []}, executor="fibers")  # refused
WordCount.run(values=3)  # refused
WordCount.submit()  # refused
WordCount.submit({"documents": []}, job_id=7)  # refused
WordCount.signature({}, receives=3)  # refused
text: str = WordCount.run({"documents": []})  # refused
number: int = WordCount.submit({"documents": []}).get()  # refused
counter: Counter[str] = Squares.run({"numbers": [1]})  # refused
Squares.submit({"numbers": [1]}).get(timeout="soon")  # refused


def wait(job: Job[int]) -> int:
    return job.get().upper()  # refused


wait(WordCount.submit({"documents": []}))  # refused
