"""Ports of this host for servers of the tests' own."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Nobody listened there just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
