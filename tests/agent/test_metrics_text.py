"""The text expositions, read back by prometheus-client's parsers and by promtool."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from agent.control import Reloads
from agent.metrics.families import FAMILIES
from agent.metrics.family import View
from agent.metrics.live import Metrics
from agent.metrics.text import render_text
from agent.records import CulpritSample, Group, Qos
from tests.agent.metrics_samples import REPORT, groups_of, profile_of, tick_of
from tests.prometheus.tools import tool

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def view_of(groups: tuple[Group, ...]) -> View:
    metrics = Metrics(version="1.2.3", culprits_per_group=5, clock_ns=lambda: 2_500_000_000)
    metrics.update(tick_of(groups, number=1), profile_of(groups))
    metrics.update(tick_of(groups, number=2), profile_of(groups))
    view = metrics.view()
    assert view is not None
    return view


def text(view: View, *, openmetrics: bool = False) -> str:
    return b"".join(render_text(view, openmetrics=openmetrics)).decode()


def samples(families: Iterable[Metric]) -> Samples:
    rows = [((s.name, tuple(sorted(s.labels.items()))), s.value) for family in families for s in family.samples]
    assert max(Counter(key for key, _ in rows).values()) == 1, "a series appears twice"
    return dict(rows)


def classic_samples(view: View) -> Samples:
    return samples(parse_classic(text(view)))


def openmetrics_samples(view: View) -> Samples:
    return samples(parse_openmetrics(text(view, openmetrics=True)))  # type: ignore[no-untyped-call]


def of(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return f"slackwater_{name}", tuple(sorted(labels.items()))


def test_a_group_is_read_back_with_every_figure_in_base_units() -> None:
    got = classic_samples(view_of((Group(7, "/a", Qos.LS),)))
    a = {"group": "/a", "class": "LS"}
    assert got[of("group_info", **a, id="7")] == 1
    assert got[of("group_cpu_seconds_total", **a)] == 0.2
    assert got[of("group_waits_total", **a)] == 2
    assert got[of("group_waited_seconds_total", **a)] == 0.006
    assert got[of("group_waited_split_seconds_total", **a, wait="contention")] == 0.004
    assert got[of("group_waited_split_seconds_total", **a, wait="throttle")] == 0.002
    assert got[of("group_wait_seconds_count", **a, wait="throttle")] > 0
    assert got[of("group_throttle_seconds_total", **a)] == 0.002
    assert got[of("group_cpu_quota_cores", **a)] == 0.5
    assert got[of("group_cycles_total", **a)] == 4e9
    assert got[of("group_usual_cycles_per_instruction_ratio", **a)] == 2
    assert got[of("group_pressure_seconds_total", **a, resource="memory", stall="full")] == 60 / 1e6
    assert got[of("node_pressure_seconds_total", resource="io", stall="some")] == 0.004
    assert got[of("agent_sample_age_seconds")] == 0.5
    assert got[of("agent_samples_lost_total", reason="groups_refused")] == 2
    assert got[of("agent_build_info", version="1.2.3")] == 1
    assert got[of("agent_source_info", source="bpf")] == 1


def test_every_family_of_the_table_is_exposed_when_all_is_known() -> None:
    tick = tick_of(groups_of(2))
    known = replace(tick, cgroup=replace(tick.cgroup, memory_limit_bytes=np.full(2, 4096.0)))
    metrics = Metrics(version="0", culprits_per_group=5)
    metrics.update(known, profile_of(known.groups), control=REPORT)
    view = metrics.view()
    assert view is not None
    assert {f"slackwater_{m.name.removeprefix('slackwater_')}" for m in parse_classic(text(view))} == {
        family.name.removesuffix("_total") for family in FAMILIES
    }


def test_what_was_done_is_counted_by_controller_and_result() -> None:
    """Controllers of other packages are one; without enforcement there is nothing to count."""
    got = classic_samples(replace(view_of(groups_of(1)), control=REPORT, reloads=Reloads().accepted().refused()))
    assert got[of("enforce_info", mode="on")] == 1
    assert got[of("control_writes_total", controller="burst", result="applied")] == 5
    assert got[of("control_writes_total", controller="burst", result="foreign")] == 0
    assert got[of("control_writes_total", controller="plugin", result="gone")] == 4
    assert got[of("control_reaction_seconds", quantile="0.99")] == 0.0009
    assert got[of("config_reloads_total", result="refused")] == 1
    assert got[of("config_last_reload_refused")] == 1
    without = classic_samples(view_of(groups_of(1)))
    assert without[of("enforce_info", mode="off")] == 1
    assert not [name for name, _ in without if "control_" in name]


def test_partitions_are_told_by_name_and_cache_and_what_is_not_set_is_not() -> None:
    got = classic_samples(replace(view_of(groups_of(1)), control=REPORT))
    assert got[of("cache_occupancy_bytes", partition="BE", cache="1")] == 8192
    assert got[of("cache_memory_bytes_total", partition="BE", cache="0")] == 10
    assert of("cache_local_memory_bytes_total", partition="BE", cache="1") not in got
    assert got[of("cache_ways_ratio", partition="BE", edge="to")] == 0.3
    assert got[of("cache_bandwidth_limit_ratio", partition="BE")] == 0.2
    assert got[of("cache_bandwidth_limit_bytes", partition="/raw\\xff")] == 2000 << 20
    assert len([name for name, _ in got if name.startswith("slackwater_cache_")]) == 9


def test_events_are_those_of_the_samplers_and_of_the_profiles() -> None:
    got = classic_samples(view_of(groups_of(1)))
    assert got[of("agent_events_total", kind="files_refused")] == 7
    assert got[of("agent_events_total", kind="counter_resets")] == 9
    assert of("agent_events_total", kind="threads_refused") not in got


def test_what_is_not_known_is_not_exposed() -> None:
    tick = replace(tick_of(groups_of(2)), histograms=None)
    unknown = replace(
        tick,
        cgroup=replace(tick.cgroup, io_read_bytes=np.full(2, np.nan)),
        wait=replace(tick.wait, contention_ns=np.full(2, np.nan)),
        agent=replace(tick.agent, bpf_runs=None),
        culprits=tick_of(()).culprits,
    )
    metrics = Metrics(version="0", culprits_per_group=5)
    metrics.update(unknown, profile_of(unknown.groups))
    view = metrics.view()
    assert view is not None
    got = text(view)
    for name in ("io_read_bytes", 'wait="contention"', "bpf_runs_total", "wait_seconds_bucket", "culprit_wait"):
        assert name not in got
    assert "group_memory_limit_bytes" not in got
    assert not any(word in got.lower().split() for word in ("nan", "inf", "+inf", "none"))
    assert 'resource="memory",stall="full"} ' in got  # of the groups
    assert 'node_pressure_seconds_total{resource="memory",stall="full"}' not in got


@pytest.mark.parametrize("count", [0, 1, 7, 150])
def test_both_text_formats_say_the_same(count: int) -> None:
    view = view_of(groups_of(count))
    assert openmetrics_samples(view) == classic_samples(view)


def test_odd_group_names_come_back_as_they_are() -> None:
    names = {
        labels["group"]
        for labels in map(dict, (key[1] for key in classic_samples(view_of(groups_of(7)))))
        if "group" in labels
    }
    assert names == {
        '/quote".slice',
        "/back\\slash",
        "/new\nline",
        "/raw\\xff\\x80",
        "/ünï",
        "/{curly},comma=",
        "/trailing ",
    }


def test_of_two_groups_with_one_name_the_last_one_is_shown() -> None:
    view = view_of((Group(1, "/a", Qos.LS), Group(2, "/b", Qos.LS), Group(3, "/a", Qos.LS)))
    for got in (classic_samples(view), openmetrics_samples(view)):
        ids = [dict(labels)["id"] for name, labels in got if name == "slackwater_group_info"]
        assert sorted(ids) == ["2", "3"]


def test_the_wait_caused_by_two_culprits_with_one_name_is_added_up() -> None:
    groups = (Group(1, "/a", Qos.LS), Group(2, "/b", Qos.BE), Group(3, "/b", Qos.BE))
    ids = np.array([2, 3], np.uint64)
    blame = CulpritSample(np.array([1, 1], np.uint64), ids, np.array([1e9, 2e9]), np.ones(2))
    metrics = Metrics(version="0", culprits_per_group=5)
    metrics.update(tick_of(groups, culprits=blame), profile_of(groups))
    view = metrics.view()
    assert view is not None
    assert classic_samples(view)[of("culprit_wait_seconds_total", group="/a", **{"class": "LS"}, culprit="/b")] == 3


def test_buckets_are_cumulative_and_end_with_the_count() -> None:
    got = classic_samples(view_of(groups_of(3)))
    series: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for (name, labels), value in got.items():
        if name == "slackwater_group_wait_seconds_bucket":
            named = dict(labels)
            series.setdefault((named["group"], named["wait"]), []).append((float(named["le"]), value))
    assert len(series) == 6
    for (group, wait), buckets in series.items():
        values = [value for _, value in sorted(buckets)]
        assert values == sorted(values)
        counts = [
            v
            for (n, labels), v in got.items()
            if n.endswith("wait_seconds_count") and {("group", group), ("wait", wait)} <= set(labels)
        ]
        assert counts == [values[-1]]


def test_counters_never_go_backwards_from_scrape_to_scrape() -> None:
    groups = groups_of(10)
    metrics = Metrics(version="0", culprits_per_group=2)
    before: Samples = {}
    for number in range(1, 20):
        metrics.update(tick_of(groups, number=number), profile_of(groups))
        view = metrics.view()
        assert view is not None
        now = {key: value for key, value in classic_samples(view).items() if key[0].endswith("_total")}
        assert all(now[key] >= value for key, value in before.items() if key in now)
        before = now


@pytest.mark.parametrize("count", [0, 1, 150])
def test_promtool_has_nothing_to_say(count: int) -> None:
    exposition = text(view_of(groups_of(count)))
    command = [tool("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=exposition, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
