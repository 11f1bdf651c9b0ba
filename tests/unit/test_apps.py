"""A call uses the connected app in any thread; if several apps are connected, it uses the current one."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import urllib.request
import uuid
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from celery import Celery, Task, _state, chord, current_app, group
from celery.canvas import Signature

import fanout
from fanout import ConfigError, JobState
from fanout.declaration.definition import TASKS
from fanout.engines.celery import extension, extension_of
from fanout.engines.celery.current_app import ConnectedApps

from .tasks import Numbers, Words


@pytest.fixture(autouse=True)
def _isolate_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disconnect the apps of other tests, and restore Celery's current and default app afterwards."""
    monkeypatch.setattr(TASKS, "_listeners", [])
    monkeypatch.setattr(extension, "CONNECTED", ConnectedApps())
    monkeypatch.setattr(_state, "default_app", None)
    monkeypatch.setattr(_state, "_tls", type(_state._tls)())


def make_app(name: str = "shop", **settings: Any) -> Celery:
    app = Celery(name, broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    app.conf.update(task_default_queue=uuid.uuid4().hex, broker_transport_options={"polling_interval": 0.01})
    app.conf.update(settings)
    return fanout.connect(app, store=f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def app() -> Iterator[Celery]:
    """Yield one connected app, which is not the current app of any thread."""
    made = make_app()
    yield made
    made.close()


def waiting_job_ids(app: Celery) -> list[str]:
    """Return the job ids of the messages that wait in the app's queue."""
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
        return [message.headers["id"] for message in iter(lambda: queue.get(no_ack=True), None)]


def in_pool(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def in_asyncio(work: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.to_thread(work))


class ThreadedServer(ThreadingMixIn, WSGIServer):
    """A server with one thread per request, as gunicorn's gthread, Flask's server and runserver have."""

    daemon_threads = True


class Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def in_web_server(work: Callable[[], Any]) -> Any:
    """Return the result of `work`, which must be JSON, from a request's thread of a WSGI server."""

    def answer(environ: Any, start_response: Any) -> list[bytes]:
        body = json.dumps(work()).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    with make_server("127.0.0.1", 0, answer, ThreadedServer, Silent) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=30) as response:
                return json.load(response)
        finally:
            server.shutdown()
            serving.join()


THREADS = [in_pool, in_asyncio, in_web_server]


@pytest.mark.parametrize("run_in_thread", THREADS)
def test_another_thread_launches_a_job_in_the_connected_app(app: Celery, run_in_thread: Callable[..., Any]) -> None:
    """A job that another thread submits, or launches by a signature, waits in the queue of the connected app."""
    assert run_in_thread(lambda: Words.submit({"documents": ["a"]}).id) == waiting_job_ids(app)[0]
    assert run_in_thread(lambda: Words.signature({"documents": ["a"]})().id) == waiting_job_ids(app)[0]


@pytest.mark.parametrize("run_in_thread", THREADS)
def test_another_thread_sets_up_a_streamed_job(app: Celery, run_in_thread: Callable[..., Any]) -> None:
    """The thread that submits a streamed input runs its setup and sends its chunks through the connected app."""
    run_in_thread(lambda: Words.submit({"documents": iter(["a", "b"])}).id)
    assert len(waiting_job_ids(app)) == 1


@pytest.mark.parametrize("run_in_thread", THREADS)
def test_another_thread_finds_the_app_of_a_job(app: Celery, run_in_thread: Callable[..., Any]) -> None:
    """attach, cancel, retry and resolve use the connected app in any thread."""
    job_id = Words.submit({"documents": ["a"]}).id
    assert run_in_thread(lambda: fanout.attach(job_id).state) == JobState.LAUNCHED
    assert run_in_thread(lambda: fanout.attach(job_id).cancel()) is True
    assert run_in_thread(lambda: fanout.attach(job_id).retry()) is True
    assert len(waiting_job_ids(app)) == 2
    assert run_in_thread(lambda: fanout.resolve([1, 2])) == [1, 2]


@pytest.mark.parametrize("run_in_thread", THREADS)
def test_a_signature_from_json_belongs_to_the_connected_app(app: Celery, run_in_thread: Callable[..., Any]) -> None:
    """A signature that another thread reads from JSON, and its clones, belong to the connected app."""
    text = json.dumps(Words.signature({"documents": ["a"]}))
    assert run_in_thread(lambda: Signature.from_dict(json.loads(text))().id) == waiting_job_ids(app)[0]
    assert run_in_thread(lambda: Signature.from_dict(json.loads(text)).clone().delay().id) == waiting_job_ids(app)[0]


@pytest.mark.parametrize("run_in_thread", THREADS)
def test_groups_and_chords_in_another_thread_find_the_app(app: Celery, run_in_thread: Callable[..., Any]) -> None:
    """Groups and chords of a job's signatures find their app through these signatures."""
    app.conf.result_backend = "cache+memory://"

    @app.task(shared=False)
    def merged(values: list[Any]) -> None:
        """Do nothing, as the body of a chord."""

    made = Words.signature({"documents": ["a"]})
    assert run_in_thread(lambda: [result.id for result in group([made, made.clone()])()]) == waiting_job_ids(app)
    run_in_thread(lambda: chord([made.clone(), made.clone()])(merged.s()).id)
    assert len(waiting_job_ids(app)) == 2


def test_eager_mode_in_another_thread() -> None:
    """An eager app runs the job in the thread that submits it."""
    app = make_app(task_always_eager=True)
    assert in_pool(lambda: Numbers.submit({"numbers": [1, 2]}).get(1)) == [1, 2]
    app.close()


def test_several_connected_apps_need_an_explicit_app(app: Celery) -> None:
    """With two connected apps the error names both and the remedy, in any thread; `app=` selects one."""
    other = make_app("billing")
    with pytest.raises(ConfigError, match=r"several Celery apps .*\(billing, shop\).*app="):
        in_pool(lambda: Words.submit({"documents": ["a"]}))
    assert in_pool(lambda: Words.submit({"documents": ["a"]}, app=other).id) == waiting_job_ids(other)[0]
    other.close()
    assert in_pool(lambda: Words.submit({"documents": ["a"]}).id) == waiting_job_ids(app)[0]


def test_the_current_app_is_used_among_several(app: Celery) -> None:
    """`set_current` selects the app of its thread, `set_default` that of all threads without a current app."""
    other = make_app("billing")
    other.set_default()
    assert in_pool(lambda: extension_of().app) is other
    app.set_current()
    assert extension_of().app is app
    assert in_pool(lambda: extension_of().app) is other
    other.close()


def test_a_task_uses_its_own_app(app: Celery) -> None:
    """A task that runs in a worker's thread launches jobs through its own app, whatever the current app is."""
    other = make_app("billing")
    other.set_default()

    @app.task(bind=True, shared=False)
    def launch(self: Task[Any, Any]) -> bool:
        return extension_of().app is app

    assert in_pool(lambda: launch.apply().get()) is True
    other.close()


def test_connecting_the_proxy_connects_its_present_app() -> None:
    """`connect(current_app, …)` connects the app behind the proxy, and not the current app of another thread."""
    made = Celery("proxied", broker="memory://", set_as_current=True)
    try:
        assert fanout.connect(current_app, store="memory://x") is made
        assert in_pool(lambda: extension_of().app) is made
    finally:
        made.close()


def test_without_a_connected_app_the_error_names_connect() -> None:
    """Without a connected app, the error in any thread says to call `connect`."""
    Celery("bare", set_as_current=False).set_default()
    with pytest.raises(ConfigError, match=r"call fanout\.connect\(app"):
        in_pool(lambda: Words.submit({"documents": []}))


def test_a_collected_app_is_no_longer_connected(app: Celery) -> None:
    """A connected app without references is collected, closed or not, and the other app is again the only one."""
    dropped = weakref.ref(make_app("dropped"))
    made = dropped()
    assert made is not None
    made.finalize()
    del made
    gc.collect()
    assert dropped() is None
    assert in_pool(lambda: extension_of().app) is app
