import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.cli.document import document
from agent.host import Host, probe
from agent.profiles.profile import Profiler
from agent.records import CpiProfile, Source
from tests.agent.ticks import S_NS, groups_of, tick_of

NAN = float("nan")


def nowhere(root: Path) -> Host:
    """A host that offers nothing."""
    return probe(root, lambda: None)


def written(tmp_path: Path, **columns: Any) -> dict[str, Any]:
    groups = groups_of({123: "/a/b", 2**63 + 1: "/c"})
    profiler = Profiler(1)
    profiler.update(tick_of(groups, interval_ns=0, cpu_usage_ns=[0, 0]))
    tick = tick_of(groups, number=1, time_ns=5 * S_NS, interval_ns=5 * S_NS, **columns)
    text = json.dumps(document(tick, profiler.update(tick), nowhere(tmp_path)), allow_nan=False)
    result: dict[str, Any] = json.loads(text)
    return result


def test_the_shape_is_kept(tmp_path: Path) -> None:
    """Keys may be added; these stay as they are."""
    result = written(
        tmp_path,
        cpu_usage_ns=[2.5e9, NAN],
        count=[4, 0],
        sum_ns=[100, 0],
        contention_ns=[70, 0],
        throttle_ns=[30, 0],
        p50_ns=[10.123456, NAN],
        p95_ns=[20, NAN],
        p99_ns=[30, NAN],
        max_ns=[40, NAN],
        throttle_events=[1, 0],
        throttle_sum_ns=[30, 0],
        throttle_p99_ns=[30.6, NAN],
        pairs=[(123, 2**63 + 1, 70)],
    )
    head = {key: result[key] for key in ("schema", "seconds", "source", "lost_samples", "sampling")}
    assert head == {"schema": 1, "seconds": 5.0, "source": "bpf", "lost_samples": 0, "sampling": 1}
    group = {key: result["groups"][0][key] for key in ("id", "path", "class", "cpu_used_cores", "wait", "throttle")}
    assert group == {
        "id": 123,
        "path": "/a/b",
        "class": "LS",
        "cpu_used_cores": 0.5,
        "wait": {
            "count": 4,
            "sum_ns": 100,
            "contention_ns": 70,
            "throttle_ns": 30,
            "p50_ns": 10,
            "p95_ns": 20,
            "p99_ns": 30,
            "max_ns": 40,
        },
        "throttle": {"events": 1, "sum_ns": 30, "p99_ns": 31},
    }
    assert result["culprits"] == [{"victim_id": 123, "culprit_id": 2**63 + 1, "wait_ns": 70, "count": 1}]
    assert result["groups"][0]["main_culprit"] == {"id": 2**63 + 1, "path": "/c", "share_ratio": 1.0}


def test_a_path_that_is_no_utf8_is_written_as_in_the_metrics(tmp_path: Path) -> None:
    groups = groups_of({123: "/raw\udcff"})
    tick = tick_of(groups, contention_ns=[9], pairs=[(123, 123, 9)])
    text = json.dumps(document(tick, Profiler(1).update(tick), nowhere(tmp_path)), ensure_ascii=False)
    group = json.loads(text.encode())["groups"][0]
    assert (group["path"], group["main_culprit"]["path"]) == (r"/raw\xff", r"/raw\xff")


def test_a_percentile_without_samples_is_null(tmp_path: Path) -> None:
    wait = written(tmp_path, count=[0, 0], sum_ns=[0, 0])["groups"][1]["wait"]
    assert (wait["count"], wait["sum_ns"]) == (0, 0)
    assert [wait[key] for key in ("p50_ns", "p95_ns", "p99_ns", "max_ns")] == [None] * 4


def test_what_the_source_does_not_know_is_null_and_never_zero_or_nan(tmp_path: Path) -> None:
    result = written(tmp_path, source=Source.CGROUPFS, count=[1, 1], sum_ns=[9, 9])
    assert result["source"] == "cgroupfs"
    assert result["groups"][0]["wait"]["contention_ns"] is None
    assert result["groups"][0]["throttle"] == {"events": None, "sum_ns": None, "p99_ns": None}
    assert result["groups"][0]["cpu_used_cores"] is None


def test_hardware_counters_are_null_where_they_are_not_read(tmp_path: Path) -> None:
    groups = groups_of({1: "/a", 2: "/b"})
    tick = tick_of(groups)
    profile = Profiler(1).update(tick)
    column = np.array([1.2345, NAN])
    counted = replace(profile, cpi=CpiProfile(column, column, column * 2, column, column))
    shown = [
        [(group["cycles_per_instruction"], group["llc_misses_per_1000_instructions"]) for group in of["groups"]]
        for of in (document(tick, each, nowhere(tmp_path)) for each in (profile, counted))
    ]
    assert shown == [[(None, None), (None, None)], [(1.234, 2.469), (None, None)]]
