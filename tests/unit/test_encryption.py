"""Jobs over an encrypted store give what they give over a clear one, and leave no value in the clear."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fanout import ConfigError, ForkJoinTask, JobFailed
from fanout.config.settings import Config
from fanout.engines.stub import StubEngine
from storage import MemoryStore, NotEncrypted

SECRET = "a text that only keys open "
KEYS = {"2026": "c" * 43}


class Shout(ForkJoinTask):
    """Returns the texts in capitals."""

    input_schema = {"texts": {"type": "list", "required": True}, "tail": {"type": "string"}}

    def setup(texts, tail):
        for text in texts:
            if text == "fail":
                raise ValueError(SECRET)
            yield {"text": text}

    def process(text, tail):
        return text.upper() + tail

    def join(results):
        return list(results)


def bodies(store: MemoryStore) -> list[bytes]:
    """Return the bodies of all objects."""
    return [bytes(store.get(info.key)) for info in store.list()]


@pytest.mark.parametrize("repeats", [1, 20_000])
def test_no_object_of_a_job_holds_a_value_in_the_clear(repeats: int) -> None:
    """Parameters, packs, results and outcome, inline or large, are sealed, and the value is right."""
    inner = MemoryStore()
    engine = StubEngine(store=inner, encryption_keys=KEYS, require_encryption=True)
    texts = [SECRET * repeats, "b"]
    job = engine.submit(Shout.declaration, {"texts": texts, "tail": SECRET * repeats}, tags={"kind": "shout"})
    engine.drain()
    assert job.get(0) == [text.upper() + SECRET * repeats for text in texts]
    stored = bodies(inner)
    assert all(body.startswith(b"\x9fenc") for body in stored)
    assert not [body for body in stored if SECRET.encode() in body or SECRET.upper().encode() in body]


def test_a_failure_is_sealed_too() -> None:
    """The text of an exception may hold a value."""
    inner = MemoryStore()
    engine = StubEngine(store=inner, encryption_keys=KEYS)
    job = engine.submit(Shout.declaration, {"texts": ["fail"], "tail": ""}, max_attempts=1)
    engine.drain()
    with pytest.raises(JobFailed, match=SECRET):
        job.get(0)
    assert not [body for body in bodies(inner) if SECRET.encode() in body]


def test_a_forged_record_is_refused_where_encryption_is_required() -> None:
    """A clear object in the place of a record is not read as one."""
    inner = MemoryStore()
    engine = StubEngine(store=inner, encryption_keys=KEYS, require_encryption=True)
    job = engine.submit(Shout.declaration, {"texts": ["a"], "tail": ""})
    engine.drain()
    outcome = next(info.key for info in inner.list() if info.key.endswith("/outcome"))
    clear = StubEngine()
    clear.submit(Shout.declaration, {"texts": ["b"], "tail": ""})
    clear.drain()
    inner.put(outcome, next(body for body in bodies(clear._store) if b"succeeded" in body))  # type: ignore[arg-type]
    with pytest.raises(NotEncrypted, match=r"outcome.*require_encryption"):
        job.get(0)


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_local_job_takes_its_keys_from_the_environment(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes of a local job read what the caller has sealed, and objects that outlive it are sealed."""
    monkeypatch.setenv("FANOUT_ENCRYPTION_KEYS", json.dumps(KEYS))
    monkeypatch.setenv("FANOUT_REQUIRE_ENCRYPTION", "true")
    texts = [SECRET * 10_000]
    assert Shout.run({"texts": texts, "tail": "!"}, executor=executor, store=tmp_path.as_uri()) == [
        texts[0].upper() + "!"
    ]
    left = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert left
    assert not [body for body in left if SECRET.encode() in body]


def test_keys_are_checked_where_they_are_set_and_never_shown() -> None:
    """A wrong key is refused by name, without its value; a right one is in no repr."""
    with pytest.raises(ConfigError, match=r"encryption_keys.*'a'") as caught:
        Config(store="memory://a", encryption_keys={"a": "short and secret"})
    assert "short and" not in str(caught.value)
    with pytest.raises(ConfigError, match="require_encryption"):
        Config(store="memory://a", require_encryption=True)
    key = os.urandom(32)
    config = Config.read({"store": "memory://a", "encryption_keys": lambda key_id: ("a", key)})
    assert callable(config.encryption_keys)
    assert "c" * 43 not in repr(Config(store="memory://a", encryption_keys=KEYS))
