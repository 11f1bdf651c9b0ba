"""The app of a worker without the tasks: it takes their messages from the common queue, and Celery drops them."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("worker-without-tasks", broker=os.environ["CAMPAIGN_BROKER"])
app.conf.update(task_default_queue=os.environ["CAMPAIGN_QUEUE"], broker_connection_retry_on_startup=True)
