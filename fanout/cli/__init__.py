"""The command `fanout`.

exit_codes.py      what each error means to a shell: a sentence and an exit status
command.py         click's commands, with `--debug` and with errors as one sentence
loading.py         the Celery app, the store and the task that a command line names
values.py          input and options of a job, from files and words
output.py          tables for people, JSON for programs
following.py       the progress of a job while it runs
launching.py       run, submit
planning.py        plan
listing.py         jobs list
showing.py         jobs show, watch
reading.py         jobs value, results, failures
reporting.py       jobs report
changing.py        jobs retry, cancel, remove
upkeep.py          sweep, doctor
"""

from __future__ import annotations

import click

from .. import __version__
from .changing import cancel, remove, retry
from .command import Group, RootGroup
from .launching import run, submit
from .listing import list_jobs
from .loading import app_option, store_option
from .planning import plan
from .reading import failures, results, value
from .reporting import report
from .showing import show, watch
from .upkeep import doctor, sweep

__all__ = ["main"]


@click.group(cls=RootGroup)
@click.version_option(__version__)
def main() -> None:
    """Fork-join tasks for Celery whose data stays off the broker.

    Exit status: 0 done; 1 the job failed, or doctor found something broken; 2 wrong usage or input; 3 not found; 4 not
    in time; 5 store or broker can't be used; 6 refused, because of the job's state or limit; 70 a defect of fanout; 130
    interrupted.
    """


@click.group(cls=Group)
@app_option
@store_option
def jobs(app: str | None, store: str | None) -> None:
    """List, show, watch, cancel, retry and remove the jobs of an app, or of a store.

    -A or --store may be given before or after the command's name. With --store no app is needed, and retry is refused.
    """


for subcommand in (list_jobs, show, watch, value, results, failures, report, retry, cancel, remove):
    jobs.add_command(subcommand)
for command in (run, submit, plan, jobs, sweep, doctor):
    main.add_command(command)
