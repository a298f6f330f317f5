"""The HTTP server of /metrics, by real sockets."""

from __future__ import annotations

import gzip
import http.client
import re
import socket
import time
from collections.abc import Iterator

import pytest

from agent.errors import HostError
from agent.metrics.live import Metrics
from agent.metrics.protobuf import PROTOBUF_TYPE
from agent.metrics.server import MetricsServer, choose_format
from agent.metrics.text import CLASSIC_TYPE, OPENMETRICS_TYPE
from tests.agent.metrics_samples import groups_of, profile_of, tick_of

PROTOBUF_ACCEPT = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def metrics_of(count: int) -> Metrics:
    metrics = Metrics(version="0", culprits_per_group=5)
    groups = groups_of(count)
    metrics.update(tick_of(groups), profile_of(groups))
    return metrics


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer(metrics_of(20), "127.0.0.1", 0) as running:
        yield running


def ask(
    server: MetricsServer, path: str = "/metrics", method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_metrics_are_served_as_classic_text_when_nothing_is_asked_for(server: MetricsServer) -> None:
    status, headers, body = ask(server)
    assert (status, headers["Content-Type"]) == (200, CLASSIC_TYPE)
    assert int(headers["Content-Length"]) == len(body)
    assert body.endswith(b"\n")
    assert b"slackwater_agent_build_info" in body


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", CLASSIC_TYPE),
        ("*/*", CLASSIC_TYPE),
        ("text/html", CLASSIC_TYPE),
        (PROMETHEUS_ACCEPT, OPENMETRICS_TYPE),
        (f"{PROTOBUF_ACCEPT},{PROMETHEUS_ACCEPT}", PROTOBUF_TYPE),
        (f"{PROTOBUF_ACCEPT};q=0.2, text/plain;q=0.9", CLASSIC_TYPE),
        ("application/vnd.google.protobuf", CLASSIC_TYPE),
        ("application/openmetrics-text;version=0.0.1", CLASSIC_TYPE),
        ("application/openmetrics-text; version=1.0.0; q=0", CLASSIC_TYPE),
        ("application/openmetrics-text;q=much", CLASSIC_TYPE),
        (";;,=;,", CLASSIC_TYPE),
    ],
)
def test_the_format_that_the_scraper_likes_best_is_chosen(accept: str, content_type: str) -> None:
    assert choose_format(accept)[0] == content_type


def test_gzip_is_used_when_accepted_and_only_then(server: MetricsServer) -> None:
    _, plain_headers, plain = ask(server, Accept_Encoding="gzip;q=0, identity")
    _, headers, packed = ask(server, Accept_Encoding="deflate, gzip")
    assert (plain_headers["Content-Encoding"], headers["Content-Encoding"]) == (None, "gzip")
    age = re.compile(rb"sample_age_seconds \S+")
    assert age.sub(b"", gzip.decompress(packed)) == age.sub(b"", plain)
    assert len(packed) < len(plain) / 5


def test_head_has_the_headers_of_get_and_no_body(server: MetricsServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with client.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert CLASSIC_TYPE.encode() in head
    assert int(re.findall(rb"Content-Length: (\d+)", head)[0]) > 1000
    assert body == b""


def test_the_root_links_to_the_metrics(server: MetricsServer) -> None:
    assert b'href="/metrics"' in ask(server, "/")[2]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/else", "GET", 404), ("/metrics/", "GET", 404), ("/metrics", "POST", 405), ("/", "DELETE", 405)],
)
def test_other_paths_are_404_and_other_methods_405(server: MetricsServer, path: str, method: str, status: int) -> None:
    got, headers, _ = ask(server, path, method)
    assert got == status
    assert status != 405 or headers["Allow"] == "GET, HEAD"


def test_before_the_first_tick_a_scrape_fails_with_503() -> None:
    with MetricsServer(Metrics(version="0", culprits_per_group=5), "127.0.0.1", 0) as server:
        assert ask(server)[0] == 503


def test_a_connection_serves_many_scrapes(server: MetricsServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.connect()
    first = connection.sock
    for _ in range(3):
        connection.request("GET", "/metrics")
        assert connection.getresponse().read()
        assert connection.sock is first
    connection.close()


def test_an_address_in_use_is_one_line_that_names_it(server: MetricsServer) -> None:
    with pytest.raises(
        HostError, match=rf"127\.0\.0\.1:{server.port}: cannot serve metrics: Address already in use"
    ) as e:
        MetricsServer(metrics_of(0), "127.0.0.1", server.port)
    assert "\n" not in str(e.value)


def test_an_address_that_is_not_ours_is_refused_with_its_name() -> None:
    with pytest.raises(HostError, match=r"^\[2001:db8::1\]:9753: "):
        MetricsServer(metrics_of(0), "2001:db8::1", 9753)
    with pytest.raises(HostError, match=r"no-such-host\.invalid:9753"):
        MetricsServer(metrics_of(0), "no-such-host.invalid", 9753)


def test_ipv6_is_served() -> None:
    try:
        server = MetricsServer(metrics_of(1), "::1", 0)
    except HostError as err:
        pytest.skip(str(err))
    with server:
        connection = http.client.HTTPConnection("::1", server.port, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().read()
        connection.close()


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".b"])
def test_a_name_that_is_no_host_name_is_a_host_error(host: str) -> None:
    with pytest.raises(HostError, match="not a host name"):
        MetricsServer(metrics_of(0), host, 0)


def test_clients_that_do_not_read_hold_up_nobody() -> None:
    with MetricsServer(metrics_of(400), "127.0.0.1", 0) as server:
        slow = []
        for _ in range(8):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.append(client)
        half = socket.create_connection(("127.0.0.1", server.port))
        half.sendall(b"GET /metr")
        assert ask(server)[0] == 200
        start_s = time.monotonic()
        server.close()
        assert time.monotonic() - start_s < 0.5
        for client in (*slow, half):
            client.close()


def test_close_is_quick_frees_the_port_and_can_be_repeated() -> None:
    server = MetricsServer(metrics_of(5), "127.0.0.1", 0)
    idle = socket.create_connection(("127.0.0.1", server.port))
    ask(server)
    start_s = time.monotonic()
    server.close()
    took_s = time.monotonic() - start_s
    server.close()
    assert took_s < 0.5  # 100 ms by design; the machine may be busy
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    MetricsServer(metrics_of(0), "127.0.0.1", server.port).close()
    idle.close()
