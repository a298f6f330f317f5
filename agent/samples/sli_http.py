"""One GET of a service's metrics: bounded in time and size, no redirects, no proxies, nothing kept open."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import agent
from agent.samples.sli_formats import Problem, SliError, lines_of

BODY_BYTES_MAX = 16 << 20
_CHUNK_BYTES: Final = 1 << 16
_HEADERS: Final = {
    "Accept": "text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0;q=0.5",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": f"slackwater/{agent.__version__}",
}


def scrape(url: str, metric: str, timeout_s: float) -> tuple[str, bool]:
    """The lines that concern `metric`, and whether they are OpenMetrics. Raises SliError, in about `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    try:
        connection, target = _connection(url, timeout_s)
        with contextlib.closing(connection):
            connection.request("GET", target, headers=_HEADERS)
            with connection.getresponse() as response:
                openmetrics = _is_openmetrics(response)
                return b"".join(lines_of(metric, _body(response, deadline))).decode(), openmetrics
    except TimeoutError as err:
        raise SliError(Problem.TIMEOUT, f"no answer within {timeout_s:g} s") from err
    except UnicodeDecodeError as err:
        raise SliError(Problem.MALFORMED, "not UTF-8") from err
    except (OSError, http.client.HTTPException, ValueError) as err:
        words = getattr(err, "strerror", None) or str(err) or type(err).__name__
        raise SliError(Problem.UNREACHABLE, words) from err


def _connection(url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
    """And the request's target. ValueError: the port or the host is none."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=context), target
    return http.client.HTTPConnection(host, parts.port, timeout=timeout_s), target


def _is_openmetrics(response: http.client.HTTPResponse) -> bool:
    """Raises SliError for whatever is no exposition."""
    if response.status != http.client.OK:
        raise SliError(Problem.HTTP_STATUS, f"answers {response.status} {response.reason}")
    kind = (response.headers.get("Content-Type") or "text/plain").partition(";")[0].strip().lower()
    if kind not in ("text/plain", "application/openmetrics-text"):
        raise SliError(Problem.NOT_METRICS, f"answers {kind}, not metrics")
    if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise SliError(Problem.NOT_METRICS, f"answers {encoding}, which was not asked for")
    return kind == "application/openmetrics-text"


def _body(response: http.client.HTTPResponse, deadline: float) -> Iterator[bytes]:
    size = 0
    while chunk := response.read1(_CHUNK_BYTES):
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise SliError(Problem.TOO_LARGE, f"more than {BODY_BYTES_MAX >> 20} MiB")
        if time.monotonic() > deadline:  # a server that trickles
            raise TimeoutError
        yield chunk
