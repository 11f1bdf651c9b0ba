"""Which of the Celery apps of a process is meant where none is named."""

from __future__ import annotations

import threading
import weakref

from celery import Celery
from celery._state import _get_active_apps, get_current_app, get_current_task  # type: ignore[attr-defined]
from celery.local import Proxy

from ...errors import ConfigError

ATTRIBUTE = "fanout"
"""Where a connected app has its `Extension`."""


class ConnectedApps:
    """The connected apps of this process, without those that were closed or that nothing refers to any more."""

    def __init__(self) -> None:
        self._apps: weakref.WeakSet[Celery] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, app: Celery) -> None:
        """Count an app among them from now on."""
        with self._lock:
            self._apps.add(app)

    def all(self) -> list[Celery]:
        """The apps, by name."""
        with self._lock:
            known = list(self._apps)
        return sorted((app for app in known if app in _get_active_apps()), key=_name)

    def meant(self) -> Celery:
        """The app of the task that runs here, or the current app, or the only one, if that is connected.

        Celery's current app is another one in every thread, and in a thread of a web server mostly a stand-in.

        Raises:
            ConfigError: No app is connected, or several are and neither of the first two is one of them.
        """
        connected = self.all()
        running = get_current_task()
        if running is not None and (app := itself(running.app)) in connected:
            return app
        if len(connected) == 1:
            return connected[0]
        current: Celery = get_current_app()
        if current in connected:
            return current
        if connected:
            raise ConfigError(
                f"several Celery apps of this process are connected ({', '.join(map(_name, connected))}), and none of "
                "them is the current app of this thread: say which is meant with app=…, or call set_default() on one"
            )
        raise ConfigError(NOT_CONNECTED)


NOT_CONNECTED = (
    "this Celery app is not connected: call fanout.connect(app, store='s3://bucket/prefix') where the app is made, "
    "for callers and workers alike"
)

CONNECTED = ConnectedApps()
"""The connected apps of this process. `connect` adds to it, as declaring a task adds to `TASKS`."""


def itself(app: Celery) -> Celery:
    """The app that `app` stands for: `current_app` is another one in another thread."""
    # Not isinstance, which a stand-in deceives.
    kind: type = type(app)
    return app._get_current_object() if kind is Proxy else app  # type: ignore[attr-defined]


def _name(app: Celery) -> str:
    return str(app.main or "one without a name")
