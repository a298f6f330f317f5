"""agent.service_manager: what arrives at a real socket, and when."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.service_manager import STATUS_INTERVAL_NS, ServiceManager

WATCHDOG_US = 4_000_000
HALF_NS = 2_000_000_000


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """NOTIFY_SOCKET's value and the socket behind it."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(name if request.param == "path" else "\0" + name)
        theirs.setblocking(False)
        yield (name if request.param == "path" else "@" + name), theirs


def received(theirs: socket.socket) -> list[str]:
    messages = []
    try:
        while True:
            messages.append(theirs.recv(4096).decode())
    except BlockingIOError:
        return messages


def test_a_life_is_ready_alive_stopping(manager: tuple[str, socket.socket]) -> None:
    """Each arrives as one datagram, at a socket with a path and at an abstract one."""
    address, theirs = manager
    ours = ServiceManager({"NOTIFY_SOCKET": address})
    ours.ready()
    ours.alive(0, "7 groups")
    ours.stopping()
    assert received(theirs) == ["READY=1", "WATCHDOG=1\nSTATUS=7 groups", "STOPPING=1"]


def test_the_watchdog_is_fed_at_half_of_its_time(manager: tuple[str, socket.socket]) -> None:
    """At once, and then not before half of it has passed."""
    ours = ServiceManager({"NOTIFY_SOCKET": manager[0], "WATCHDOG_USEC": str(WATCHDOG_US)})
    assert ours.is_due(5)
    ours.alive(5, "")
    assert not ours.is_due(5 + HALF_NS - 1)
    assert ours.is_due(5 + HALF_NS)


@pytest.mark.parametrize("watchdog_us", ["", "86400000000", "soon"], ids=["none", "a day", "no number"])
def test_the_status_is_told_where_no_watchdog_hurries(watchdog_us: str, tmp_path: Path) -> None:
    ours = ServiceManager({"NOTIFY_SOCKET": str(tmp_path), "WATCHDOG_USEC": watchdog_us})
    ours.alive(0, "")
    assert not ours.is_due(STATUS_INTERVAL_NS - 1)
    assert ours.is_due(STATUS_INTERVAL_NS)


def test_without_a_manager_nothing_is_due(caplog: pytest.LogCaptureFixture) -> None:
    """Nor said, nor complained of."""
    ours = ServiceManager({"WATCHDOG_USEC": str(WATCHDOG_US)})
    ours.ready()
    ours.stopping()
    assert not ours.is_due(HALF_NS)
    assert caplog.messages == []


def test_a_manager_that_does_not_read_stops_nobody(manager: tuple[str, socket.socket]) -> None:
    """A full socket is a warning, as is one that is gone."""
    address, theirs = manager
    ours = ServiceManager({"NOTIFY_SOCKET": address})
    for now_ns in range(1000):
        ours.alive(now_ns, "x" * 1000)
    assert 0 < len(received(theirs)) < 1000


def test_a_socket_that_is_gone_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The agent works on; the line names the variable and the reason."""
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    (message,) = caplog.messages
    assert message.startswith("the service manager is not told READY=1: NOTIFY_SOCKET: ")
    assert "No such file" in message
