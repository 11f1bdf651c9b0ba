"""Tasks of the storm alone. The import makes no app."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from celery import current_task, shared_task

from fanout import ForkJoinTask


class DeliveryTask(ForkJoinTask):
    """A task whose value has queue and priority of its steps' messages."""

    input_schema = {"count": {"type": "integer"}}
    chunk_items = 1

    def setup(count):
        return [{"delivery": read_delivery()} for _ in range(count)]

    def process(delivery):
        return {"setup": delivery, "process": read_delivery()}

    def join(deliveries):
        return {"chunks": list(deliveries), "join": read_delivery()}


class ContextTask(ForkJoinTask):
    """A task that needs Flask's application context in each step."""

    input_schema = {"count": {"type": "integer"}}
    chunk_items = 1

    def setup(count):
        return [{"setup": get_flask_app()} for _ in range(count)]

    def process(setup):
        return {"setup": setup, "process": get_flask_app()}

    def join(names):
        return {"join": get_flask_app(), "chunks": list(names)}


def get_flask_app() -> str:
    """Return the name of the current Flask application. Raises RuntimeError outside its context."""
    from flask import current_app

    return current_app.name


def read_delivery() -> dict[str, Any]:
    """Return routing key and priority of the current message."""
    info = current_task.request.delivery_info or {}
    return {"routing_key": info.get("routing_key"), "priority": info.get("priority")}


@shared_task(bind=True)
def write_settings(self: Any, names: list[str], path: str) -> None:
    """Write a worker's values of these settings to a file, in one rename."""
    values = {name: describe(self.app.conf[name]) for name in names}
    Path(path).with_suffix(".new").write_text(json.dumps(values))
    Path(path).with_suffix(".new").rename(path)


def describe(value: object) -> str:
    """Return a setting as text, without the addresses of functions."""
    return re.sub(r" at 0x\w+", "", repr(value))
