"""External objects: which locations a process names, and which of them it may use."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout import Config, ConfigError, InvalidLocation, NotAllowed, SourceChanged, SourceDamaged, SourceMissing
from fanout.config.settings import from_environment
from fanout.external.access import Access
from fanout.external.location import Location, parse_location

SEGMENTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda segment: segment not in (".", "..")
)


def access(*roots: str, **more: object) -> Access:
    return Access.of_worker(Config(store="memory://x", source_roots=roots, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://logs/2026/a b.txt", Location("logs", "2026/a b.txt")),
        ("s3://logs/2026/a%20b.txt", Location("logs", "2026/a b.txt")),
        ("s3://logs/2026/", Location("logs", "2026")),
        ("s3://logs", Location("logs", "")),
        ("file:///data/x%23y", Location("", "data/x#y")),
        ("file://localhost/data", Location("", "data")),
        ("/data//x%20y/./z", Location("", "data/x%20y/z")),
    ],
)
def test_a_location_is_normalised(text: str, expected: Location) -> None:
    """URLs are percent-decoded and paths are not; a "/" at the end makes no difference."""
    assert parse_location(text) == expected


def test_a_relative_path_is_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a scheme names a file of this machine; a value that travels names it in full."""
    monkeypatch.chdir(tmp_path)
    assert parse_location("words.txt").url == (tmp_path / "words.txt").as_uri()
    assert parse_location(Path("words.txt")) == parse_location(tmp_path / "words.txt")


@pytest.mark.parametrize(
    "text",
    [
        "s3://logs/a/../b",
        "s3://logs/a/%2e%2e/b",
        "s3://logs/a/%2E./b",
        "s3://logs/./b",
        "s3://logs/a//b",
        "s3://logs/a%2F%2Fb",
        "s3://logs/a?versionId=1",
        "s3://logs/a#b",
        "s3://key:geheim@logs/a",
        "s3://../a",
        "s3:/logs/a",
        "http://host/a",
        "gs://bucket/a",
        "file://host/a",
        "file:///a/%2e%2e/b",
        "file:///a\0b",
        "../a",
        "/data/../etc/passwd",
        "",
    ],
)
def test_a_location_that_may_lead_elsewhere_is_refused(text: str) -> None:
    """Other schemes, queries, credentials and "..", encoded or not, are refused; no message repeats a secret."""
    with pytest.raises(InvalidLocation) as caught:
        parse_location(text)
    assert "geheim" not in str(caught.value)


@settings(max_examples=50)
@given(st.lists(SEGMENTS, min_size=1, max_size=4))
def test_a_url_names_its_location(segments: list[str]) -> None:
    """The URL of a location is parsed to the same location, in a bucket and on this machine."""
    for location in (Location("bucket", "/".join(segments)), Location("", "/".join(segments))):
        assert parse_location(location.url) == location


def test_a_worker_reads_below_its_roots_only() -> None:
    """Roots hold by whole segments; without any root a worker reads nothing, and the error names the setting."""
    allowed = access("s3://logs/2026", "s3://words/")
    for url in ("s3://logs/2026", "s3://logs/2026/a", "s3://words/x/y"):
        allowed.check(parse_location(url))
    for url in ("s3://logs/2026-secret/a", "s3://logs/a", "s3://logs", "s3://other/2026/a", "/etc/passwd"):
        with pytest.raises(NotAllowed, match="source_roots is s3://logs/2026, s3://words/"):
            allowed.check(parse_location(url))
    with pytest.raises(NotAllowed, match=r"sink_roots is empty.*FANOUT_SINK_ROOTS"):
        allowed.check(parse_location("s3://words/x"), purpose="writing")
    with pytest.raises(NotAllowed, match="source_roots is empty"):
        access().check(parse_location("s3://words/x"))


def test_a_link_counts_as_the_file_that_it_leads_to(tmp_path: Path) -> None:
    """A link out of a root is refused, a link within is not, and a root may be a link itself."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_bytes(b"1")
    (tmp_path / "secret").write_bytes(b"2")
    (tmp_path / "root" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "root" / "up").symlink_to(tmp_path)
    (tmp_path / "root" / "within").symlink_to(tmp_path / "root" / "a")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    for root in ("root", "link"):
        allowed = access(str(tmp_path / root))
        allowed.check(parse_location(tmp_path / "root" / "within"))
        for name in ("out", "up/secret"):
            with pytest.raises(NotAllowed):
                allowed.check(parse_location(tmp_path / "root" / name))


def test_a_root_is_of_one_endpoint() -> None:
    """A root without a name is the environment's endpoint; another endpoint needs a root of its own."""
    endpoints = {"lake": {"endpoint_url": "http://lake:9000"}}
    allowed = access("s3://logs", "lake=s3://words/year=2026", external_endpoints=endpoints)
    allowed.check(parse_location("s3://words/year=2026/a"), endpoint="lake")
    for bucket, endpoint in (("logs", "lake"), ("words", None)):
        with pytest.raises(NotAllowed):
            allowed.check(Location(bucket, "year=2026/a"), endpoint=endpoint)
    with pytest.raises(ConfigError, match="no endpoint 'sea'; it has lake"):
        access("sea=s3://words", external_endpoints=endpoints).open(parse_location("s3://words"), endpoint="sea")


def test_a_caller_reads_what_it_names_unless_a_setting_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without roots the caller's own process reads anything; a root in its environment limits it."""
    Access.of_caller().check(parse_location("/etc/hostname"))
    monkeypatch.setenv("FANOUT_SOURCE_ROOTS", "s3://logs, /data")
    limited = Access.of_caller()
    limited.check(parse_location("/data/x"))
    with pytest.raises(NotAllowed):
        limited.check(parse_location("/etc/hostname"))


def test_roots_and_endpoints_come_from_the_environment_as_text() -> None:
    """Roots are separated by commas and endpoints are JSON; the settings' repr shows no credentials."""
    environ = {
        "FANOUT_STORE": "memory://x",
        "FANOUT_SINK_ROOTS": "s3://one,lake=s3://two/,",
        "FANOUT_EXTERNAL_ENDPOINTS": '{"lake": {"endpoint_url": "http://lake", "secret_access_key": "geheim"}}',
    }
    config = Config.read(from_environment(environ))
    assert config.sink_roots == ("s3://one", "lake=s3://two/")
    assert Access.of_worker(config).servers["lake"].endpoint_url == "http://lake"
    assert "geheim" not in repr(config) + repr(Access.of_worker(config))


@pytest.mark.parametrize(
    ("settings_", "named"),
    [
        ({"source_roots": ["http://x"]}, "setting source_roots: 'http:…'"),
        ({"external_endpoints": {"lake": {}}}, r"external_endpoints\['lake'\].*endpoint_url"),
        ({"external_endpoints": {"lake": {"endpoint_url": "http://h", "key": "geheim"}}}, "unknown fields: key"),
        ({"external_endpoints": '["geheim"'}, "setting external_endpoints"),
    ],
)
def test_a_wrong_setting_is_named(settings_: dict[str, object], named: str) -> None:
    """The error names the setting and the flaw, and never a credential."""
    with pytest.raises(ConfigError, match=named) as caught:
        Access.of_worker(Config.read({"store": "memory://x", **settings_}))
    assert "geheim" not in str(caught.value)


def test_a_single_root_is_a_tuple_of_one() -> None:
    """Text where a tuple is meant is not taken for a tuple of letters, except where settings are text."""
    with pytest.raises(ConfigError, match="source_roots must be a tuple"):
        Config(store="memory://x", source_roots="s3://logs")  # type: ignore[arg-type]
    assert Config.read({"store": "memory://x", "source_roots": "s3://logs"}).source_roots == ("s3://logs",)


@pytest.mark.parametrize("bucket", ["evil.example/x", "b@host", "b:9", "a b", "..", "b?x"])
def test_no_bucket_is_another_server(bucket: str) -> None:
    """The name of a bucket becomes part of a host, so a value may hold none that S3 would refuse."""
    with pytest.raises(InvalidLocation, match="no bucket name"):
        Location(bucket, "key")


@pytest.mark.parametrize(
    "error",
    [
        InvalidLocation("x", "flaw", "remedy"),
        NotAllowed("s3://a/b", "source_roots", ["s3://c"]),
        SourceMissing("s3://a/b"),
        SourceChanged("s3://a/b", "1", "2"),
        SourceDamaged("s3://a/b", 3, "flaw"),
    ],
)
def test_errors_survive_pickling(error: Exception) -> None:
    """An error that crosses processes keeps its text and its attributes."""
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    assert str(type(error)(*error.args)) == str(error), "Celery restores an error from its args"
