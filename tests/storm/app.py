"""The Celery app of caller and workers, under the configuration that their environment names."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from celery import Celery, Task

import fanout

from .configuration import STALL_S, Configuration
from .configurations import find_configuration

SETTINGS_MODULE = "storm_django_settings"
FLASK_NAME = "storm-flask"


def make_app(configuration: Configuration, environment: Mapping[str, str], *, caller: bool) -> Celery:
    """Return a connected app under this configuration.

    Args:
        configuration: The configuration.
        environment: `STORM_BROKER`, `STORM_BACKEND` and `STORM_STORE`.
        caller: Whether it is for the caller.
    """
    settings = configuration.celery_settings(
        broker=environment["STORM_BROKER"], backend=environment.get("STORM_BACKEND", ""), caller=caller
    )
    store = environment["STORM_STORE"]
    if settings.get("worker_hijack_root_logger") is False:
        logging.basicConfig(level=logging.INFO)
    if configuration.style == "namespace":
        # As in a Django project: Celery reads the module at the first access to a setting.
        app = Celery("storm", set_as_current=False)
        all_settings = {**settings, "fanout_store": store, "fanout_stall_s": STALL_S}
        module = ModuleType(SETTINGS_MODULE)
        vars(module).update({f"CELERY_{name.upper()}": value for name, value in all_settings.items()})
        sys.modules[SETTINGS_MODULE] = module
        app.config_from_object(SETTINGS_MODULE, namespace="CELERY")
        fanout.connect(app)
        app.autodiscover_tasks(["tests", "tests.storm"])
        return app
    app = _make_flask_app(settings) if configuration.style == "flask" else Celery("storm", set_as_current=False)
    app.conf.update(settings)
    app.conf.include = ["tests.tasks", "tests.storm.tasks"]
    return fanout.connect(app, store=store, stall_s=STALL_S)


def _make_flask_app(settings: Mapping[str, Any]) -> Celery:
    """Return an app as Flask documents it: its task class enters the application's context around each task."""
    from flask import Flask

    flask = Flask(FLASK_NAME)

    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with flask.app_context():
                return self.run(*args, **kwargs)

    app = Celery(flask.name, task_cls=FlaskTask, set_as_current=False)
    app.config_from_object(dict(settings))
    flask.extensions["celery"] = app
    return app


def activate(app: Celery, configuration: Configuration) -> list[Celery]:
    """Activate the app as the configuration's caller does, and return the process's other apps, to be kept."""
    if configuration.active == "current":
        app.set_current()
    elif configuration.active == "default":
        app.set_default()
    if configuration.other_app == "unconnected":
        # A library in this process makes it. It becomes the current app, as any new app does.
        return [Celery("other", broker="memory://")]
    if configuration.other_app == "connected":
        other = Celery("other", broker="memory://", set_as_current=False)
        return [fanout.connect(other, store="memory://other")]
    return []


if "STORM_CONFIGURATION" in os.environ:
    configuration = find_configuration(os.environ["STORM_CONFIGURATION"])
    is_caller = "STORM_CALLER" in os.environ
    app = make_app(configuration, os.environ, caller=is_caller)
    others: list[Celery] = []
    if is_caller:
        others = activate(app, configuration)
    else:
        app.set_current()
