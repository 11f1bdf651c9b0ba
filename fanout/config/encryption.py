"""The store of a process, encrypted if the settings say so."""

from __future__ import annotations

from storage import EncryptedStore, Keyring, ObjectStore

from .settings import Config


def encrypt_store(store: ObjectStore, config: Config) -> ObjectStore:
    """Return a store that seals what it holds with the settings' keys, or the store itself without keys."""
    if not config.encryption_keys:
        return store
    return EncryptedStore(store, Keyring(config.encryption_keys), required=config.require_encryption)
