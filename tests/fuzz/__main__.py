"""The command: `python -m tests.fuzz --messages 1000000 --objects 1000000 --live 10000`."""

from __future__ import annotations

import sys
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context

import click

from .messages import MessageFuzz
from .objects import ObjectFuzz
from .run import Findings, run_block

BLOCK = 20_000
"""Cases of one process, so that a crash tells where it was."""
BLOCK_S = 1800
"""Seconds after which it has hung."""


@click.command()
@click.option("--messages", default=1_000_000, show_default=True, help="Mutated messages through the parser.")
@click.option("--objects", default=1_000_000, show_default=True, help="Mutated objects through the codec.")
@click.option("--live", default=10_000, show_default=True, help="Mutated messages to live workers.")
@click.option("--seed", default=0, show_default=True, help="Another one makes other cases.")
@click.option("--only", type=int, help="Run the case with this number alone.")
@click.option("--guided", default=0, show_default=True, help="Seconds of atheris on the codec, guided by coverage.")
def fuzz(messages: int, objects: int, live: int, seed: int, only: int | None, guided: int) -> None:
    """Mutate messages and objects. Ends with 1 if something was found."""
    found = 0
    for kind, count in ((MessageFuzz, messages), (ObjectFuzz, objects)):
        numbers = range(count) if only is None else range(only, only + 1)
        if count:
            found += _run_all(kind, numbers, seed)
    if guided:
        from .guided import run_guided

        found += run_guided(guided)
    if live and only is None:
        from .live import run_live

        found += run_live(live, seed=seed)
    sys.exit(1 if found else 0)


def _run_all(kind: type[MessageFuzz] | type[ObjectFuzz], numbers: range, seed: int) -> int:
    began, found, total = time.monotonic(), 0, Findings()
    for start in range(0, len(numbers), BLOCK):
        block = numbers[start : start + BLOCK]
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                findings = pool.submit(run_block, kind, block, seed).result(timeout=BLOCK_S)
            except (BrokenExecutor, TimeoutError) as error:
                click.echo(f"{kind.name}: the process of cases {block.start} to {block.stop - 1} died: {error!r}")
                found += 1
                continue
        total.counts += findings.counts
        total.grown_bytes = max(total.grown_bytes, findings.grown_bytes)
        for number, trace in findings.errors.items():
            found += 1
            click.echo(f"{kind.name}: case {number} of seed {seed}:\n{trace}")
    ways = ", ".join(f"{count:,} {way}" for way, count in sorted(total.counts.items()))
    click.echo(
        f"{kind.name}: {ways}; {total.grown_bytes / 2**20:.0f} MiB more memory, {time.monotonic() - began:.0f} s"
    )
    return found


if __name__ == "__main__":
    fuzz()
