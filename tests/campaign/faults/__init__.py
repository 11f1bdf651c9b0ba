"""All faults, in the order of the table: those that ask the same of the crew stand together."""

from __future__ import annotations

from importlib.util import find_spec

from ..fault import Fault
from .broker import BrokerKills, WireCuts
from .damage import Damage
from .kills import BoundaryKills, RandomKills
from .messages import Doubled, Expired, Purged, Unregistered
from .revocation import Revoked
from .simulation import MODULE, Simulation
from .sizes import Sizes
from .steps import Fickle, Poison, Zombies
from .store import CLIENTS, store_faults

FAULTS: list[Fault] = [
    RandomKills(),
    BoundaryKills(),
    Zombies(),
    Purged(),
    Expired(),
    Unregistered(),
    Revoked(),
    Damage(),
    BrokerKills(),
    Poison(),
    Fickle(),
    Doubled(),
    Sizes(),
    WireCuts(),
    *store_faults(CLIENTS[0]),
    *store_faults(CLIENTS[1], brief=True),
    *([Simulation()] if find_spec(MODULE) else []),
]
