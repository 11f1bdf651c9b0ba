"""What all store URLs have in common."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from .errors import InvalidStoreUrl


def split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise InvalidStoreUrl("the URL is malformed") from error


def refuse_scheme(url: str) -> InvalidStoreUrl:
    # No more than the scheme is repeated: a URL meant for something else may carry a secret.
    scheme, separator, _ = url.partition("://")
    return InvalidStoreUrl(f"no store has the scheme {scheme!r}" if separator else "the URL has no scheme")
