"""The plan of a job: its chunks, messages, requests, bytes, price, memory and time, before anything is sent.

plan.py      the plan, and how it is made
shape.py     how items become chunks, messages and objects, by arithmetic
dry_run.py   the same, by running setup without a store and a broker
work.py      how messages run on workers: what is shared out, how often a worker checks for the end
rates.py     the rates that it computes from: given, assumed, or those of a job that has run
requests.py  the number of requests, by verb
times.py     how long each phase lasts
"""

from .plan import LIMIT_ITEMS, LIMIT_S, Plan, find_shape, make_plan
from .rates import Rates
from .requests import Requests
from .shape import Shape
from .times import Assumptions, Times

__all__ = [
    "LIMIT_ITEMS",
    "LIMIT_S",
    "Assumptions",
    "Plan",
    "Rates",
    "Requests",
    "Shape",
    "Times",
    "find_shape",
    "make_plan",
]
