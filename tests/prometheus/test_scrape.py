"""Real Prometheus servers scrape the agent's endpoint: one with native histograms, one without."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from agent.metrics.histograms import LE_S
from agent.metrics.live import Metrics
from agent.metrics.server import MetricsServer
from agent.records import ZERO_BUCKET
from tests.agent.metrics_samples import groups_of, histogram_of, profile_of, tick_of
from tests.ports import free_port
from tests.prometheus.tools import tool

START_TIMEOUT_S = 60.0
GROUPS = groups_of(12)
IDS = np.array([group.id for group in GROUPS], np.uint64)
SAMPLE = histogram_of(IDS, schema=3)
PLAIN = 9
"""Row of a group whose name is not odd."""
SELECTOR = f'group="{GROUPS[PLAIN].path}",wait="contention"'

Query = Callable[[str], list[dict[str, str]]]


@contextmanager
def prometheus(directory: Path, scraped_port: int, *options: str) -> Iterator[Query]:
    """A server that scrapes once a second; what is yielded answers instant queries, as label sets with a `value`."""
    config = directory / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: agent, static_configs: [{{targets: ['127.0.0.1:{scraped_port}']}}]}}]\n"
    )
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    arguments = [
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *options,
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([tool("prometheus"), *arguments], stdout=log, stderr=log, cwd=directory)

    def query(expression: str) -> list[dict[str, str]]:
        url = f"{base}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=5) as response:
            answer = json.load(response)
        return [row["metric"] | {"value": row["value"][1]} for row in answer["data"]["result"]]

    try:
        wait_for(lambda: query("up") and query("up")[0]["value"] == "1", (directory / "log"))
        yield query
    finally:
        process.terminate()
        process.wait(10)
    assert "Error on ingesting" not in (directory / "log").read_text()  # duplicates, disorder


def wait_for(done: Callable[[], object], log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            if done():
                return
        except OSError:
            pass
        time.sleep(0.2)
    pytest.fail(f"no scrape in {START_TIMEOUT_S} s\n{log.read_text()[-2000:]}")


def truth() -> tuple[int, float, float]:
    """Count, sum in s, and the upper bound in s of the bucket that holds the p99, of the selected histogram."""
    mine = np.flatnonzero((SAMPLE.ids == IDS[PLAIN]) & (SAMPLE.class_index == 0) & (SAMPLE.bucket != ZERO_BUCKET))
    mine = mine[np.argsort(SAMPLE.bucket[mine])]
    zeros = SAMPLE.count[(SAMPLE.ids == IDS[PLAIN]) & (SAMPLE.class_index == 0) & (SAMPLE.bucket == ZERO_BUCKET)].sum()
    cumulative = zeros + SAMPLE.count[mine].cumsum()
    p99 = SAMPLE.bucket[mine][np.searchsorted(cumulative, 0.99 * cumulative[-1])]
    total = (SAMPLE.total_ids == IDS[PLAIN]) & (SAMPLE.total_class_index == 0)
    return int(cumulative[-1]), float(SAMPLE.total_sum_ns[total][0]) / 1e9, float(2.0 ** (p99 / 8))


@pytest.fixture(scope="module")
def server() -> Iterator[MetricsServer]:
    metrics = Metrics(version="0", culprits_per_group=3)
    metrics.update(tick_of(GROUPS, histograms=SAMPLE), profile_of(GROUPS))
    with MetricsServer(metrics, "127.0.0.1", 0) as running:
        yield running


def value_of(rows: list[dict[str, str]]) -> float:
    assert len(rows) == 1, rows
    return float(rows[0]["value"])


def check_scalars(query: Query) -> None:
    """Figures that do not depend on the format."""
    assert value_of(query("slackwater_node_cpus")) == 2
    assert value_of(query(f"slackwater_group_waited_split_seconds_total{{{SELECTOR}}}")) == 0.02
    assert value_of(query("count(slackwater_group_info)")) == len(GROUPS)
    assert {row["group"] for row in query("slackwater_group_info")} == {
        group.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for group in GROUPS
    }
    assert value_of(query('max(count by (group) (slackwater_culprit_wait_seconds_total{culprit!="(other)"}))')) == 3


@pytest.mark.slow
def test_prometheus_with_native_histograms_takes_them_and_answers_rightly(
    server: MetricsServer, tmp_path: Path
) -> None:
    with prometheus(tmp_path, server.port, "--enable-feature=native-histograms") as query:
        count, sum_s, p99_s = truth()
        selected = f"slackwater_group_wait_seconds{{{SELECTOR}}}"
        assert value_of(query(f"histogram_count({selected})")) == count
        assert value_of(query(f"histogram_sum({selected})")) == pytest.approx(sum_s, rel=1e-12)
        assert p99_s * 2 ** (-1 / 8) <= value_of(query(f"histogram_quantile(0.99, {selected})")) <= p99_s
        assert value_of(query("count(slackwater_group_wait_seconds)")) == 2 * len(GROUPS)
        assert query("slackwater_group_wait_seconds_bucket") == []
        check_scalars(query)


@pytest.mark.slow
def test_prometheus_without_native_histograms_takes_the_classic_buckets(server: MetricsServer, tmp_path: Path) -> None:
    with prometheus(tmp_path, server.port) as query:
        count, sum_s, p99_s = truth()
        assert value_of(query(f"slackwater_group_wait_seconds_count{{{SELECTOR}}}")) == count
        assert value_of(query(f"slackwater_group_wait_seconds_sum{{{SELECTOR}}}")) == pytest.approx(sum_s, rel=1e-12)
        bounds = {
            row["le"]: float(row["value"]) for row in query(f"slackwater_group_wait_seconds_bucket{{{SELECTOR}}}")
        }
        assert set(map(float, bounds)) == {*LE_S, np.inf}
        assert bounds["+Inf"] == count
        quantile_s = value_of(query(f"histogram_quantile(0.99, slackwater_group_wait_seconds_bucket{{{SELECTOR}}})"))
        upper_s = min(bound for bound in LE_S if bound >= p99_s)
        assert upper_s / 4 <= quantile_s <= upper_s
        check_scalars(query)
