"""The report of a job, from its records: where its time went, what it cost, and what to change.

reading.py         reads the records
inputs.py          the sizes of chunks, and since when they are in the store
runs.py            the runs of steps that they tell of, and the lanes in which runs follow each other
attempts.py        the attempts that gave no result
measures.py        workers, stragglers, requests
critical_path.py   the chain of waits and runs from launch to end
pricing.py         the price of requests, traffic and objects
advice.py          rules over the figures, in words
report.py          all of it as one value
histograms.py      histograms, and counts over time
texts.py           the value as lines, as fields, and as HTML for a notebook
timeline.py        the bars of the timeline: of each chunk, or of many chunks together
drawing.py         the charts
tables.py          the tables of the page
style.py           its style, and the script that paints charts in its colours
page.py            the page
costs.py           the cost of each step, which `fanout jobs show --cost` prints
"""

from __future__ import annotations

from .advice import Advice
from .costs import StageCost, describe_costs
from .reading import READ_BYTES, OnProgress, read_records
from .report import Report

__all__ = [
    "READ_BYTES",
    "Advice",
    "OnProgress",
    "Report",
    "StageCost",
    "describe_costs",
    "read_records",
]
