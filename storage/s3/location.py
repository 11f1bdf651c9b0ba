"""The location that an s3:// URL names: bucket, prefix, options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from ..errors import InvalidStoreUrl
from ..keys import read_prefix
from ..urls import split_url, unknown_scheme

CHECKSUM_MODES: Final = ("when_required", "when_supported")
CLIENTS: Final = ("obstore", "boto3")
ENCRYPTIONS: Final = ("AES256", "aws:kms")
_KMS_KEY: Final = re.compile(r"[A-Za-z0-9:/_-]{1,256}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class S3Location:
    """The location that an s3:// URL names.

    Attributes:
        bucket: The bucket's name.
        prefix: Prefix of every key: "" or segments that end in '/'.
        checksums: boto3's checksum mode, one of `CHECKSUM_MODES`.
        client: One of `CLIENTS`; "" for obstore if it is installed, and boto3 if not.
        encryption: One of `ENCRYPTIONS`, which each write asks for; "" leaves it to the bucket.
        kms_key: Id or ARN of the key of KMS; "" for the account's own.
    """

    bucket: str
    prefix: str = ""
    checksums: str = CHECKSUM_MODES[0]
    client: str = ""
    encryption: str = ""
    kms_key: str = ""

    @property
    def url(self) -> str:
        """The URL of this location, in its shortest form."""
        options = {
            "checksums": self.checksums if self.checksums != CHECKSUM_MODES[0] else "",
            "client": self.client,
            "encryption": self.encryption,
            "kms_key": self.kms_key,
        }
        query = urlencode({name: value for name, value in options.items() if value}, safe=":/")
        return f"s3://{self.bucket}/{quote(self.prefix.rstrip('/'), safe='/~')}{'?' if query else ''}{query}"


def parse_s3_url(url: str) -> S3Location:
    """Return the location that an s3:// URL names.

    Raises:
        InvalidStoreUrl: It is no s3:// URL, carries credentials, has an unknown option, a malformed bucket name or a
            prefix that cannot be part of a key. The message never repeats credentials.
    """
    parts = split_url(url)
    if "@" in parts.netloc:
        # The message does not repeat the URL: the text in front of the '@' may be a secret.
        raise InvalidStoreUrl(
            "the s3:// URL has something in front of an '@'",
            remedy="Credentials never travel in a URL: set AWS_ACCESS_KEY_ID and its secret, or a profile.",
        )
    if parts.scheme != "s3":
        raise unknown_scheme(url)
    if not _BUCKET.fullmatch(parts.netloc):
        raise InvalidStoreUrl(f"{parts.netloc!r} is no bucket name that S3 would allow")
    if parts.fragment or "#" in url:
        raise InvalidStoreUrl("the s3:// URL has a fragment", remedy="Write '#' as %23 if it belongs to the prefix.")
    return S3Location(parts.netloc, read_prefix(parts.path, scheme="s3"), **_options(parts.query))


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    choices = {"checksums": CHECKSUM_MODES, "client": CLIENTS, "encryption": ENCRYPTIONS}
    unknown = sorted(options.keys() - choices - {"kms_key"})
    if unknown:
        # The message repeats only the name: the value of a misplaced option may be a secret.
        raise InvalidStoreUrl(
            f"the s3:// URL has the unknown option {unknown[0][:40]!r}",
            remedy="Known are checksums, client, encryption and kms_key; endpoint and region are AWS_ENDPOINT_URL_S3, "
            "AWS_DEFAULT_REGION.",
        )
    if "kms_key" in options and (options.get("encryption") != "aws:kms" or not _KMS_KEY.fullmatch(options["kms_key"])):
        raise InvalidStoreUrl(
            "the s3:// URL has a kms_key that is no id or ARN of a key, or no encryption=aws:kms",
            remedy="Write ?encryption=aws:kms&kms_key=<id or ARN>.",
        )
    for name, value in options.items():
        if name in choices and value not in choices[name]:
            raise InvalidStoreUrl(f"the s3:// URL needs {name} to be one of {', '.join(choices[name])}", remedy="")
    if options.get("client") == "obstore" and options.get("checksums") == "when_supported":
        raise InvalidStoreUrl("only boto3 knows checksums=when_supported", remedy="Write client=boto3, or neither.")
    return options
