"""The Celery engine: the only part of fanout that imports celery.

Attaching fanout to an app:
extension.py       what `connect` adds to an app: the runtime, the registered tasks
current_app.py     which app is used if a call names none
settings.py        which settings an app should have, and the danger if they differ
checkup.py         what `fanout doctor` reports about the app, its broker and its workers

Launching jobs and waiting for them:
signature.py       a job as a Celery signature; submit
signature_codec.py a submission as the argument of a signature
options.py         options of a signature: which of them every message of the job gets
preflight.py       checks before a launch that some worker can run the job
listener.py        how a caller learns of a job's end without asking the store
values.py          how a job's value passes through Celery's serializers

Taking messages:
intake.py          what a worker's main process drops before Celery acts upon it
envelope.py        a message's headers, and the tasks that follow, checked
messages.py        the arguments of each step's messages, checked
expansion.py       limits on what a compressed message may become
signing.py         signatures of messages

Running jobs:
tasks.py           the three Celery tasks of a declared task
stage_task.py      their base class: redelivery, retries, and how errors end a job
task_base.py       Celery's task class, as it may be derived from on each version
task_hooks.py      guards around an app's own task class
request.py         a stage's message in the worker's main process: time limits and shutdowns
revocation.py      how a revoked Celery task cancels its job
store_mismatch.py  detects messages whose sender uses another store
sweeper.py         the Celery task that sweeps, for celery beat

Sending messages:
dispatcher.py      turns chunk refs and joins into messages
publishing/        publishing to a broker that may be slow, full or unreachable
"""

from .checkup import check_app
from .extension import Extension, connect, extension_of
from .settings import Advice, advice
from .signature import ForkJoinSignature, signature, submit
from .values import resolve

__all__ = [
    "Advice",
    "Extension",
    "ForkJoinSignature",
    "advice",
    "check_app",
    "connect",
    "extension_of",
    "resolve",
    "signature",
    "submit",
]
