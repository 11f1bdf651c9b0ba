"""The caller: a small web server. A request for `/<case>?directory=<directory>` runs a case and returns its result.

`python -m tests.storm.web main PORT` serves in its main thread, `… threads PORT` serves each request in a new thread.
Gunicorn serves `application`, uvicorn `in_thread` or `in_loop`.
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
from .case_environment import LIMIT_S, CaseEnvironment
from .cases import CASES


def run_case(name: str, directory: str) -> dict[str, Any]:
    """Run a case and return its result. Never raises."""
    started = time.monotonic()
    faulthandler.dump_traceback_later(LIMIT_S, file=sys.__stderr__)
    try:
        CASES[name](CaseEnvironment(app, configuration, Path(directory)))
    except BaseException as error:
        text = " ".join(str(error).split())
        result = {"reason": f"{type(error).__name__}: {text:.200}", "traceback": traceback.format_exc()}
    else:
        result = {"reason": "", "traceback": ""}
    finally:
        faulthandler.cancel_dump_traceback_later()
    return {**result, "seconds": round(time.monotonic() - started, 2)}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve a request, as a WSGI application."""
    directory = parse_qs(environ["QUERY_STRING"])["directory"][0]
    body = json.dumps(run_case(unquote(environ["PATH_INFO"].strip("/")), directory)).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def in_thread(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Run the case in a thread, as an ASGI application."""
    await _respond(send, await asyncio.to_thread(run_case, *_parse_scope(scope)))


async def in_loop(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Run the case in the event loop, which it blocks, as an ASGI application."""
    await _respond(send, run_case(*_parse_scope(scope)))


def _parse_scope(scope: dict[str, Any]) -> tuple[str, str]:
    return unquote(scope["path"].strip("/")), parse_qs(scope["query_string"].decode())["directory"][0]


async def _respond(send: Any, result: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(result).encode()})


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def main(kind: str, port: int) -> None:
    """Serve until the process ends."""
    server = _Threaded if kind == "threads" else WSGIServer
    with make_server("127.0.0.1", port, application, server_class=server, handler_class=_Quiet) as serving:
        serving.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
