"""The article's examples as printed, on each executor, kind of store and result backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ..tasks import SumTask, WordCounterTask
from .cluster import Cluster, running_cluster

DOCUMENTS = ["hi there you", "there you are", "please say hi"]
COUNTS = {"there": 2, "please": 1, "say": 1, "hi": 2, "are": 1, "you": 2}


@pytest.fixture(scope="module", params=["moto-none", "moto-redis", "ceph-rpc"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster on RabbitMQ with the named store and result backend."""
    store, backend = request.param.split("-")
    server = request.getfixturevalue({"moto": "moto_server", "ceph": "ceph_gateway"}[store])
    backends = {
        "none": lambda: "",
        "rpc": lambda: "rpc://",
        "redis": lambda: request.getfixturevalue("redis_server").url,
    }
    environment = {
        **server.environment,
        "TEST_BROKER": request.getfixturevalue("rabbitmq").url,
        "TEST_BACKEND": backends[backend](),
    }
    with ExitStack() as stack:
        yield stack.enter_context(running_cluster(tmp_path_factory.mktemp("article"), environment, workers=1))


@pytest.mark.usefixtures("cluster")
def test_signature_as_printed() -> None:
    """A called signature launches the job and returns an object with `get`."""
    assert WordCounterTask.signature({"documents": DOCUMENTS})().get()["word_count"] == COUNTS


@pytest.mark.usefixtures("cluster")
def test_parameter_bypasses_setup() -> None:
    """Process receives a parameter that setup does not pass on."""
    documents = [document.replace(" ", ",") for document in DOCUMENTS]
    value = WordCounterTask.signature({"documents": documents, "delimiter": ","})().get(60)
    assert value["word_count"] == COUNTS


@pytest.mark.usefixtures("cluster")
def test_the_value_keeps_its_type() -> None:
    """A Counter arrives as a Counter, over the store and the broker."""
    value = WordCounterTask.submit({"documents": DOCUMENTS}).get(60)
    assert type(value["word_count"]) is Counter


@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
def test_run_in_this_process(executor: str) -> None:
    """The same class gives the same value in this process, without Celery and servers."""
    value = WordCounterTask.run({"documents": DOCUMENTS}, executor=executor, workers=2)  # type: ignore[arg-type]
    assert value == {"word_count": COUNTS}


@pytest.mark.usefixtures("cluster")
def test_submit_a_generator() -> None:
    """A generator, which the caller streams, gives the same value."""
    assert WordCounterTask.submit({"documents": (d for d in DOCUMENTS)}).get(60) == {"word_count": COUNTS}


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("width", [0, 1, 2, 200])
def test_sum_of_any_width(width: int) -> None:
    """Jobs of no chunk, of one, of two and of 200 give their sum."""
    assert SumTask.submit({"numbers": list(range(width))}).get(60) == sum(range(width))


@pytest.mark.usefixtures("cluster")
def test_results_come_in_item_order() -> None:
    """Iteration over a job yields the results of process in the order of the items."""
    numbers = [7, 3, 9, 1, 5] * 10
    assert list(SumTask.submit({"numbers": numbers})) == numbers
