"""Errors name their cause, and survive pickling and Celery's JSON form."""

from __future__ import annotations

import json
import pickle

import pytest

import fanout
from fanout import (
    ConfigError,
    DeclarationError,
    FanoutError,
    InvalidInput,
    InvalidItem,
    JobCancelled,
    JobConflict,
    JobFailed,
    JobNotFound,
    JobTimeout,
    MemoryLimitExceeded,
    RetryRefused,
    UnknownTask,
)

FAILED = ("job-1", "Task", "process", "ValueError: no", 3, 17, 2, "Traceback …\n")
ERRORS = [
    FanoutError("text"),
    DeclarationError("text"),
    ConfigError("text"),
    InvalidInput("Task", {"documents[3]": ["must be of string type", "max length is 5"]}),
    InvalidItem("text"),
    UnknownTask("text"),
    JobNotFound("job-1", "memory://x"),
    JobTimeout("text"),
    JobConflict("job-1", ["its option groups is 1, not 2"]),
    RetryRefused("job-1", "it has succeeded"),
    MemoryLimitExceeded("Task", "worker", 3_000, 2_000, "lower chunk_bytes"),
    JobFailed(*FAILED),
    JobFailed("job-1", "Task", "job", "its deadline has passed"),
    JobCancelled("job-1", "Task", "job", "cancelled by its caller"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: FanoutError) -> None:
    """An unpickled error has the same type, text and attributes."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_json(error: FanoutError) -> None:
    """A result backend stores the arguments as JSON and calls the class with them."""
    copy = type(error)(*json.loads(json.dumps(error.args)))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (DeclarationError, TypeError),
        (ConfigError, ValueError),
        (InvalidInput, ValueError),
        (InvalidItem, TypeError),
        (UnknownTask, LookupError),
        (JobNotFound, LookupError),
        (JobTimeout, TimeoutError),
        (JobConflict, ValueError),
        (RetryRefused, RuntimeError),
        (JobFailed, RuntimeError),
        (JobCancelled, JobFailed),
    ],
)
def test_an_error_is_also_a_builtin(error: type[Exception], builtin: type[Exception]) -> None:
    """Each error can be caught as the builtin that a caller expects."""
    assert issubclass(error, FanoutError)
    assert issubclass(error, builtin)


def test_a_failed_job_names_the_place() -> None:
    """The text names job, task, step, chunk, item, reason, attempts and the worker's traceback."""
    assert str(JobFailed(*FAILED)) == (
        "job job-1: Task.process, chunk 3, item 17: ValueError: no (tried 2 times)\n\nTraceback …\n"
    )
    assert str(JobFailed("job-1", "Task", "process", "no", 0, 0)) == "job job-1: Task.process, chunk 0, item 0: no"
    assert (
        str(JobFailed("job-1", "Task", "job", "its deadline has passed")) == "job job-1: Task: its deadline has passed"
    )


def test_a_missing_job_names_the_store() -> None:
    """The text names the store in which the job was sought, and what may be wrong."""
    assert "job job-1 is not in the store memory://x: check the id" in str(JobNotFound("job-1", "memory://x"))


def test_all_public_names_exist() -> None:
    """Every public name exists, and every public error is exported."""
    for name in fanout.__all__:
        assert getattr(fanout, name) is not None
    assert {type(error).__name__ for error in ERRORS} <= set(fanout.__all__)
