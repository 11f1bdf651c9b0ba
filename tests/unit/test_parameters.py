"""Small parameters are sent inline. Large parameters lie in the store under their digest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.records.parameters import Parameters
from storage import CorruptObject, MemoryStore, ObjectNotFound, Unencodable
from tests.stores import ScriptedStore

VALUES = st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=200) | st.lists(st.integers()) | st.text())


@given(VALUES, st.integers(0, 100))
def test_parameters_are_loaded_with_equal_values(values: dict[str, Any], inline_bytes: int) -> None:
    """Each name has its value again, inline or stored. `load` returns only the names that were asked for."""
    store = MemoryStore()
    parameters = Parameters.write(values, store, inline_bytes=inline_bytes)
    assert parameters.names() == set(values)
    assert parameters.load([*values, "unknown"], store) == values
    assert parameters.load(list(values)[:1], store) == dict(list(values.items())[:1])


def test_equal_values_are_one_object() -> None:
    """Equal values have the same key, so that a second launch with the same input renews the object."""
    store = ScriptedStore()
    first = Parameters.write({"a": b"x" * 100}, store, inline_bytes=10)
    store.age(1000)
    second = Parameters.write({"b": b"x" * 100}, store, inline_bytes=10)
    (key,) = store.keys()
    assert list(first.references.values()) == list(second.references.values()) == [key.removeprefix("_parameters/")]
    assert [verb for verb, _ in store.log] == ["put", "put"]


def test_nothing_is_stored_if_a_value_cannot_be_encoded() -> None:
    """If a value cannot be encoded, the error names its path, and the large value before it is not written."""
    store = ScriptedStore()
    with pytest.raises(Unencodable) as caught:
        Parameters.write({"a": b"x" * 100, "b": [1, {"c": object()}]}, store, inline_bytes=10)
    assert caught.value.path == "b[1].c"
    assert store.log == []


def test_only_the_requested_parameters_are_fetched() -> None:
    """A step that takes no large parameter costs no request."""
    store = ScriptedStore()
    parameters = Parameters.write({"a": b"x" * 100, "b": 1}, store, inline_bytes=50)
    store.log.clear()
    assert parameters.load(["b"], store) == {"b": 1}
    assert store.log == []
    parameters.load(["a", "b"], store)
    assert len(store.log) == 1


def test_a_damaged_parameter_is_noticed() -> None:
    """The error of a flipped byte or a deleted parameter names the key."""
    store = ScriptedStore()
    parameters = Parameters.write({"a": b"x" * 100}, store, inline_bytes=10)
    (key,) = store.keys()
    store.flip(key)
    with pytest.raises(CorruptObject) as caught:
        parameters.load(["a"], store)
    assert caught.value.key == key
    store.delete([key])
    with pytest.raises(ObjectNotFound):
        parameters.load(["a"], store)


def test_a_forged_reference_names_no_other_object() -> None:
    """A reference that is no digest is refused before the store is asked."""
    store = ScriptedStore()
    with pytest.raises(ValueError, match="digest"):
        Parameters(Parameters.write({}, store, inline_bytes=1).inline, {"a": "../job/outcome"}).load(["a"], store)
    assert store.log == []
