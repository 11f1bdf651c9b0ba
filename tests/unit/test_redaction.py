"""Credentials are taken out of text, by their form or by their value."""

from __future__ import annotations

import pytest

from fanout import redaction
from fanout.config.settings import Config
from fanout.records.failure import Failure
from fanout.redaction import redact, remember


@pytest.fixture(autouse=True)
def _forget_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without the credentials of other tests."""
    monkeypatch.setattr(redaction, "_remembered", set())


SECRETS = [
    ("redis://user:hunter2@host:6379/0", "hunter2"),
    ("amqp://guest:p%40ss@host//", "p%40ss"),
    ("https://a.b/?x=1&X-Amz-Signature=0123abcdef&y=2", "0123abcdef"),
    ("key AKIAIOSFODNN7EXAMPLE refused", "AKIAIOSFODNN7EXAMPLE"),
    ("key 'ASIAIOSFODNN7EXAMPLE'", "ASIAIOSFODNN7EXAMPLE"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
    ("AWS_SECRET_ACCESS_KEY='wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'", "wJalrXUtnFEMI"),
    ("redis://:hunter2@host:6379/0", "hunter2"),
    ("Authorization: Bearer eyJhbGciOi.J9-x_y", "eyJhbGciOi.J9-x_y"),
    ("https://a.blob.example/c/k?sv=1&sig=abc%2Fdef%3D&se=2", "abc%2Fdef%3D"),
    ("https://a.b/?X-Amz-Security-Token=FwoGZXIvYXdz&y=2", "FwoGZXIvYXdz"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_credentials_are_removed(text: str, secret: str) -> None:
    """Passwords in URLs, AWS keys and signatures are removed from a failure's message and traceback."""
    error = ValueError(f"could not reach {text}!")
    failure = Failure.of("process", error)
    assert secret not in redact(text)
    assert secret not in failure.reason + failure.traceback_text
    assert "could not reach" in failure.reason


@pytest.mark.parametrize(
    "text", ["", "https://host/a:b@c", "user@host", "10:30 at a@b", "AKIA is short", "s3://bucket/x"]
)
def test_text_without_a_credential_is_unchanged(text: str) -> None:
    """Text without a credential is unchanged."""
    assert redact(text) == text


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUt/nFEMI+K7", "wJalrXUt/nFEMI+K7"),
        ("AWS_SESSION_TOKEN", "FwoGZXIvYXdzEB", "FwoGZXIvYXdzEB"),
        ("SHOP_DB_PASSWORD", "correct horse", "correct horse"),
        ("CELERY_BROKER_URL", "amqp://shop:tr0ub4dor@host//", "tr0ub4dor"),
        ("FANOUT_SIGNING_KEYS", '{"a": "first-secret-of-many", "b": "second-secret-too"}', "second-secret-too"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=abcdefgh", "AccountKey=abcdefgh"),
    ],
    ids=["store", "session", "password", "broker", "signing", "azure"],  # pytest puts a test's id into the environment
)
def test_credentials_of_the_environment_are_removed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, secret: str
) -> None:
    """Also where nothing around the value tells what it is."""
    text = f"the server answered {secret} to us"
    assert redact(text) == text
    monkeypatch.setenv(name, value)
    assert redact(text) == "the server answered *** to us"


def test_ids_of_keys_remain_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the values of a variable in JSON are credentials: errors name a key by its id."""
    monkeypatch.setenv("FANOUT_SIGNING_KEYS", '{"campaign": "first-secret-of-many"}')
    assert redact("the key campaign of first-secret-of-many") == "the key campaign of ***"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
        ("AWS_ACCESS_KEY_ID", "fanout-access"),
        ("SHOP_TOKEN_URL", "https://login.example"),
        ("SHOP_PASSWORD", "short"),
        ("MAX_TOKENS", "100000000"),
    ],
)
def test_other_variables_are_no_credentials(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Names of files, ids, URLs, numbers and short words remain readable."""
    monkeypatch.setenv(name, value)
    assert redact(f"see {value}") == f"see {value}"


def test_credentials_of_settings_are_removed() -> None:
    """Signing keys and the keys of endpoints, wherever the settings come from; not their URLs and ids."""
    Config(
        store="memory://x",
        signing_keys={"new": "signing-key-" + "x" * 32},
        external_endpoints={
            "lake": {
                "endpoint_url": "http://lake:9000",
                "access_key_id": "lake-user",
                "secret_access_key": "lake-pass-1",
            }
        },
    )
    remember(["redis://:redis-pass-2@host/0", None])
    failure = Failure.of(
        "process", ValueError(f"{'signing-key-' + 'x' * 32} lake-pass-1 redis-pass-2 lake-user eu-central-1")
    )
    assert failure.reason == "*** *** *** lake-user eu-central-1"
    assert "lake-pass-1" not in failure.traceback_text
