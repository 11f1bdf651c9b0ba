"""A connected Celery app for the tests of the command line; its store comes from the environment."""

from celery import Celery

import fanout

app = Celery("cli", broker="memory://", set_as_current=False)
fanout.connect(app)
unconnected = Celery("unconnected", broker="memory://", set_as_current=False)
