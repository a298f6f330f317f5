"""agent.samples.sli and sli_http, against real servers."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Histogram, start_http_server

from agent.config_control import SliConfig
from agent.control import SliValue
from agent.samples.sli import SliReader, SliSampler
from agent.samples.sli_formats import Problem, SliError
from agent.samples.sli_http import BODY_BYTES_MAX, scrape
from agent.units import NS_PER_S

WAIT_S = 20.0
CLASSIC = "text/plain; version=0.0.4"
SUMMARY = b'lat{quantile="0.95"} 0.25\n'

Answer = Callable[[BaseHTTPRequestHandler], None]


def config(url: str, **changes: Any) -> SliConfig:
    keys = {"name": "web", "url": url, "metric": "lat", "target": "200ms", "group": "/web*", "interval_s": 10}
    return msgspec.convert({**keys, **changes}, SliConfig)


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The URL of a server that answers so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None: ...  # the client hung up

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def body(data: bytes, content_type: str = CLASSIC, status: int = 200) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", content_type)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def problem(url: str, **changes: Any) -> tuple[Problem, str]:
    with pytest.raises(SliError) as caught:
        SliReader(config(url, **changes)).look(time.monotonic_ns)
    assert "\n" not in caught.value.words
    return caught.value.problem, caught.value.words


def eventually(condition: Callable[[], Any]) -> Any:
    """Its first true value."""
    end = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)
    return value


@pytest.fixture
def histogram() -> Iterator[tuple[Histogram, str]]:
    """Of a real service: prometheus_client's own server."""
    registry = CollectorRegistry()
    histogram = Histogram("lat", "Latency.", buckets=(0.1, 0.2, 0.4, 0.8), registry=registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield histogram, f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_histogram_gives_the_quantile_of_what_was_observed_since_the_last_look(
    histogram: tuple[Histogram, str],
) -> None:
    """Not of what was observed before; in ns, as its target."""
    service, url = histogram
    reader = SliReader(config(url))
    for _ in range(1000):
        service.observe(0.01)
    assert reader.look(lambda: 0) is None
    for _ in range(100):
        service.observe(0.3)
    value = reader.look(lambda: 7)
    assert value
    assert value == SliValue("web", "/web*", value.value, 200e6, 7)
    assert value.value == pytest.approx(0.39e9)


def test_without_observations_there_is_no_figure(histogram: tuple[Histogram, str]) -> None:
    reader = SliReader(config(histogram[1]))
    reader.look(lambda: 0)
    with pytest.raises(SliError) as caught:
        reader.look(lambda: 1)
    assert caught.value.problem is Problem.QUIET


def test_beyond_the_last_bucket_the_last_bound_stands_for_it_if_the_target_is_below(
    histogram: tuple[Histogram, str],
) -> None:
    """It is at least 800 ms then: past a target of 200 ms for sure, past one of 900 ms perhaps."""
    service, url = histogram
    low, high = SliReader(config(url)), SliReader(config(url, target="900ms"))
    assert (low.look(lambda: 0), high.look(lambda: 0)) == (None, None)
    service.observe(3)
    value = low.look(lambda: 1)
    assert value
    assert value.value == 800e6
    with pytest.raises(SliError, match="beyond the last bucket, 800 ms, which is below the target"):
        high.look(lambda: 1)


def test_a_look_after_a_long_gap_begins_anew(histogram: tuple[Histogram, str]) -> None:
    """What was observed minutes ago is no figure of now."""
    service, url = histogram
    reader = SliReader(config(url))
    reader.look(lambda: 0)
    service.observe(0.3)
    assert reader.look(lambda: 31 * NS_PER_S) is None


@pytest.mark.parametrize(("unit", "value_ns"), [("s", 250e6), ("ms", 250e3), ("us", 250.0), ("ns", 0.25)])
def test_the_unit_of_the_metric_is_taken_into_account(unit: str, value_ns: float) -> None:
    with serving(body(SUMMARY)) as url:
        value = SliReader(config(url, metric_unit=unit)).look(lambda: 0)
    assert value
    assert value.value == pytest.approx(value_ns)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (body(b"", status=404), Problem.HTTP_STATUS, "answers 404 Not Found"),
        (body(b"", status=302), Problem.HTTP_STATUS, "answers 302 Found"),
        (body(b"<html>", "text/html"), Problem.NOT_METRICS, "answers text/html, not metrics"),
        (body(b"<html>lat is 3\n"), Problem.NO_SERIES, "no histogram or summary lat"),
        (body(b"lat{quantile=\n"), Problem.MALFORMED, "cannot be parsed"),
        (body(b'lat{quantile="0.5\xff"} 3\n'), Problem.MALFORMED, "not UTF-8"),
        (body(b'lat{quantile="0.5"} 3\n'), Problem.NO_QUANTILE, "the summary has the quantiles 0.5, not 0.95"),
        (lambda handler: handler.wfile.write(b"gibberish\n\n"), Problem.UNREACHABLE, "gibberish"),
        (lambda handler: None, Problem.UNREACHABLE, "closed connection without response"),
    ],
    ids=["404", "redirect", "html", "html as text", "malformed", "not utf-8", "quantile", "not http", "hangs up"],
)
def test_what_a_server_answers_instead_is_told_apart(answer: Answer, kind: Problem, words: str) -> None:
    with serving(answer) as url:
        found, said = problem(url)
    assert (found, words in said) == (kind, True), said


def test_a_body_without_end_is_given_up() -> None:
    sent = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        body(b"")(handler)
        line = b"other 1\n" * 8192
        while True:
            handler.wfile.write(line)
            sent.append(len(line))

    with serving(endless) as url, pytest.raises(SliError) as caught:
        scrape(url, "lat", timeout_s=WAIT_S)
    assert caught.value.problem is Problem.TOO_LARGE
    assert sum(sent) < 2 * BODY_BYTES_MAX


def test_a_server_that_trickles_is_given_up() -> None:
    """Each single byte comes in time, all of them do not."""
    closing = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        body(b"")(handler)
        while not closing.wait(0.05):
            handler.wfile.write(b"x")

    with serving(trickle) as url:
        assert problem(url, interval_s=0.5) == (Problem.TIMEOUT, "no answer within 0.5 s")
        closing.set()


def test_a_port_where_nobody_listens_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert problem(f"http://127.0.0.1:{port}/") == (Problem.UNREACHABLE, "Connection refused")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1/", "http://a b/", "http://" + "x" * 300])
def test_an_address_that_is_none_is_said(url: str) -> None:
    with pytest.raises(SliError) as caught:
        scrape(url, "lat", timeout_s=1)
    assert caught.value.problem is Problem.UNREACHABLE


def test_openmetrics_is_taken_as_such() -> None:
    """With its exemplars; and it is strict: the text format may lack the last bucket, for a while."""
    openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    text = b'# TYPE lat histogram\nlat_bucket{le="0.1"} 1 # {t="1"} 0.05\n'
    with serving(body(text + b'lat_bucket{le="+Inf"} 1\n# EOF\n', openmetrics)) as url:
        assert SliReader(config(url)).look(lambda: 0) is None
    with serving(body(text + b"# EOF\n", openmetrics)) as url:
        assert problem(url)[0] is Problem.MALFORMED
    with serving(body(text)) as url:
        assert SliReader(config(url)).look(lambda: 0) is None


def test_a_server_that_hangs_delays_nobody() -> None:
    """The other figure comes, every call returns at once, and so does closing."""
    closing = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        closing.wait(60)

    with serving(hang) as hanging, serving(body(SUMMARY)) as well:
        sampler = SliSampler([config(hanging, interval_s=10), config(well, name="api")])
        try:
            eventually(lambda: sampler.values(time.monotonic_ns()))
            begin = time.monotonic()
            assert [*sampler.values(time.monotonic_ns())] == ["api"]
            assert sampler.problems() == {}
            assert [(view.name, view.value_ns, view.failed) for view in sampler.views(time.monotonic_ns())] == [
                ("web", None, {}),
                ("api", 250e6, {}),
            ]
        finally:
            sampler.close()
            closing.set()
        assert time.monotonic() - begin < 5


def test_a_figure_is_not_known_any_more_after_three_intervals() -> None:
    """The service dies: absent, never 0; said once, counted each time; when it is back it is known again."""
    is_dead = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (body(b"", status=503) if is_dead.is_set() else body(SUMMARY))(handler)

    with serving(answer) as url:
        sampler = SliSampler([config(url, interval_s=0.5)])
        try:
            value = eventually(lambda: sampler.values(time.monotonic_ns()))["web"]
            assert value.value == 250e6
            is_dead.set()
            eventually(lambda: not sampler.values(time.monotonic_ns()))
            eventually(lambda: sampler.problems() == {"web": "answers 503 Service Unavailable"})
            eventually(lambda: sampler.views(time.monotonic_ns())[0].failed.get("http status", 0) >= 2)
            assert sampler.views(time.monotonic_ns())[0].value_ns is None
            is_dead.clear()
            eventually(lambda: sampler.values(time.monotonic_ns()))
            eventually(lambda: sampler.problems() == {})
        finally:
            sampler.close()


def test_a_figure_is_as_old_as_three_intervals_at_most() -> None:
    """To the nanosecond."""
    with serving(body(SUMMARY)) as url:
        sampler = SliSampler([config(url)])
        try:
            value = eventually(lambda: sampler.values(time.monotonic_ns()))["web"]
            assert sampler.values(value.time_ns + 30 * NS_PER_S) == {"web": value}
            assert sampler.values(value.time_ns + 30 * NS_PER_S + 1) == {}
        finally:
            sampler.close()


@pytest.mark.slow
def test_a_problem_is_logged_when_it_changes_and_not_each_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That nobody asked anything of the service is no news."""
    dead, quiet = SliError(Problem.TIMEOUT, "no answer"), SliError(Problem.QUIET, "nothing was observed")
    gone = SliError(Problem.HTTP_STATUS, "answers 404")
    looks = [dead, dead, quiet, dead, gone, None, quiet, None]
    is_done = threading.Event()

    def look(*_: object) -> None:
        if not looks:
            is_done.set()
        elif error := looks.pop(0):
            raise error

    monkeypatch.setattr(SliReader, "look", look)
    with caplog.at_level(logging.INFO):
        sampler = SliSampler([config("http://x", interval_s=0.5)])
        try:
            assert is_done.wait(WAIT_S)
        finally:
            sampler.close()
    messages = [record.getMessage() for record in caplog.records if record.name == "agent.samples.sli"]
    assert messages == [
        "sli web: not known: http://x: no answer",
        "sli web: not known: http://x: answers 404",
        "sli web: known again",
    ]


def test_an_agent_without_sli_does_not_pay_for_the_parser() -> None:
    script = "import agent.loop, sys; print('prometheus_client' in sys.modules, 'http.client' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
