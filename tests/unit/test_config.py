"""Settings are read in order of precedence, and checked."""

from __future__ import annotations

from typing import Any

import pytest

from fanout import Config, ConfigError, Options
from fanout.config.settings import from_celery, from_environment


def test_the_first_source_takes_precedence() -> None:
    """A setting comes from the first source that has it; None counts as missing."""
    config = Config.read(
        {"store": None, "upload_concurrency": 2},
        {"store": "memory://a"},
        {"store": "memory://b", "upload_concurrency": 9},
    )
    assert (config.store, config.upload_concurrency) == ("memory://a", 2)


def test_settings_of_the_environment_are_converted() -> None:
    """Environment variables are text; they are converted to the type of the field."""
    environ = {"FANOUT_STORE": "memory://a", "FANOUT_UPLOAD_CONCURRENCY": "2", "FANOUT_STALL_S": "1.5", "OTHER": "x"}
    config = Config.read(from_environment(environ))
    assert config == Config(store="memory://a", upload_concurrency=2, stall_s=1.5)


def test_settings_of_celery_have_a_prefix() -> None:
    """`fanout_…` keys of the app's configuration are read, other keys are not."""
    assert Config.read(from_celery({"fanout_store": "memory://a", "store": "memory://b"})).store == "memory://a"


@pytest.mark.parametrize("sources", [[], [{}], [{"store": None}], [{"store": ""}], [{"upload_concurrency": 3}]])
def test_a_store_must_be_configured(sources: list[dict[str, Any]]) -> None:
    """Without a store the error names the three places where it can be configured."""
    with pytest.raises(ConfigError, match="FANOUT_STORE"):
        Config.read(*sources)


@pytest.mark.parametrize(
    "wrong",
    [
        {"upload_concurrency": "many"},
        {"upload_concurrency": "0"},
        {"stall_s": "-1"},
        {"retention_s": "nan"},
        {"upload_concurrency": []},
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, Any]) -> None:
    """The error for a value of the wrong type or out of range names the setting."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Config.read({"store": "memory://a", **wrong})


def test_options_are_changed_by_name() -> None:
    """Changes give new options; the error for unknown names lists them and the options that exist."""
    options = Options(chunk_items=3)
    assert options.replace({"max_attempts": 5}) == Options(chunk_items=3, max_attempts=5)
    with pytest.raises(ConfigError, match=r"no such option: a, b; there are chunk_bytes, chunk_count, chunk_items"):
        options.replace({"b": 1, "a": 2})


def test_an_unknown_compression_is_refused() -> None:
    """There are two compressions; a call with any other is refused."""
    assert Options().replace({"compression": "zstd"}).compression == "zstd"
    with pytest.raises(ConfigError, match="compression must be one of none, zstd, not 'gzip'"):
        Options().replace({"compression": "gzip"})


def test_two_options_that_contradict_each_other_are_refused() -> None:
    """`chunk_items` of the class and `chunk_count` of the call exclude each other, unless the call clears the first."""
    with pytest.raises(ConfigError, match="give one of them"):
        Options(chunk_items=3).replace({"chunk_count": 2})
    assert Options(chunk_items=3).replace({"chunk_count": 2, "chunk_items": None}).chunk_count == 2
