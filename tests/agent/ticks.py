"""Made-up ticks. Every field is NaN or 0 unless it is given, so that a test shows what it depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agent.records import (
    CgroupSample,
    CulpritSample,
    Floats,
    Group,
    NodeSample,
    Qos,
    SelfSample,
    Source,
    ThrottleSample,
    Tick,
    WaitSample,
)

S_NS = 1_000_000_000


def groups_of(paths: Mapping[int, str], qos: Qos = Qos.LS) -> tuple[Group, ...]:
    return tuple(Group(id, path, qos) for id, path in paths.items())


def tick_of(
    groups: Sequence[Group],
    *,
    number: int = 0,
    time_ns: int = 0,
    interval_ns: int = S_NS,
    source: Source = Source.BPF,
    pairs: Sequence[tuple[int, int, float]] = (),
    node_used_ns: int = 0,
    cpus: int = 2,
    sampling: int = 1,
    dropped: int | None = 0,
    **columns: Sequence[float] | Floats,
) -> Tick:
    """`columns` are fields of the wait, throttle and cgroup samples; throttle's as throttle_events and so on.

    `pairs` are (victim id, culprit id, wait in ns).
    """

    def column(name: str) -> Floats:
        values = columns.pop(name, None)
        return np.full(len(groups), np.nan) if values is None else np.array(values, np.float64)

    ids = np.array([group.id for group in groups], np.uint64)
    wait_fields = "count sum_ns contention_ns throttle_ns p50_ns p95_ns p99_ns max_ns"
    cgroup_fields = (
        "cpu_usage_ns nr_periods nr_throttled throttled_ns quota_ns period_ns burst_ns memory_bytes memory_limit_bytes "
        "io_read_bytes io_write_bytes psi_cpu_some_us psi_memory_some_us psi_memory_full_us psi_io_some_us "
        "psi_io_full_us"
    )
    tick = Tick(
        number=number,
        time_ns=time_ns,
        interval_ns=interval_ns,
        source=source,
        groups=tuple(groups),
        wait=WaitSample(ids, *(column(name) for name in wait_fields.split())),
        throttle=ThrottleSample(ids, *(column(f"throttle_{name}") for name in ("events", "sum_ns", "p99_ns"))),
        culprits=CulpritSample(
            victim_ids=np.array([pair[0] for pair in pairs], np.uint64),
            culprit_ids=np.array([pair[1] for pair in pairs], np.uint64),
            wait_ns=np.array([pair[2] for pair in pairs], np.float64),
            count=np.ones(len(pairs)),
        ),
        cgroup=CgroupSample(ids, *(column(name) for name in cgroup_fields.split())),
        histograms=None,
        node=NodeSample(cpus, node_used_ns, 1 << 30, 1 << 29, None, None, None, None, None),
        agent=SelfSample(
            cpu_ns=5_000_000,
            rss_bytes=40 << 20,
            bpf_run_ns=1_000_000,
            bpf_runs=10,
            switches=10,
            waits=10,
            produced=10,
            consumed=10,
            dropped=dropped,
            sampled_out=0,
            unknown=0,
            own=0,
            events_lost=0,
            groups_refused=0,
            sampling=sampling,
        ),
    )
    assert not columns, f"no such columns: {list(columns)}"
    return tick
