"""The program of a moto server, with one write-once put at a time.

moto looks for the key and then writes it, without a lock between the two. Of writers at once, two may win.
"""

from __future__ import annotations

import sys
import threading
from io import BytesIO
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import main


def serialise_write_once_puts() -> None:
    """Let the moto servers of this process serve one write-once put after the other."""
    call, lock = DomainDispatcherApplication.__call__, threading.Lock()

    def call_alone(application: Any, environ: dict[str, Any], start_response: Any) -> Any:
        if "HTTP_IF_NONE_MATCH" not in environ:
            return call(application, environ, start_response)
        if environ.get("CONTENT_LENGTH"):
            # Read first, so that a slow client holds up no others.
            environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        with lock:
            return call(application, environ, start_response)

    DomainDispatcherApplication.__call__ = call_alone  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    serialise_write_once_puts()
    main(sys.argv[1:])
