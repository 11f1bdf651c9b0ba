"""A job's parameters on their way: small ones inline, large ones in the store under their digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from storage import (
    Compression,
    Content,
    CorruptObject,
    ObjectNotFound,
    ObjectStore,
    Reference,
    ReferenceSource,
    decode,
    digest,
    encode,
)

from .keys import parameter_key


@dataclass(frozen=True, slots=True)
class Parameters:
    """Validated parameters in a form that fits into a message.

    Attributes:
        inline: The small ones, encoded as one mapping.
        references: Name of each large one -> digest under which the store holds it.
    """

    inline: bytes
    references: dict[str, str]

    @classmethod
    def stored(
        cls, values: Mapping[str, Any], store: ObjectStore, *, inline_bytes: int, compression: Compression = "none"
    ) -> Parameters:
        """Encode `values`; those larger than `inline_bytes` are written to the store, one request each.

        Equal values have equal keys, so launching the same input again writes the same object again.

        Raises:
            Unencodable: A value can't travel; names its path, such as `documents[3].meta`.
        """
        encoded = {name: encode(value, path=name, compression=compression) for name, value in values.items()}
        references: dict[str, str] = {}
        inline: dict[str, bytes] = {}
        for name, body in encoded.items():
            if len(body) <= inline_bytes:
                inline[name] = body
                continue
            content = digest(body)
            # Not write-once: writing anew makes it young again in the eyes of whoever removes old objects.
            store.put(parameter_key(content), body)
            references[name] = content
        return cls(encode(inline), references)

    def names(self) -> set[str]:
        return set(decode(self.inline)) | set(self.references)

    def renew(self, store: ObjectStore, *, before: float) -> list[str]:
        """Make those in the store young again that were last written before a time. One request each, or three.

        Args:
            store: Where the large ones lie.
            before: In seconds since the epoch, by the store's clock.

        Returns:
            Names of those that are gone.
        """
        gone: list[str] = []
        for name, content in self.references.items():
            key = parameter_key(content)
            try:
                if store.head(key).modified.timestamp() < before:
                    store.put(key, bytes(store.get(key)))
            except ObjectNotFound:
                gone.append(name)
        return gone

    def load(
        self, names: Iterable[str], store: ObjectStore, *, sources: list[ReferenceSource] | None = None
    ) -> dict[str, Any]:
        """The values of those of `names` that there are. One request for each that lies in the store.

        Args:
            names: What is wanted.
            store: Where the large ones lie.
            sources: Is given those whose elements a chunk may borrow.

        Raises:
            CorruptObject: A stored parameter is not what was written.
        """
        inline = decode(self.inline)
        values: dict[str, Any] = {}
        for name in names:
            if name in inline:
                values[name] = decode(inline[name])
            elif name in self.references:
                content = self.references[name]
                key = parameter_key(content)
                body = store.get(key)
                if digest(body) != content:
                    raise CorruptObject(f"{key} does not have the digest it is named by", key=key)
                values[name] = decode(body, key=key)
                source = ReferenceSource.of(values[name], body, name=content) if sources is not None else None
                if sources is not None and source is not None:
                    sources.append(source)
        return values

    def fetch_range(self, reference: Reference, store: ObjectStore) -> Content:
        """What a chunk borrows from a parameter that lies in the store. One ranged request.

        Raises:
            CorruptObject: None of these parameters is the lender.
        """
        if reference.source not in self.references.values():
            raise CorruptObject(f"the chunk borrows from {reference.source}, which is no parameter of its job")
        return store.get(parameter_key(reference.source), offset=reference.offset, length=reference.length)
