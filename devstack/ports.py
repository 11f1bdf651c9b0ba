"""Free ports on the loopback interface."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the ephemeral range of Linux (32768) and macOS (49152), for two reasons. No outgoing connection can take the
# port between the check here and the server's bind. And a client that reconnects to a server that is down cannot get
# the same port as its source port, connect to itself, and block the server's restart.
_FIRST, _LAST = 16_000, 24_999
_handed_out: set[int] = set()


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 without a listener, a different one at each call of this process.

    Another process may still take the port before the server binds it. A further start then gets another port.

    Raises:
        OSError: All candidates are taken.
    """
    candidates = random.sample(range(_FIRST, _LAST + 1), k=_LAST + 1 - _FIRST)
    for port in candidates:
        if port not in _handed_out and _can_bind(port):
            _handed_out.add(port)
            return port
    raise OSError(f"no free port on {LOOPBACK} between {_FIRST} and {_LAST}")


def is_listening(port: int) -> bool:
    """Return whether a server accepts connections on this port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        return client.connect_ex((LOOPBACK, port)) == 0


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        # Servers do the same: a port with connections in TIME_WAIT counts as free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
