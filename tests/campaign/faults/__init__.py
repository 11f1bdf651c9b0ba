"""All faults, in the order of the table: those that ask the same of the crew stand together."""

from __future__ import annotations

from ..fault import Fault
from .kills import BoundaryKills, RandomKills

FAULTS: list[Fault] = [RandomKills(), BoundaryKills()]
