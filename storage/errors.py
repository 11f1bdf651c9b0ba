"""Errors of stores and of values.

    StorageError
    ├── ObjectNotFound               (FileNotFoundError)    no object under this key
    │   └── UploadGone                                      an upload was aborted before it was completed
    ├── ObjectExists                 (FileExistsError)      a write-once put came second
    ├── ObjectChanged                (ValueError)           an object is not the one that was meant
    ├── BucketNotFound               (FileNotFoundError)    the bucket itself is missing
    ├── StorageUnavailable           (ConnectionError)      the store does not answer; later it may
    ├── StorageUnusable              (RuntimeError)         this process can't make such requests at all
    ├── StorageDenied                (PermissionError)      the store refuses these credentials
    ├── GuaranteeBroken              (NotImplementedError)  the store breaks a guarantee of `ObjectStore`
    │   └── ConditionalWriteUnsupported                     it refuses or ignores write-once puts
    ├── InvalidKey                   (ValueError)           a key that not every store can hold
    ├── InvalidStoreUrl              (ValueError)           a URL that names no store
    ├── CorruptObject                (ValueError)           bytes that are not what was written
    ├── NewerFormat                  (ValueError)           an object of a newer release
    ├── UnknownKey                   (LookupError)          an object is sealed with a key that is not at hand
    ├── NotEncrypted                 (ValueError)           an object is clear, and must be sealed
    ├── MissingPackage               (ImportError)          a value needs a package that is not installed
    ├── UnknownType                  (LookupError)          a value is of a class that is not registered here
    │   └── ChangedType                                     its class is registered, and has changed
    ├── Unregistrable                (TypeError)            a class that cannot be registered
    └── Unencodable                  (TypeError)            a value that cannot travel

Every error carries its facts as attributes, says the remedy in its text, and survives pickling. Its attribute
`transient` says whether the same call may succeed later, without a change of the program or of the data. That is true
of four:

- StorageUnavailable.
- StorageDenied: a token expires, a policy is changed.
- BucketNotFound: a bucket is made anew.
- StorageError itself, for an answer that has no class here.
"""

from __future__ import annotations

import errno


class StorageError(Exception):
    """Root of every error that this package raises on purpose.

    Args:
        message: What happened, in a sentence without the final full stop.
        key: The key of the object concerned, if there is one.
        remedy: What the reader can do. The default is the remedy of the class.

    Attributes:
        transient: Whether the same call may succeed later, without a change of the program or of the data.

    The text of the error is the message followed by the remedy. Only the message is a positional argument, so that
    default pickling restores the error with its attributes.
    """

    remedy: str = ""
    # An answer without a class of its own is unknown, and may be a passing one.
    transient: bool = True

    def __init__(self, message: str, *, key: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        if remedy is not None:
            self.remedy = remedy

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else ""
        return f"{message}. {self.remedy}" if self.remedy else message


class ObjectNotFound(StorageError, FileNotFoundError):
    """No object exists under the key."""

    remedy = "It was never written, or it has been deleted: check the key and the root of the store."
    transient = False


class UploadGone(ObjectNotFound, FileNotFoundError):
    """An upload was aborted, by a rule of the bucket or by another process, so its object can't appear."""

    remedy = "Write it again. A rule that aborts uploads must leave a job the time from its writes to its commit."


class ObjectExists(StorageError, FileExistsError):
    """A put with `if_absent` met an existing object, which is untouched."""

    remedy = "The first write counts: read it and compare, as put_once() does."
    transient = False


class ObjectChanged(StorageError, ValueError):
    """The object under the key is not the one that was meant: its entity tag or its length is another."""

    remedy = "It was written again after it was listed: list it again."
    transient = False


class BucketNotFound(StorageError, FileNotFoundError):
    """The bucket does not exist at this endpoint."""

    remedy = "Create the bucket with storage.create_bucket(url), or correct the URL or AWS_ENDPOINT_URL_S3."


class StorageUnavailable(StorageError, ConnectionError):
    """The store did not answer, or was too busy, after every retry."""

    remedy = "Try again later. If it lasts, check the endpoint and the network."


class StorageUnusable(StorageError, RuntimeError):
    """This process can't make such requests to a store, because of how it was started or configured."""

    remedy = "Start the process by spawn instead of fork, and name the server and its credentials in the environment."
    transient = False


class StorageDenied(StorageError, PermissionError):
    """The store refused the request, or there are no credentials to send with it.

    Attributes:
        right: The right that the credentials may lack, as a policy of S3 names it; "" if the reason is another one.
    """

    right: str = ""
    remedy = "Check the credentials (AWS_ACCESS_KEY_ID, profile or role), the bucket policy and the clock."


class GuaranteeBroken(StorageError, NotImplementedError):
    """The store answers, but a probe has shown that it breaks a guarantee of `ObjectStore`."""

    remedy = "Use another store. If this one has been repaired, `fanout doctor` probes it anew."
    transient = False


class ConditionalWriteUnsupported(GuaranteeBroken, NotImplementedError):
    """The store refuses to put an object only if it is absent, or lets more than one writer succeed."""

    remedy = (
        "Write-once puts need a store that honours If-None-Match under concurrency: AWS S3 and Ceph do. Upgrade this "
        "one and run `fanout doctor`, which probes it anew, or use another."
    )


class InvalidKey(StorageError, ValueError):
    """The key is not one that every store can hold."""

    remedy = (
        "A key is 1 to 900 bytes of UTF-8, without control characters: segments joined by '/', "
        "none of them empty, '.' or '..'."
    )
    transient = False


class InvalidStoreUrl(StorageError, ValueError):
    """The URL names no store."""

    remedy = "Use s3://bucket/prefix, az://container/prefix, gs://bucket/prefix, file:///absolute/directory or memory://name."
    transient = False


class CorruptObject(StorageError, ValueError):
    """The bytes are not the bytes that were written; nothing of them was used."""

    remedy = "Read it again. If it fails again, the object is damaged and must be written anew."
    transient = False


class NewerFormat(StorageError, ValueError):
    """An object was written by a newer release, in a format that this one does not read."""

    remedy = "Upgrade fanout in this process. A worker gives its message back to the queue, for a newer worker to take."


class UnknownKey(StorageError, LookupError):
    """An object is sealed with a key that this process does not have.

    Attributes:
        key_id: Id of that key.
    """

    remedy = (
        "Add the key to encryption_keys of this process, behind the first one, until no object of its time is left."
    )
    transient = False

    def __init__(self, message: str, *, key_id: str = "", key: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message, key=key, remedy=remedy)
        self.key_id = key_id


class NotEncrypted(StorageError, ValueError):
    """An object is not sealed, and this process takes only sealed ones."""

    remedy = (
        "A process without encryption_keys wrote it, or somebody else did. Let all jobs of the time before end, or "
        "unset require_encryption until they have."
    )
    transient = False


class MissingPackage(StorageError, ImportError):
    """A value needs a package that is not installed here, to be written or to be read.

    Attributes:
        extra: The extra of fanout that installs the package.
    """

    remedy = "Install it wherever such values are written and read."
    transient = False

    def __init__(self, message: str, *, extra: str = "", key: str | None = None, remedy: str | None = None) -> None:
        if extra and remedy is None:
            remedy = f"Install it: pip install 'fanout[{extra}]'."
        super().__init__(message, key=key, remedy=remedy)
        self.extra = extra


class UnknownType(StorageError, LookupError):
    """The bytes hold a value of a class that this process has not registered; nothing is imported to find it.

    Attributes:
        type_name: The name of the class in the bytes.
    """

    remedy = (
        "Name the class in `types` of the task, or call fanout.register_type, in a module that this process imports."
    )
    transient = False

    def __init__(self, message: str, *, type_name: str = "", key: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message, key=key, remedy=remedy)
        self.type_name = type_name


class ChangedType(UnknownType, LookupError):
    """The class is registered here, but has changed and cannot hold what was written."""

    remedy = "Let all processes have the same code, or launch the job anew."


class Unregistrable(StorageError, TypeError):
    """The class cannot be registered in this way."""

    remedy = "Convert its values before they are given to a task, or from one step to the next."
    transient = False


class Unencodable(StorageError, TypeError):
    """A value holds something that cannot travel.

    Attributes:
        path: The path to it, for example `items[3].document.meta`.
    """

    remedy = "Convert it first, as by list(x) or str(x), or register its class with fanout.register_type."
    transient = False

    def __init__(self, message: str, *, path: str = "value", key: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message, key=key, remedy=remedy)
        self.path = path


def from_os_error(error: OSError, key: str) -> StorageDenied | StorageUnavailable | InvalidKey:
    """Return this package's error for one of the operating system's at a file, which says whether to try again.

    Args:
        error: An error that is neither of a missing nor of an existing file.
        key: The key or path.
    """
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError):
        remedy = "Check the owner and mode of the file and its directory."
        return StorageDenied(f"the file system refuses access to {key!r}: {reason}", key=key, remedy=remedy)
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ):
        remedy = "Choose a shorter or plainer name: a file system allows 255 bytes for a file or folder."
        return InvalidKey(f"the file system has no file {key!r:.300}: {reason}", key=key, remedy=remedy)
    remedy = "Check that the disk is mounted, has room and has file handles left."
    return StorageUnavailable(f"the file system failed at {key!r}: {reason}", key=key, remedy=remedy)
