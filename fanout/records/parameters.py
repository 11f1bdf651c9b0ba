"""The parameters of a job: small ones inline, large ones in the store under their digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
        references: Name of each large one -> its digest, which gives its key in the store.
    """

    inline: bytes
    references: dict[str, str]

    @classmethod
    def write(
        cls,
        values: Mapping[str, Any],
        store: ObjectStore,
        *,
        inline_bytes: int,
        compression: Compression = "none",
        check: Callable[[Mapping[str, int]], None] | None = None,
    ) -> Parameters:
        """Encode `values`, and write those larger than `inline_bytes` to the store. One request per large value.

        Equal values have equal keys, so launching the same input again writes the same objects again.

        Args:
            values: Validated parameters by name.
            store: The store.
            inline_bytes: Largest encoded size of an inline parameter.
            compression: How to compress them.
            check: Called with the encoded size of each, by name, before anything is stored. It may raise.

        Raises:
            Unencodable: A value can't be encoded. Names its path, such as `documents[3].meta`.
        """
        encoded = {name: encode(value, path=name, compression=compression) for name, value in values.items()}
        if check is not None:
            check({name: len(body) for name, body in encoded.items()})
        references: dict[str, str] = {}
        inline: dict[str, bytes] = {}
        for name, body in encoded.items():
            if len(body) <= inline_bytes:
                inline[name] = body
                continue
            content = digest(body)
            # Not write-once: overwriting renews the age, by which a sweep tells old parameters.
            store.put(parameter_key(content), body)
            references[name] = content
        return cls(encode(inline), references)

    def names(self) -> set[str]:
        """Return the names of all parameters."""
        return set(decode(self.inline)) | set(self.references)

    def renew(self, store: ObjectStore, *, before: float) -> list[str]:
        """Overwrite the stored parameters that were last written before a time, so that no sweep removes them.

        One request per stored parameter, and two more per old one.

        Args:
            store: The store.
            before: That time, in seconds since the epoch, by the store's clock.

        Returns:
            Names of the parameters that the store no longer holds.
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
        """Return the values of those of `names` that the job has. One request per stored parameter.

        Args:
            names: Names of parameters.
            store: The store.
            sources: A list that gets the stored parameters whose byte ranges a chunk may refer to; None for none.

        Raises:
            ObjectNotFound: A stored parameter is missing.
            CorruptObject: A stored parameter is damaged.
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
        """Return the byte range of a stored parameter that a chunk refers to. One ranged request.

        Raises:
            CorruptObject: The chunk refers to an object that is none of these parameters.
        """
        if reference.source not in self.references.values():
            raise CorruptObject(f"the chunk refers to {reference.source}, which is no parameter of its job")
        return store.get(parameter_key(reference.source), offset=reference.offset, length=reference.length)
