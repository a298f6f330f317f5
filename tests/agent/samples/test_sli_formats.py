"""agent.samples.sli_formats: quantiles out of expositions."""

import contextlib
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from agent.samples.sli_formats import (
    LINE_BYTES_MAX,
    Problem,
    Reading,
    SliError,
    growth,
    histogram_quantile,
    lines_of,
    parse_reading,
    summary_quantile,
)

INF = math.inf
SERVED = """\
# HELP lat Latency.
# TYPE lat histogram
lat_bucket{path="/",le="0.1"} 6
lat_bucket{path="/",le="0.5"} 9
lat_bucket{path="/",le="+Inf"} 10
lat_sum{path="/"} 3.5
lat_count{path="/"} 10
# TYPE lat_total counter
lat_total 12
# TYPE other_lat histogram
other_lat_bucket{le="+Inf"} 7
# TYPE sum summary
sum{quantile="0.5"} 0.02
sum{quantile="0.99"} 0.3
"""


def kept(metric: str, text: str) -> str:
    return b"".join(lines_of(metric, [text.encode()])).decode()


def reading(text: str, metric: str = "lat", *, openmetrics: bool = False, **labels: str) -> Reading:
    return parse_reading(kept(metric, text), openmetrics=openmetrics, metric=metric, labels=labels)


def buckets(*counts: float, series: str = "a") -> Reading:
    """A histogram with the bounds 1, 2, 4, +Inf (or as many of them as there are counts)."""
    bounds = (1.0, 2.0, 4.0)[: len(counts) - 1]
    return Reading({frozenset({("s", series)}): dict(zip((*bounds, INF), counts, strict=True))})


def problem_of(call: Callable[[], object]) -> Problem:
    with pytest.raises(SliError) as caught:
        call()
    assert "\n" not in caught.value.words
    return caught.value.problem


def test_only_lines_of_the_metric_are_kept() -> None:
    assert kept("lat", SERVED).splitlines() == [
        "# TYPE lat histogram",
        'lat_bucket{path="/",le="0.1"} 6',
        'lat_bucket{path="/",le="0.5"} 9',
        'lat_bucket{path="/",le="+Inf"} 10',
    ]


@given(st.integers(1, 400))
def test_lines_are_whole_however_the_body_is_cut(size: int) -> None:
    body = SERVED.encode()
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    assert b"".join(lines_of("sum", chunks)).decode() == kept("sum", SERVED)


def test_a_last_line_without_newline_counts() -> None:
    assert kept("x", "x 1") == "x 1\n"


def test_a_line_without_end_is_refused() -> None:
    endless = (b"x" * 4096 for _ in range(10**9))
    assert problem_of(lambda: list(lines_of("lat", endless))) is Problem.TOO_LARGE


def test_too_many_series_are_refused() -> None:
    chunk = b'lat_bucket{le="1"} 1\n' * 1000
    assert problem_of(lambda: list(lines_of("lat", (chunk for _ in range(10**9))))) is Problem.TOO_LARGE
    assert LINE_BYTES_MAX > 4096


@pytest.mark.parametrize("openmetrics", [False, True])
def test_both_formats_of_the_official_library_give_the_same_reading(openmetrics: bool) -> None:
    """Exemplars included."""
    registry = CollectorRegistry()
    histogram = Histogram("lat", "Latency.", ["path"], buckets=(0.1, 0.5), registry=registry)
    for value in (0.05, 0.2, 7):
        histogram.labels("/").observe(value, {"trace": "1"})
    text = (generate_openmetrics if openmetrics else generate_latest)(registry).decode()
    assert reading(text, openmetrics=openmetrics) == Reading({frozenset({("path", "/")}): {0.1: 1, 0.5: 2, INF: 3}})


def test_labels_choose_series() -> None:
    assert reading(SERVED, path="/").buckets
    assert problem_of(lambda: reading(SERVED, path="/x")) is Problem.NO_SERIES


@pytest.mark.parametrize("metric", ["nothing", "lat_total", "lat_bucket"])
def test_what_is_no_histogram_or_summary_is_said(metric: str) -> None:
    assert problem_of(lambda: reading(SERVED, metric)) is Problem.NO_SERIES


@pytest.mark.parametrize("line", ['lat_bucket{le="0.1} 6\n', 'lat_bucket{le="0.1"} six\n', 'lat_bucket{le="x"} 6\n'])
@pytest.mark.parametrize("openmetrics", [False, True])
def test_what_cannot_be_parsed_is_said(line: str, openmetrics: bool) -> None:
    assert problem_of(lambda: reading(line, openmetrics=openmetrics)) is Problem.MALFORMED


@given(st.text(max_size=60), st.booleans())
def test_no_line_however_strange_raises_anything_else(text: str, openmetrics: bool) -> None:
    with contextlib.suppress(SliError):
        parse_reading(f"lat_bucket{{{text}\n", openmetrics=openmetrics, metric="lat", labels={})


def test_a_summary_gives_its_own_quantile() -> None:
    assert summary_quantile(reading(SERVED, "sum"), 0.99) == 0.3


def test_a_quantile_that_a_summary_lacks_is_an_error_that_names_those_it_has() -> None:
    with pytest.raises(SliError, match=r"the summary has the quantiles 0\.5, 0\.99, not 0\.9$") as caught:
        summary_quantile(reading(SERVED, "sum"), 0.9)
    assert caught.value.problem is Problem.NO_QUANTILE


def test_a_summary_of_nothing_is_quiet_and_not_0() -> None:
    assert problem_of(lambda: summary_quantile(reading('s{quantile="0.5"} NaN\n', "s"), 0.5)) is Problem.QUIET


def test_several_summaries_are_ambiguous() -> None:
    text = 's{a="1",quantile="0.5"} 1\ns{a="2",quantile="0.5"} 2\n'
    assert problem_of(lambda: summary_quantile(reading(text, "s"), 0.5)) is Problem.AMBIGUOUS


def test_growth_is_what_was_observed_between_two_readings_of_all_series() -> None:
    before = Reading({**buckets(1, 2, 3, 4).buckets, **buckets(0, 0, 0, 0, series="b").buckets})
    after = Reading({**buckets(2, 4, 6, 8).buckets, **buckets(1, 1, 1, 1, series="b").buckets})
    assert growth(before, after) == {1: 2, 2: 3, 4: 4, INF: 5}


def test_a_new_series_counts_from_the_next_reading_on() -> None:
    after = Reading({**buckets(2, 4, 6, 8).buckets, **buckets(9, 9, 9, 9, series="b").buckets})
    assert growth(buckets(1, 2, 3, 4), after) == {1: 1, 2: 2, 4: 3, INF: 4}


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (buckets(1, 2, 3, 4), buckets(1, 2, 3, 4), Problem.QUIET),
        (buckets(1, 2, 3, 4), buckets(1, 1, 1, 1, series="b"), Problem.QUIET),
        (buckets(1, 2, 3, 4), buckets(0, 1, 2, 3), Problem.RESET),
        (buckets(1, 2, 3, 4), buckets(5, 6), Problem.RESET),
        (buckets(0, 0, 0, 0), buckets(1, 2, 3, math.nan), Problem.MALFORMED),
        (Reading({frozenset(): {1.0: 1}}), Reading({frozenset(): {1.0: 2}}), Problem.MALFORMED),
        (
            Reading({**buckets(0, 0).buckets, **buckets(0, 0, 0, series="b").buckets}),
            Reading({**buckets(1, 1).buckets, **buckets(1, 1, 1, series="b").buckets}),
            Problem.AMBIGUOUS,
        ),
    ],
    ids=["nothing new", "another series", "reset", "other buckets", "no number", "no +Inf", "different buckets"],
)
def test_what_gives_no_growth_is_told_apart(before: Reading, after: Reading, problem: Problem) -> None:
    assert problem_of(lambda: growth(before, after)) is problem


@pytest.mark.parametrize(
    ("quantile", "value", "is_beyond"),
    [(0.05, 0.5, False), (0.1, 1.0, False), (0.3, 1.5, False), (0.5, 2.0, False), (0.9, 4.0, False), (0.91, 4.0, True)],
)
def test_a_quantile_is_linear_within_its_bucket_and_never_past_the_last_bound(
    quantile: float, value: float, is_beyond: bool
) -> None:
    """10 observations: 1 up to 1, 4 up to 2, 4 up to 4, 1 beyond."""
    found, beyond = histogram_quantile({1: 1, 2: 5, 4: 9, INF: 10}, quantile)
    assert found == pytest.approx(value)
    assert beyond is is_beyond


@given(
    st.lists(st.floats(0.001, 20), min_size=1, max_size=200),
    st.floats(0.01, 0.9999),
    st.lists(st.floats(0.01, 10), min_size=1, max_size=12, unique=True),
)
def test_the_quantile_is_in_the_bucket_in_which_the_true_one_is(
    values: list[float], quantile: float, bounds: list[float]
) -> None:
    cumulative = {bound: float(sum(value <= bound for value in values)) for bound in [*bounds, INF]}
    found, is_beyond = histogram_quantile(cumulative, quantile)
    true = sorted(values)[max(math.ceil(quantile * len(values)) - 1, 0)]
    above = min(bound for bound in cumulative if true <= bound)
    below = max((bound for bound in bounds if bound < true), default=0.0)
    assert is_beyond is math.isinf(above)
    assert found == below if is_beyond else below <= found <= above * (1 + 1e-9)


def test_a_lowest_bound_that_is_not_positive_stands_for_what_is_below_it() -> None:
    assert histogram_quantile({-1: 5, INF: 5}, 0.5) == (-1, False)


def test_counts_that_fall_are_taken_as_level() -> None:
    """A service that is scraped while it counts may show such."""
    assert histogram_quantile({1: 5, 2: 3, 4: 9, INF: 10}, 0.6) == (2.5, False)
