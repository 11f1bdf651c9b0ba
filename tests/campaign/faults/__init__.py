"""All faults, in the order of the table: faults with the same conditions follow each other."""

from __future__ import annotations

from importlib.util import find_spec

from ..fault import Fault
from .broker import BrokerKills, WireCuts
from .damage import Damage
from .kills import BoundaryKills, RandomKills
from .messages import Duplicates, ExpiredMessages, PurgedMessages, UnregisteredTask
from .revocation import Revoked
from .secrets import Secrets
from .simulation import MODULE, Simulation
from .sinks import SinkKills
from .sizes import Sizes
from .sources import ChangedInput
from .steps import Nondeterministic, Poison, Zombies
from .store import CLIENTS, store_faults

FAULTS: list[Fault] = [
    RandomKills(),
    BoundaryKills(),
    SinkKills(),
    Zombies(),
    PurgedMessages(),
    ExpiredMessages(),
    UnregisteredTask(),
    Revoked(),
    Damage(),
    BrokerKills(),
    Poison(),
    Nondeterministic(),
    ChangedInput(),
    Duplicates(),
    Sizes(),
    WireCuts(),
    *store_faults(CLIENTS[0]),
    *store_faults(CLIENTS[1], brief=True),
    Secrets(),
    *([Simulation()] if find_spec(MODULE) else []),
]
