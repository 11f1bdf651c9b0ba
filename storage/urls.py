"""Functions that all store URLs share."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from .errors import InvalidStoreUrl


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        InvalidStoreUrl: The URL is malformed.
    """
    try:
        return urlsplit(url)
    except ValueError as error:
        raise InvalidStoreUrl("the URL is malformed") from error


def unknown_scheme(url: str) -> InvalidStoreUrl:
    """Return the error for a URL whose scheme names no store."""
    # Repeat only the scheme: a URL meant for another program may carry a secret.
    scheme, separator, _ = url.partition("://")
    return InvalidStoreUrl(f"no store has the scheme {scheme!r}" if separator else "the URL has no scheme")
