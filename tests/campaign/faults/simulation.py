"""The simulation of the protocol, which runs far more schedules than real processes could."""

from __future__ import annotations

import subprocess
import sys

from ..fault import Fault, Plan, Row
from ..site import Site

MODULE = "tests.simulation"


class Simulation(Fault):
    """Lost, late and duplicate messages, and crashes between any two calls, in virtual time. A trial is a schedule.

    A quick campaign leaves it out, because `tests/simulation` plays the first 600 schedules.
    """

    name = "simulation"
    title = "Simulated schedules: lost, late and doubled messages, crashes between any two storage calls"
    gate = "100,000 schedules: 0 violations"
    full = 100_000
    quick = 0
    conditions = None

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        command = [
            sys.executable,
            "-m",
            MODULE,
            "--schedules",
            str(plan.trials),
            "--seed",
            str(plan.seed),
            "--jobs",
            "2",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        row.trials = plan.trials
        row.require(
            done.returncode == 0, f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        row.notes += done.stdout.strip().splitlines()[-1:]
