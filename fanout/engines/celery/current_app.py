"""The choice of a Celery app for calls that name none."""

from __future__ import annotations

import threading
import weakref

from celery import Celery
from celery._state import _get_active_apps, get_current_app, get_current_task  # type: ignore[attr-defined]
from celery.local import Proxy

from ...errors import ConfigError

ATTRIBUTE = "fanout"
"""Attribute of a connected app that holds its `Extension`."""


class ConnectedApps:
    """The connected apps of this process, without those that were closed or garbage-collected."""

    def __init__(self) -> None:
        self._apps: weakref.WeakSet[Celery] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, app: Celery) -> None:
        """Add an app."""
        with self._lock:
            self._apps.add(app)

    def all(self) -> list[Celery]:
        """Return the apps, sorted by name."""
        with self._lock:
            known = list(self._apps)
        return sorted((app for app in known if app in _get_active_apps()), key=_name)

    def choose(self) -> Celery:
        """Return the app of the running task; else the only connected app; else the current app, if it is connected.

        The current app comes last: Celery has another one in every thread, and in a web server's thread mostly a
        placeholder.

        Raises:
            ConfigError: No app is connected; or several are, and neither the running task's nor the current one is.
        """
        connected = self.all()
        running = get_current_task()
        if running is not None and (app := unwrap(running.app)) in connected:
            return app
        if len(connected) == 1:
            return connected[0]
        current: Celery = get_current_app()
        if current in connected:
            return current
        if connected:
            raise ConfigError(
                f"several Celery apps of this process are connected ({', '.join(map(_name, connected))}), and none of "
                "them is the current app of this thread: name one with app=…, or call set_default() on one"
            )
        raise ConfigError(NOT_CONNECTED)


NOT_CONNECTED = (
    "this Celery app is not connected: call fanout.connect(app, store='s3://bucket/prefix') where the app is created, "
    "in callers and in workers"
)

CONNECTED = ConnectedApps()
"""The connected apps of this process. `connect` adds to it, as a task's declaration adds to `TASKS`."""


def unwrap(app: Celery) -> Celery:
    """Return the app behind a proxy such as `current_app`, which is another app in another thread."""
    # A proxy passes isinstance as if it were the app.
    kind: type = type(app)
    return app._get_current_object() if kind is Proxy else app  # type: ignore[attr-defined]


def _name(app: Celery) -> str:
    return str(app.main or "an app without a name")
