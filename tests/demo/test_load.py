"""What the demo's load generator calls a latency, against a server whose every delay is known."""

from __future__ import annotations

import selectors
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray

STALL_S = 0.1
INTERVAL_NS, REQUESTS, STALLED_AT = 2_000_000, 120, 20
CONNECTIONS, GRACE_MS = 128, 5000


@dataclass
class StallingServer:
    """Answers at once, but for one pause of STALL_S before request number STALLED_AT. Times: CLOCK_MONOTONIC."""

    status: str = "200 OK"
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    answers_after: int = 0
    """So many requests must have come before the first is answered."""
    waiting: list[socket.socket] = field(default_factory=list)
    stall_end_s: float = 0.0
    served: int = 0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def run(self) -> None:
        """Until all clients have gone."""
        with self.listener, selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            clients, has_ended = 0, False
            while not has_ended:
                for key, _ in selector.select():
                    if key.fileobj is self.listener:
                        selector.register(self.listener.accept()[0], selectors.EVENT_READ)
                        clients += 1
                        continue
                    assert isinstance(key.fileobj, socket.socket)
                    if key.fileobj.recv(4096):
                        self._serve(key.fileobj)
                        continue
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    clients -= 1
                    has_ended = clients == 0

    def _serve(self, client: socket.socket) -> None:
        if self.served == STALLED_AT:
            time.sleep(STALL_S)
            self.stall_end_s = time.monotonic()
        self.served += 1
        self.waiting.append(client)
        if self.served >= self.answers_after:
            for each in self.waiting:
                each.sendall(f"HTTP/1.1 {self.status}\r\nContent-Length: 2\r\n\r\nok".encode())
            self.waiting.clear()


@pytest.fixture
def server() -> Iterator[StallingServer]:
    server = StallingServer()
    thread = Thread(target=server.run)
    thread.start()
    yield server
    thread.join()


DUE_NS = np.arange(REQUESTS) * INTERVAL_NS


def run_load(binaries: Path, port: int, connections: int) -> tuple[float, NDArray[np.float64]]:
    """(start, CLOCK_MONOTONIC; rows of due, sent, answered in s after it, negative: never)."""
    start_ns = time.monotonic_ns() + 100_000_000
    words = [binaries / "load", port, connections, start_ns, GRACE_MS]
    done = subprocess.run(list(map(str, words)), input=DUE_NS.tobytes(), capture_output=True, check=True, timeout=30)
    return start_ns / 1e9, np.frombuffer(done.stdout, np.int64).reshape(-1, 3) / 1e9


@pytest.mark.parametrize("connections", [3, CONNECTIONS])
def test_all_that_was_due_in_a_stall_has_waited_for_its_end(
    binaries: Path, server: StallingServer, connections: int
) -> None:
    """Only what came before it is answered before its end; the longest latency is at least as long as the stall."""
    start_s, rows = run_load(binaries, server.port, connections)
    end_s = server.stall_end_s - start_s
    due, _, answered = rows.T
    assert (due == DUE_NS / 1e9).all()
    assert (answered < end_s).sum() <= STALLED_AT
    assert (answered - due).max() >= STALL_S


def test_the_schedule_does_not_wait_for_answers(binaries: Path, server: StallingServer) -> None:
    """A server that answers nobody before it has all requests gets them all, none before it was due."""
    server.answers_after = REQUESTS
    _, rows = run_load(binaries, server.port, CONNECTIONS)
    due, sent, answered = rows.T
    assert (sent >= due).all()
    assert answered.min() > sent.max()


def test_an_error_is_no_answer(binaries: Path, server: StallingServer) -> None:
    """What was answered with another status than 200 has no latency."""
    server.status = "503 Busy"
    _, rows = run_load(binaries, server.port, CONNECTIONS)
    assert (rows[:, 1] >= 0).all()
    assert (rows[:, 2] < 0).all()
