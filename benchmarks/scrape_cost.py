"""Metrics: CPU of an update and of a scrape, and resident memory, by format and number of groups.

Run: python benchmarks/scrape_cost.py [--groups 150]. Each group has 2 wait histograms of 40 scattered buckets and 8
culprits per tick: more than a host has. `library` is prometheus-client's writer fed with the same series.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))
from agent.metrics.families import FAMILIES
from agent.metrics.family import WAIT_HISTOGRAMS, Family, Kind, View
from agent.metrics.histograms import LE_S, arrange, classic
from agent.metrics.live import Metrics
from agent.metrics.protobuf import render_protobuf
from agent.metrics.series import points_of, show
from agent.metrics.text import render_text
from agent.records import WAIT_CLASSES
from tests.agent.metrics_samples import groups_of, profile_of, tick_of

if TYPE_CHECKING:
    from prometheus_client import Metric

REPEATS = 7


def cpu_ms(work: Callable[[], object]) -> float:
    """Median of some runs, of the CPU time of this process."""
    times_ns = []
    for _ in range(REPEATS):
        start_ns = time.process_time_ns()
        work()
        times_ns.append(time.process_time_ns() - start_ns)
    return statistics.median(times_ns) / 1e6


def rss_peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def by_library(view: View) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest  # here: its memory is not ours
    from prometheus_client.registry import Collector

    class Table(Collector):
        def collect(self) -> Iterator[Metric]:
            return (library_family(family, view) for family in FAMILIES)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Table())
    return generate_latest(registry)


def library_family(family: Family, view: View) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    shown = show(view.tick.groups)
    groups = [[value for _, value in labels] for labels in shown.labels]
    if WAIT_HISTOGRAMS in family.columns and view.tick.histograms is not None:
        metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        histograms = arrange(view.tick.histograms, view.tick.wait.ids)
        for j, cumulative in enumerate(classic(histograms).tolist()):
            buckets = [(repr(bound), n) for bound, n in zip(LE_S, cumulative, strict=True)]
            buckets.append(("+Inf", int(histograms.count[j])))
            labels = [*groups[histograms.rows[j]], WAIT_CLASSES[histograms.class_index[j]]]
            metric.add_metric(labels, buckets, histograms.sum_s[j])
        return metric
    kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    values = kind(family.name, family.help, labels=family.labels)
    for points in points_of(family, view, shown):
        for i, value in enumerate(points.values):
            own = groups[points.rows[i]] if points.rows else []
            extra = points.labels[i if len(points.labels) == len(points.values) else 0]
            values.add_metric([*own, *(item for _, item in extra)], value)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=150)
    count = parser.parse_args().groups
    groups = groups_of(count)
    profile, ticks = profile_of(groups), [tick_of(groups, number=number) for number in range(1, 6)]
    metrics = Metrics(version="0", culprits_per_group=5)

    def update() -> None:
        for tick in ticks:
            metrics.update(tick, profile)

    print(f"{count} groups; update: {cpu_ms(update) / len(ticks):.2f} ms")
    view = metrics.view()
    assert view is not None
    writers: dict[str, Callable[[], list[bytes]]] = {
        "classic": lambda: list(render_text(view, openmetrics=False)),
        "protobuf": lambda: list(render_protobuf(view)),
        "library": lambda: [by_library(view)],
    }
    for name, write in writers.items():
        size = sum(map(len, write()))
        print(f"{name}: {cpu_ms(write):.0f} ms, {size / 1e6:.1f} MB, peak {rss_peak_mib():.0f} MiB so far")


if __name__ == "__main__":
    main()
