"""The caller: a small web server. A request for `/<case>?place=<directory>` runs a case and tells what came of it.

`python -m tests.storm.web main PORT` serves in its main thread, `… threads PORT` each request in a thread of its own.
Gunicorn is given `application`; uvicorn `in_thread` or `in_loop`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs, unquote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from .app import app, configuration
from .cases import CASES
from .ground import LIMIT_S, Ground


def run_case(name: str, place: str) -> dict[str, Any]:
    """Run a case; never raises."""
    started = time.monotonic()
    faulthandler.dump_traceback_later(LIMIT_S, file=sys.__stderr__)
    try:
        CASES[name](Ground(app, configuration, Path(place)))
    except BaseException as error:
        text = " ".join(str(error).split())
        told = {"reason": f"{type(error).__name__}: {text:.200}", "traceback": traceback.format_exc()}
    else:
        told = {"reason": "", "traceback": ""}
    finally:
        faulthandler.cancel_dump_traceback_later()
    return {**told, "seconds": round(time.monotonic() - started, 2)}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    place = parse_qs(environ["QUERY_STRING"])["place"][0]
    body = json.dumps(run_case(unquote(environ["PATH_INFO"].strip("/")), place)).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def in_thread(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application whose work is done in a thread."""
    await _answer(send, await asyncio.to_thread(run_case, *_asked(scope)))


async def in_loop(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application that blocks its event loop."""
    await _answer(send, run_case(*_asked(scope)))


def _asked(scope: dict[str, Any]) -> tuple[str, str]:
    return unquote(scope["path"].strip("/")), parse_qs(scope["query_string"].decode())["place"][0]


async def _answer(send: Any, told: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def main(kind: str, port: int) -> None:
    """Serve for ever."""
    server = _Threaded if kind == "threads" else WSGIServer
    with make_server("127.0.0.1", port, application, server_class=server, handler_class=_Quiet) as serving:
        serving.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
