"""Requests and responses over TCP: `python exchange.py serve PORT BYTES`, `... ask HOST PORT BYTES COUNT PER_S`.

A request is one byte, a response has BYTES. Requests are due at fixed times; a latency counts from then to the last
byte of the response. `ask` prints all latencies in us, as JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import time


def serve(port: int, size_bytes: int) -> None:
    """One connection after the other."""
    with socket.create_server(("", port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while connection.recv(1):
                    connection.sendall(bytes(size_bytes))


def ask(host: str, port: int, size_bytes: int, count: int, per_s: float) -> list[float]:
    latencies_us = []
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin_s = time.monotonic()
        for number in range(count):
            due_s = begin_s + number / per_s
            time.sleep(max(0.0, due_s - time.monotonic()))
            connection.sendall(b"?")
            left_bytes = size_bytes
            while left_bytes:
                left_bytes -= len(connection.recv(left_bytes))
            latencies_us.append((time.monotonic() - due_s) * 1e6)
    return latencies_us


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        where, (port, size_bytes, count) = sys.argv[2], map(int, sys.argv[3:6])
        print(json.dumps(ask(where, port, size_bytes, count, float(sys.argv[6]))))  # noqa: T201
