"""What S3 takes for requests; the library has the table."""

from __future__ import annotations

from fanout.prices import Prices

DOLLARS_A_WRITE = Prices().per_put
"""PUT and LIST. A DELETE costs nothing."""
DOLLARS_A_READ = Prices().per_get
"""GET and HEAD."""
