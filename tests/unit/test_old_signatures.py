"""An application may keep a signature for long: in a celery beat schedule, or as a constant of a module."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

import fanout
from fanout import InvalidInput
from fanout.engines.celery import extension_of, signature_codec
from fanout.sweep import sweep
from storage import ObjectStore
from tests.stores import ScriptedStore

from .tasks import Numbers

RETENTION_S = 7 * 24 * 3600.0
VALUES = {"numbers": list(range(5000))}


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("old", broker="memory://", set_as_current=False)
    fanout.connect(app, store=f"memory://{uuid.uuid4()}", retention_s=RETENTION_S)
    extension_of(app).runtime.store = ScriptedStore()
    app.finalize()
    yield app
    app.close()


def make_signature(app: Celery, *, days: float) -> Any:
    """Return a signature that was made so many days ago."""
    store = extension_of(app).runtime.store
    assert isinstance(store, ScriptedStore)
    signature = Numbers.signature(VALUES, app=app)
    store.age(days * 24 * 3600)
    signature["kwargs"]["submission"]["made_at"] -= int(days * 24 * 3600)
    return signature


def parameters(store: ObjectStore) -> list[str]:
    return [found.key for found in store.list("_parameters/")]


def test_a_launch_renews_the_parameters_of_its_signature(app: Celery) -> None:
    """A schedule that launches a signature every ten days keeps its large parameters in the store."""
    signature, runtime = make_signature(app, days=10), extension_of(app).runtime
    for _ in range(5):
        job_id = signature.clone().apply_async().id
        fanout.attach(job_id, app=app).remove()
        assert isinstance(runtime.store, ScriptedStore)
        runtime.store.age(10 * 24 * 3600)
        list(sweep(runtime))
        assert len(parameters(runtime.store)) == 1


def test_a_launch_whose_parameter_was_removed_names_the_remedy(app: Celery) -> None:
    """A launch whose large parameter was removed raises. The error has the field, the lifetime and the remedy."""
    signature, runtime = make_signature(app, days=15), extension_of(app).runtime
    list(sweep(runtime))
    assert parameters(runtime.store) == []
    with pytest.raises(InvalidInput, match=r"numbers: is no longer in the store.*14 days.*Make the signature anew"):
        signature.apply_async(task_id="own")
    with pytest.raises(LookupError):
        fanout.attach("own", app=app).progress()


def test_a_young_signature_costs_no_request(app: Celery) -> None:
    """Only the launch of an old signature renews its parameters."""
    runtime = extension_of(app).runtime
    body = Numbers.signature(VALUES, app=app)["kwargs"]["submission"]
    assert isinstance(runtime.store, ScriptedStore)
    runtime.store.log.clear()
    signature_codec.renew(body, signature_codec.decode(body, Numbers.declaration), runtime)
    assert runtime.store.log == []
