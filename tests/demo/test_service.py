"""The demo's service, asked by clients that are not ours."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Service:
    pid: int
    port: int

    def samples(self) -> dict[str, float]:
        """Of /metrics: buckets by their bound, and "sum" and "count"."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        (family,) = text_string_to_metric_families(text)
        assert (family.name, family.type) == ("demo_request_seconds", "histogram")
        return {sample.labels.get("le", sample.name.rpartition("_")[2]): sample.value for sample in family.samples}


@pytest.fixture
def service(binaries: Path) -> Iterator[Service]:
    with subprocess.Popen([binaries / "service", "0", "2", "1000"], stdout=subprocess.PIPE) as popen:
        assert popen.stdout
        yield Service(popen.pid, int(popen.stdout.readline()))
        popen.kill()


def test_a_connection_serves_many_requests(service: Service) -> None:
    """Keep-alive: the client's socket stays the same; a path that there is not does not end it."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=10)
    sockets = set()
    for path, status in (("/", 200), ("/nowhere", 404), ("/", 200)):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.will_close) == (status, False)
        answer.read()
        assert connection.sock
        sockets.add(connection.sock.getsockname())
    connection.close()
    assert len(sockets) == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", b"405"),
        (b"hello\r\n\r\n", b"400"),
    ],
    ids=["close", "1.0", "post", "garbage"],
)
def test_a_connection_that_cannot_go_on_is_closed(service: Service, request_: bytes, status: bytes) -> None:
    """After the answer."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(request_)
        answer = b""
        while part := client.recv(4096):
            answer += part
    assert answer.split()[1] == status


def test_requests_may_come_in_pieces_or_together(service: Service) -> None:
    """Three requests, cut in the middle of the second: three answers."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(GET + GET[:20])
        time.sleep(0.02)
        client.sendall(GET[20:] + GET)
        answers = b""
        while answers.count(b"200 OK") < 3:
            part = client.recv(4096)
            assert part
            answers += part


def test_its_histogram_counts_the_wait_before_it_ran(service: Service) -> None:
    """A request that arrives while the service is stopped took at least as long as the rest of the stop."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(GET)
        client.recv(4096)
        before = service.samples()
        os.kill(service.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, service.pid, os.WSTOPPED)
        client.sendall(GET)
        time.sleep(0.1)
        os.kill(service.pid, signal.SIGCONT)
        client.recv(4096)
    after = service.samples()
    assert after["count"] - before["count"] == 1
    assert after["+Inf"] == after["count"]
    assert after["sum"] - before["sum"] >= 0.1
    bounds = [bound for bound in after if bound not in ("sum", "count")]
    assert [after[bound] for bound in bounds] == sorted(after[bound] for bound in bounds)
    assert [bound for bound in bounds if float(bound) < 0.1 and after[bound] != before[bound]] == []
