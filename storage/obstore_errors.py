"""The errors of obstore, as errors of this package."""

from __future__ import annotations

from typing import Final

from obstore.exceptions import InvalidPathError, PermissionDeniedError, PreconditionError, UnauthenticatedError

from .errors import (
    BucketNotFound,
    InvalidKey,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageUnavailable,
)

_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_SHOWN_CHARACTERS: Final = 300
_PATH_REMEDY: Final = "obstore names no key with an empty, '.' or '..' segment: rename it, or list another folder."


def is_panic(error: BaseException) -> bool:
    """Return whether an error is a panic of obstore, which is no Exception and cannot be imported."""
    return type(error).__name__ == "PanicException"


def is_past_end(error: BaseException) -> bool:
    """Return whether a server refused a range because the object ends before it."""
    text = str(error)
    return "416 Range Not Satisfiable" in text or "InvalidRange" in text


def is_denial(error: BaseException) -> bool:
    """Return whether a server refused the credentials; an expired token is a 400 without a class of its own."""
    return isinstance(error, PermissionDeniedError | UnauthenticatedError) or "ExpiredToken" in str(error)


def find_error(error: BaseException) -> type[StorageError] | None:
    """Return the class of this package's error for one of obstore's; None for an error that is not obstore's."""
    text = str(error)
    if any(name in text for name in _NO_BUCKET):
        return BucketNotFound
    if isinstance(error, FileNotFoundError):
        return ObjectNotFound
    if isinstance(error, PreconditionError) or is_past_end(error):
        return ObjectChanged
    if type(error).__name__ == "AlreadyExistsError":
        return ObjectExists
    if isinstance(error, InvalidPathError):
        return InvalidKey
    if is_denial(error):
        return StorageDenied
    if is_panic(error) or type(error).__module__.partition(".")[0] == "obstore":
        return StorageUnavailable
    return None


def make_error(kind: type[StorageError], error: BaseException, where: str, key: str | None) -> StorageError:
    """Return an error of this package with the first line of obstore's.

    Args:
        kind: Its class; see `find_error`.
        error: obstore's error.
        where: The request: "writing 'a/b' in az://container".
        key: The key concerned, if there is one.
    """
    shown = str(error).partition("\n")[0][:_SHOWN_CHARACTERS]
    return kind(f"{where}: {shown}", key=key, remedy=_PATH_REMEDY if kind is InvalidKey else None)
