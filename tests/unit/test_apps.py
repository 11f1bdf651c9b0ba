"""In any thread the connected app is meant, and where several are, the one that says so."""

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
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """No app of another test is connected, and Celery's current app and default are back afterwards."""
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
    """One connected app, which is not the current one of the thread that the tests run in either."""
    made = make_app()
    yield made
    made.close()


def waiting(app: Celery) -> list[str]:
    """The job ids of the messages that wait in the app's queue."""
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
        return [message.headers["id"] for message in iter(lambda: queue.get(no_ack=True), None)]


def in_pool(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def in_asyncio(work: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.to_thread(work))


class ThreadedServer(ThreadingMixIn, WSGIServer):
    """A thread for each request, as gunicorn's gthread, Flask's server and runserver have."""

    daemon_threads = True


class Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Not to the test's output."""


def in_web_server(work: Callable[[], Any]) -> Any:
    """What `work` gives in a request's thread of a WSGI server; a plain value."""

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


@pytest.mark.parametrize("elsewhere", THREADS)
def test_a_job_is_launched_in_another_thread(app: Celery, elsewhere: Callable[..., Any]) -> None:
    """Submitted, or as a signature made and called there, it is in the queue of the app that is connected."""
    assert elsewhere(lambda: Words.submit({"documents": ["a"]}).id) == waiting(app)[0]
    assert elsewhere(lambda: Words.signature({"documents": ["a"]})().id) == waiting(app)[0]


@pytest.mark.parametrize("elsewhere", THREADS)
def test_a_stream_is_set_up_in_another_thread(app: Celery, elsewhere: Callable[..., Any]) -> None:
    """A job whose input is streamed is cut in that thread, and its chunks are sent by that app."""
    elsewhere(lambda: Words.submit({"documents": iter(["a", "b"])}, chunk_items=1).id)
    assert len(waiting(app)) == 2


@pytest.mark.parametrize("elsewhere", THREADS)
def test_what_looks_at_a_job_in_another_thread(app: Celery, elsewhere: Callable[..., Any]) -> None:
    """attach, cancel, retry and opened find the app as well."""
    job_id = Words.submit({"documents": ["a"]}).id
    assert elsewhere(lambda: fanout.attach(job_id).state) == JobState.LAUNCHED
    assert elsewhere(lambda: fanout.attach(job_id).cancel()) is True
    assert elsewhere(lambda: fanout.attach(job_id).retry()) is True
    assert len(waiting(app)) == 2
    assert elsewhere(lambda: fanout.resolve([1, 2])) == [1, 2]


@pytest.mark.parametrize("elsewhere", THREADS)
def test_a_signature_that_travelled(app: Celery, elsewhere: Callable[..., Any]) -> None:
    """One that is read from JSON in another thread, and its clones, belong to the connected app."""
    text = json.dumps(Words.signature({"documents": ["a"]}))
    assert elsewhere(lambda: Signature.from_dict(json.loads(text))().id) == waiting(app)[0]
    assert elsewhere(lambda: Signature.from_dict(json.loads(text)).clone().delay().id) == waiting(app)[0]


@pytest.mark.parametrize("elsewhere", THREADS)
def test_groups_and_chords_in_another_thread(app: Celery, elsewhere: Callable[..., Any]) -> None:
    """What is made of signatures of ours finds its app by them."""
    app.conf.result_backend = "cache+memory://"

    @app.task(shared=False)
    def merged(values: list[Any]) -> None:
        """A chord's body."""

    made = Words.signature({"documents": ["a"]})
    assert elsewhere(lambda: [result.id for result in group([made, made.clone()])()]) == waiting(app)
    elsewhere(lambda: chord([made.clone(), made.clone()])(merged.s()).id)
    assert len(waiting(app)) == 2


def test_eager_mode_in_another_thread() -> None:
    """An eager app runs the job in that thread."""
    app = make_app(task_always_eager=True)
    assert in_pool(lambda: Numbers.submit({"numbers": [1, 2]}).get(1)) == [1, 2]
    app.close()


def test_of_several_apps_none_is_guessed(app: Celery) -> None:
    """With two connected apps the error names both and the remedy, in any thread; app= says which."""
    other = make_app("billing")
    with pytest.raises(ConfigError, match=r"several Celery apps .*\(billing, shop\).*app="):
        in_pool(lambda: Words.submit({"documents": ["a"]}))
    assert in_pool(lambda: Words.submit({"documents": ["a"]}, app=other).id) == waiting(other)[0]
    other.close()
    assert in_pool(lambda: Words.submit({"documents": ["a"]}).id) == waiting(app)[0]


def test_of_several_apps_the_current_one_is_meant(app: Celery) -> None:
    """set_current says so for its thread, set_default for all threads that have none."""
    other = make_app("billing")
    other.set_default()
    assert in_pool(lambda: extension_of().app) is other
    app.set_current()
    assert extension_of().app is app
    assert in_pool(lambda: extension_of().app) is other
    other.close()


def test_within_a_task_its_app_is_meant(app: Celery) -> None:
    """A task that runs in a worker's thread launches jobs by its own app, whatever the current one is."""
    other = make_app("billing")
    other.set_default()

    @app.task(bind=True, shared=False)
    def launch(self: Task[Any, Any]) -> bool:
        return extension_of().app is app

    assert in_pool(lambda: launch.apply().get()) is True
    other.close()


def test_connecting_the_current_app_means_the_app_of_now() -> None:
    """`connect(current_app, …)` connects the app that it stands for, not whichever another thread has."""
    made = Celery("proxied", broker="memory://", set_as_current=True)
    try:
        assert fanout.connect(current_app, store="memory://x") is made
        assert in_pool(lambda: extension_of().app) is made
    finally:
        made.close()


def test_no_app_says_how_to_connect_one() -> None:
    """Without a connected app, any thread is told to call connect."""
    Celery("bare", set_as_current=False).set_default()
    with pytest.raises(ConfigError, match=r"call fanout\.connect\(app"):
        in_pool(lambda: Words.submit({"documents": []}))


def test_an_app_that_nothing_refers_to_is_gone(app: Celery) -> None:
    """An app that a factory made and dropped is no second app, closed or not."""
    dropped = weakref.ref(make_app("dropped"))
    made = dropped()
    assert made is not None
    made.finalize()
    del made
    gc.collect()
    assert dropped() is None
    assert in_pool(lambda: extension_of().app) is app
