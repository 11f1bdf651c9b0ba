"""The Celery app of the demo's workers and caller. Broker and store come from the environment."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from celery import Celery

import fanout

SETTINGS = "FANOUT_DEMO_SETTINGS"
"""Environment variable with the Celery settings of the embedded broker, as JSON."""

WORD = re.compile(r"[A-Za-z]+")

app = Celery("fanout-demo")
app.conf.update(
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    **json.loads(os.environ.get(SETTINGS, "{}")),
)
fanout.connect(app, stall_s=10)


def count_words(text: str) -> Counter[str]:
    """Count the words of three letters or more, in lower case."""
    return Counter(word.lower() for word in WORD.findall(text) if len(word) > 2)


class WordCount(fanout.ForkJoinTask):
    """A word count of many documents."""

    input_schema = {"documents": {"type": "list", "required": True, "schema": {"type": "string"}}}

    @staticmethod
    def setup(documents: list[str]) -> list[dict[str, Any]]:
        return [{"document": document} for document in documents]

    @staticmethod
    def process(document: str) -> Counter[str]:
        return count_words(document)

    @staticmethod
    def join(word_counters: Iterable[Counter[str]]) -> Counter[str]:
        total: Counter[str] = Counter()
        for counter in word_counters:
            total.update(counter)
        return total
