"""Serve /metrics over HTTP: a WSGI application, and waitress in threads of its own.

Before the first tick the answer is 503, not the agent's own families: a scrape that succeeds without a group would
look like an idle host, and `up` would say 1; the next scrape finds a tick.
"""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from waitress.server import create_server  # type: ignore[import-untyped]
from waitress.wasyncore import close_all  # type: ignore[import-untyped]

from agent.errors import HostError
from agent.metrics.family import View
from agent.metrics.live import Metrics
from agent.metrics.protobuf import PROTOBUF_TYPE, render_protobuf
from agent.metrics.text import CLASSIC_TYPE, OPENMETRICS_TYPE, render_text

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PLAIN_TYPE = "text/plain; charset=utf-8"
GZIP_LEVEL = 1
GZIP_WBITS = 31
"""zlib's way to ask for a gzip header around a 32 KiB window."""
THREADS = 2
CONNECTIONS_MAX = 32
IDLE_TIMEOUT_S = 30
BODY_BYTES_MAX = 64 << 20
"""Above any exposition, so that a slow reader never holds a thread: what it has not read waits in a buffer, from
1 MiB on in an unlinked temporary file."""
CLOSE_TIMEOUT_S = 0.05

Headers = list[tuple[str, str]]
Reply = tuple[str, Headers, list[bytes]]


def metrics_app(metrics: Metrics) -> WSGIApplication:
    """GET or HEAD of /metrics and of /; anything else is 404 or 405."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, headers, body = _reply(metrics, environ)
        start_response(status, [*headers, ("Content-Length", str(sum(map(len, body))))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    return app


def _reply(metrics: Metrics, environ: WSGIEnvironment) -> Reply:
    path = environ.get("PATH_INFO", "")
    if path not in ("/", "/metrics"):
        return "404 Not Found", [("Content-Type", PLAIN_TYPE)], [b"not found; metrics are at /metrics\n"]
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return "405 Method Not Allowed", [("Content-Type", PLAIN_TYPE), ("Allow", "GET, HEAD")], [b"GET or HEAD\n"]
    if path == "/":
        return (
            "200 OK",
            [("Content-Type", "text/html; charset=utf-8")],
            [b'<a href="/metrics">Slackwater metrics</a>\n'],
        )
    view = metrics.view()
    if view is None:
        return "503 Service Unavailable", [("Content-Type", PLAIN_TYPE), ("Retry-After", "1")], [b"no tick yet\n"]
    content_type, render = choose_format(environ.get("HTTP_ACCEPT", ""))
    headers = [("Content-Type", content_type), ("Vary", "Accept, Accept-Encoding")]
    if _quality(environ.get("HTTP_ACCEPT_ENCODING", ""), _is_gzip) > 0:  # any exposition is larger than a packet
        return "200 OK", [*headers, ("Content-Encoding", "gzip")], list(_gzip(render(view)))
    return "200 OK", headers, list(render(view))


Render = Callable[[View], Iterator[bytes]]
Parameters = dict[str, str]


def choose_format(accept: str) -> tuple[str, Render]:
    """Content type and writer for an Accept header: the format it likes best, the classic text when in doubt."""
    protobuf, openmetrics = _quality(accept, _is_protobuf), _quality(accept, _is_openmetrics)
    if protobuf > 0 and protobuf >= max(openmetrics, _quality(accept, _is_classic)):
        return PROTOBUF_TYPE, render_protobuf
    if openmetrics > 0 and openmetrics >= _quality(accept, _is_classic):
        return OPENMETRICS_TYPE, lambda view: render_text(view, openmetrics=True)
    return CLASSIC_TYPE, lambda view: render_text(view, openmetrics=False)


def _quality(header: str, matches: Callable[[str, Parameters], bool]) -> float:
    """Largest q of the elements of an Accept* header that match; 0 without any (RFC 9110, 12.4.2)."""
    best = 0.0
    for element in header.split(","):
        value, *rest = (part.strip().lower() for part in element.split(";"))
        parameters = {key.strip(): item.strip() for key, _, item in (part.partition("=") for part in rest)}
        if matches(value, parameters):
            try:
                best = max(best, float(parameters.get("q", 1.0)))
            except ValueError:
                continue
    return best


def _is_protobuf(value: str, parameters: Parameters) -> bool:
    return (
        value == "application/vnd.google.protobuf"
        and parameters.get("proto") == "io.prometheus.client.metricfamily"
        and parameters.get("encoding") == "delimited"
    )


def _is_openmetrics(value: str, parameters: Parameters) -> bool:
    return value == "application/openmetrics-text" and parameters.get("version", "1.0.0") == "1.0.0"


def _is_classic(value: str, parameters: Parameters) -> bool:
    return value == "text/plain" and parameters.get("version", "0.0.4") == "0.0.4"


def _is_gzip(value: str, parameters: Parameters) -> bool:
    return value == "gzip"


def _gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WBITS)
    for chunk in chunks:
        if packed := compressor.compress(chunk):
            yield packed
    yield compressor.flush()


class MetricsServer:
    """Serves from the moment it is made. Raises HostError when the address cannot be had."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        listener = _listen(host, port)
        self.port: int = listener.getsockname()[1]
        self._sockets: dict[int, Any] = {}
        self._server = create_server(
            metrics_app(metrics),
            map=self._sockets,
            sockets=[listener],
            threads=THREADS,
            ident=None,
            connection_limit=CONNECTIONS_MAX,
            channel_timeout=IDLE_TIMEOUT_S,
            outbuf_high_watermark=BODY_BYTES_MAX,
            max_request_body_size=0,
            max_request_header_size=16 << 10,
            asyncore_loop_timeout=10,
            asyncore_use_poll=True,
            log_socket_errors=False,
        )
        self._thread = threading.Thread(target=self._server.run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and drop every connection, within 100 ms. More than once does nothing."""
        if self._thread.is_alive():
            self._server.task_dispatcher.shutdown(timeout=CLOSE_TIMEOUT_S)
            self._server.trigger.pull_trigger(lambda: close_all(self._sockets))
            self._thread.join(CLOSE_TIMEOUT_S)

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket that listens. Raises HostError with the address."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, _, _, _, sockaddr = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((sockaddr[0], port), family=family)
    except OSError as err:
        raise HostError(f"cannot serve metrics: {err.strerror}", path=address, errno=err.errno) from err
    except ValueError as err:  # of the idna codec: a label that is empty or longer than 63 characters
        raise HostError("cannot serve metrics: not a host name", path=address) from err
