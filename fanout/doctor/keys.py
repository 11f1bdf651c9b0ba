"""The findings of `fanout doctor` on the keys that encrypt objects and sign messages. Shows ids, and never a key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from storage import Finding, Keyring, StorageError, Verdict

from ..config.settings import Config


def check_keys(config: Config) -> Iterator[Finding]:
    """Yield a finding on encryption and one on signatures. Asks a function of keys for the one that seals now."""
    yield _check_encryption(config)
    yield _check_signatures(config)


def _check_encryption(config: Config) -> Finding:
    if not config.encryption_keys:
        return Finding("encryption", "off: those who may read or write the store read or change the data of jobs")
    try:
        key_id, _ = Keyring(config.encryption_keys).sealing()
    except (StorageError, TypeError, ValueError) as error:
        remedy = "Correct the function in encryption_keys: without a key no job can be launched."
        return Finding("encryption", str(error), Verdict.BROKEN, remedy)
    known = [] if callable(config.encryption_keys) else list(config.encryption_keys)
    found = f"objects are sealed with {_name_keys(key_id, known)}"
    if config.require_encryption:
        return Finding("encryption", f"required; {found}")
    remedy = "Set require_encryption as soon as no unsealed object is left: retention_s after all processes have keys."
    return Finding("encryption", f"{found}; unsealed objects are read as well", Verdict.CHANGE, remedy)


def _check_signatures(config: Config) -> Finding:
    if not config.signing_keys:
        return Finding("signatures", "off: those who may write to the queues run any registered task")
    key_id, *others = config.signing_keys
    age = config.signature_max_age_s
    found = f"messages are signed with {_name_keys(key_id, others)}, and "
    found += "signatures never expire" if age is None else f"signatures expire after {age:g} s"
    if config.require_signatures:
        return Finding("signatures", f"required; {found}")
    remedy = "Set require_signatures on the workers as soon as all callers and workers have the keys."
    return Finding("signatures", f"{found}; unsigned messages run as well", Verdict.CHANGE, remedy)


def _name_keys(key_id: str, known: Sequence[str]) -> str:
    """Return the id of a key in use, and those of the others that are accepted."""
    others = ", ".join(repr(other) for other in known if other != key_id)
    return f"the key {key_id!r}" + (f" (accepted, too: {others})" if others else "")
