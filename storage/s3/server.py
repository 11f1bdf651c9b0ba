"""An S3 server that is named by its settings, and not by the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ..errors import StorageDenied
from .endpoint import Keys, S3Access, find_endpoint_flaw, find_proxy


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server beside the one that the environment names.

    Attributes:
        endpoint_url: URL of the server.
        region: The region that requests are signed for.
        access_key_id: Access key; None for the credentials of the environment.
        secret_access_key: Its secret.
        session_token: A token, for temporary credentials.
    """

    endpoint_url: str
    region: str = "us-east-1"
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    def access(self, bucket: str) -> S3Access:
        """Return the way to a bucket on this server.

        Raises:
            InvalidStoreUrl: The endpoint is no URL of a server.
            StorageDenied: There are no credentials.
        """
        flaw = find_endpoint_flaw("endpoint_url", self.endpoint_url)
        if flaw is not None:
            raise flaw
        key, secret, token = self.access_key_id, self.secret_access_key, self.session_token
        if key is None and secret is None:
            names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            key, secret, token = (os.environ.get(name) or None for name in names)
        if not key or not secret:
            raise StorageDenied(
                f"there are no credentials for {self.endpoint_url}",
                remedy="Give access_key_id and secret_access_key, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )
        bucket_url = f"{self.endpoint_url.rstrip('/')}/{bucket}"
        return S3Access(self.endpoint_url, self.region, bucket_url, Keys(key, secret, token), find_proxy(bucket_url))
