"""The Celery engine: the only part of fanout that imports celery.

extension.py   what `connect` adds to an app: the runtime, the registered tasks
apps.py        which app is meant where none is named
stage_task.py  what the three have in common: when a message comes back, what ends it
tasks.py       the three Celery tasks of a declared task
sweeper.py     the Celery task that sweeps, for beat
signature.py   a job as a Celery signature; submit
elsewhere.py   messages whose job lies in another store than this worker's
foresight.py   what is known at the launch of a job that no worker can run
bell.py        how a caller learns of a job's end without asking the store
messages.py    what the messages for setup and join say, checked
carrier.py     how handles and joins become messages
options.py     options of a signature: which of them all messages of its job have
surroundings.py  what an app's own task class does around a stage
offering.py    for how long a message is offered to a broker that does not take it
publisher.py   messages that RabbitMQ confirms, many at once
bounded.py     a connection on which nothing waits without a limit
undoing.py     a launch that fails leaves no job behind
returning.py   a stage's own message, when the broker takes no other
values.py      what a value becomes on its way through Celery
request.py     a stage's message in the worker's main process: time limits and shutdowns
revocation.py  a revoked task is a cancelled job, on record
settings.py    what the app's settings should be, and the danger where they differ
checkup.py     what `fanout doctor` finds out about the app, its broker and its workers
"""

from .checkup import check_app
from .extension import Extension, attach, connect, extension_of
from .settings import Advice, advice
from .signature import ForkJoinSignature, signature, submit
from .values import resolve

__all__ = [
    "Advice",
    "Extension",
    "ForkJoinSignature",
    "advice",
    "attach",
    "check_app",
    "connect",
    "extension_of",
    "resolve",
    "signature",
    "submit",
]
