"""All faults, in the order of the table: those that ask the same of the crew stand together."""

from __future__ import annotations

from importlib.util import find_spec

from ..fault import Fault
from .broker import BrokerKills, WireCuts
from .damage import Damage
from .kills import BoundaryKills, RandomKills
from .messages import Doubled, Expired, Purged, Unregistered
from .simulation import MODULE, Simulation
from .sizes import Sizes
from .steps import Fickle, Poison, Zombies
from .store import DroppedAnswers, Resets, Stopped, Truncated, Unavailable5, Unavailable20, Unavailable50

FAULTS: list[Fault] = [
    RandomKills(),
    BoundaryKills(),
    Poison(),
    Zombies(),
    Doubled(),
    Purged(),
    Expired(),
    Unregistered(),
    Fickle(),
    Sizes(),
    Damage(),
    BrokerKills(),
    WireCuts(),
    Unavailable5(),
    Unavailable20(),
    Unavailable50(),
    DroppedAnswers(),
    Truncated(),
    Resets(),
    Stopped(),
    *([Simulation()] if find_spec(MODULE) else []),
]
