"""What S3 takes for requests, in us-east-1 in 2026."""

from __future__ import annotations

DOLLARS_A_WRITE = 0.005 / 1000
"""PUT and LIST. A DELETE costs nothing."""
DOLLARS_A_READ = 0.0004 / 1000
"""GET and HEAD."""
