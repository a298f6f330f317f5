"""A service's latency out of what it exposes to Prometheus: histogram or summary, text format or OpenMetrics. Pure."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic
from prometheus_client.samples import Sample

from agent.config_explain import one_line

LINE_BYTES_MAX = 1 << 16
KEPT_BYTES_MAX = 1 << 20

Labels = frozenset[tuple[str, str]]


class Problem(StrEnum):
    """Why a figure is not known."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    HTTP_STATUS = "http status"
    NOT_METRICS = "not metrics"
    TOO_LARGE = "too large"
    MALFORMED = "malformed"
    NO_SERIES = "no series"
    NO_QUANTILE = "no quantile"
    AMBIGUOUS = "ambiguous"
    BEYOND_BUCKETS = "beyond buckets"
    RESET = "reset"
    QUIET = "quiet"
    """Nothing was observed since the last look: no problem of the service, but no figure either."""


class SliError(Exception):
    """No figure this time. `problem` is counted, `words` are for people, in one line."""

    def __init__(self, problem: Problem, words: str) -> None:
        self.problem = problem
        self.words = one_line(" ".join(words.split()))
        super().__init__(self.words)


@dataclass(frozen=True, slots=True)
class Reading:
    """What matches of one scrape, in the metric's own unit; one of both is empty.

    `buckets`: per series cumulative counts by upper bound. `quantiles`: per series of a summary, by quantile.
    """

    buckets: Mapping[Labels, Mapping[float, float]] = field(default_factory=dict)
    quantiles: Mapping[Labels, Mapping[float, float]] = field(default_factory=dict)


def lines_of(metric: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines that concern `metric`, whole, of a body in pieces. Raises SliError.

    Most services expose thousands of others. The parser needs 30 us a line, in which it keeps other threads from
    running; a search for the name in 64 KiB is less than that.
    """
    name = metric.encode()
    concerning = re.compile(rb"^(?:# TYPE )?%b(?:_bucket)?[ {\t].*\n" % re.escape(name), re.MULTILINE)
    kept, rest = 0, b""
    for chunk in chunks:
        body, newline, rest = (rest + chunk).rpartition(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise SliError(Problem.TOO_LARGE, f"a line of more than {LINE_BYTES_MAX >> 10} KiB")
        for line in concerning.findall(body + newline) if name in body else ():
            kept += len(line)
            if kept > KEPT_BYTES_MAX:
                raise SliError(Problem.TOO_LARGE, f"{metric} has more than {KEPT_BYTES_MAX >> 20} MiB of series")
            yield line
    yield from concerning.findall(rest + b"\n")


def parse_reading(text: str, *, openmetrics: bool, metric: str, labels: Mapping[str, str]) -> Reading:
    """The series of `metric` that have all these `labels`. Raises SliError."""
    buckets: defaultdict[Labels, dict[float, float]] = defaultdict(dict)
    quantiles: defaultdict[Labels, dict[float, float]] = defaultdict(dict)
    others = False
    for sample in _samples(text, openmetrics):
        own = dict(sample.labels)
        if not labels.items() <= own.items():
            others = True
        elif sample.name == f"{metric}_bucket" and "le" in own:
            bound = _number(own.pop("le"))
            buckets[frozenset(own.items())][bound] = sample.value
        elif sample.name == metric and "quantile" in own:
            quantile = _number(own.pop("quantile"))
            quantiles[frozenset(own.items())][quantile] = sample.value
    if buckets or quantiles:
        return Reading(buckets, {} if buckets else quantiles)
    wanted = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    what = f"{metric} has no series with {wanted}" if others else f"no histogram or summary {metric}"
    raise SliError(Problem.NO_SERIES, what)


def _samples(text: str, openmetrics: bool) -> Iterator[Sample]:
    parse = parse_openmetrics if openmetrics else parse_classic
    try:
        for family in parse(text + "# EOF\n" if openmetrics else text):
            yield from family.samples
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as err:  # whatever it meets in a strange line
        raise SliError(Problem.MALFORMED, f"cannot be parsed: {err}") from err


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as err:
        raise SliError(Problem.MALFORMED, f"{text!r} is not a number") from err


def summary_quantile(reading: Reading, quantile: float) -> float:
    """As the service itself computed it over its own window. Raises SliError."""
    if len(reading.quantiles) > 1:
        raise SliError(
            Problem.AMBIGUOUS, f"{len(reading.quantiles)} series of a summary cannot be added up: give labels"
        )
    (series,) = reading.quantiles.values()
    value = next((value for at, value in series.items() if math.isclose(at, quantile)), None)
    if value is None:
        known = ", ".join(f"{at:g}" for at in sorted(series)) or "none"
        raise SliError(Problem.NO_QUANTILE, f"the summary has the quantiles {known}, not {quantile:g}")
    if math.isnan(value):
        raise SliError(Problem.QUIET, "nothing was observed")
    return value


def growth(before: Reading, after: Reading) -> dict[float, float]:
    """Observations between two readings, cumulative by upper bound, all series added up. Raises SliError.

    A series that is new begins to count with the next reading.
    """
    total: dict[float, float] = {}
    for labels, counts in after.buckets.items():
        earlier = before.buckets.get(labels)
        if earlier is None:
            continue
        if earlier.keys() != counts.keys() or any(counts[bound] < earlier[bound] for bound in counts):
            raise SliError(Problem.RESET, "its counters began anew")
        if total and total.keys() != counts.keys():
            raise SliError(Problem.AMBIGUOUS, "series with different buckets cannot be added up: give labels")
        total = {bound: total.get(bound, 0.0) + counts[bound] - earlier[bound] for bound in counts}
    if total and not (math.inf in total and all(map(math.isfinite, total.values()))):
        raise SliError(Problem.MALFORMED, 'a histogram without a bucket le="+Inf", or with a count that is no number')
    if not total or total[math.inf] <= 0:
        raise SliError(Problem.QUIET, "nothing was observed")
    return total


def histogram_quantile(cumulative: Mapping[float, float], quantile: float) -> tuple[float, bool]:
    """The quantile, linear within its bucket, and whether it is beyond the last finite bound, which then stands for it.

    As Prometheus' histogram_quantile(): the lowest bucket begins at 0, and counts that fall are taken as level.
    """
    rank = quantile * cumulative[math.inf]
    low, below = 0.0, 0.0
    for bound in sorted(cumulative):
        count = max(cumulative[bound], below)
        if count >= rank and count > 0:
            if math.isinf(bound):
                return low, True
            if bound <= 0:
                return bound, False
            return low + (bound - low) * (rank - below) / (count - below), False
        low, below = bound, count
    raise AssertionError("the last bucket has all")
