"""Celery apps and tasks for the tests of the command line; the store comes from the environment."""

from celery import Celery

import fanout

app = Celery("cli", broker="memory://", set_as_current=False)
fanout.connect(app)
unconnected = Celery("unconnected", broker="memory://", set_as_current=False)


class Fragile(fanout.ForkJoinTask):
    """Makes integers of texts, each in a chunk of its own, and adds them."""

    input_schema = {"texts": {"type": "list", "required": True}, "title": {"type": "string"}}
    chunk_items = 1
    max_attempts = 1

    def setup(texts):
        return [{"text": text} for text in texts]

    def process(text):
        return int(text)

    def join(numbers, title="total"):
        return {title: sum(numbers.good())}


def run_here(texts: list[str], job_id: str, **options: object) -> fanout.Job[object]:
    """Run a job of `Fragile` to its end in this process, in the store of the app."""
    app.conf.task_always_eager = True
    try:
        return Fragile.submit({"texts": texts}, job_id=job_id, app=app, **options)
    finally:
        app.conf.task_always_eager = False
