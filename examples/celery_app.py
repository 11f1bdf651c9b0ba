"""The examples in a Celery app.

An app needs three lines for fork-join tasks: the recommended settings, `fanout.connect`, and an import of the modules
that declare tasks. A task is then a signature like any other. Addresses come from the environment:

    CELERY_BROKER_URL       such as amqp://guest:guest@localhost//
    CELERY_RESULT_BACKEND   such as rpc://, for Celery's own results; jobs need none
    FANOUT_STORE            such as s3://bucket/prefix; credentials and AWS_ENDPOINT_URL_S3 as boto3 reads them

Start a worker in one terminal and run the examples on it from another:

    celery -A examples.celery_app worker
    python -m examples.celery_app

Without CELERY_BROKER_URL the second command needs no worker: it uses Celery's eager mode and a store in memory.
"""

from __future__ import annotations

import os
from collections import Counter

from celery import Celery, chain

import fanout

from . import digests, edit_design, sum_numbers, tpch, word_count  # noqa: F401 - two have commands of their own
from .simulated_edits import simulate

# Celery reads the first two variables itself, fanout reads the third.
app = Celery("examples")
app.conf.update(fanout.RECOMMENDED, task_default_queue="examples", broker_connection_retry_on_startup=True)
fanout.connect(app)


# The task has an explicit name, because this module is `__main__` under `python -m` and not on the worker.
@app.task(name="examples.commonest")
def commonest(value: dict[str, dict[str, int]]) -> list[str]:
    """Return the three most common words of a word count, which may arrive as a reference."""
    counts = Counter(fanout.resolve(value, app=app)["word_count"])
    return [word for word, _ in counts.most_common(3)]


def main() -> None:
    """Run a chain of a fork-join task and an ordinary one, and two jobs."""
    if not os.environ.get("CELERY_BROKER_URL"):
        app.conf.task_always_eager = True
        fanout.connect(app, store="memory://examples")

    documents = ["so long and thanks for all the fish", "so sad that it should come to this", "so long so long"]
    words = chain(word_count.WordCounterTask.signature({"documents": documents}, app=app), commonest.s())
    # Without a result backend, Celery has no value to return.
    if app.conf.task_always_eager or app.conf.result_backend:
        print("commonest words:", ", ".join(words.delay().get(timeout=60)))

    total = sum_numbers.SumNumbers.submit({"numbers": list(range(1, 101))}, app=app)
    print("sum of 1 to 100:", total.get(timeout=60))

    inputs, _ = simulate()
    design = edit_design.EditDesign.submit(inputs, app=app).get(timeout=60)
    print(f"{len(inputs['edits'])} edits: {design['placed']} placed, {design['ambiguous']} ambiguous,", end=" ")
    print(f"{design['failed']} failed")


if __name__ == "__main__":
    main()
