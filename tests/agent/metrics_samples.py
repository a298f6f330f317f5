"""Synthetic ticks for the tests of /metrics: every record, any number of groups, reproducible."""

from __future__ import annotations

import numpy as np

from agent.control import ControlReport, Enforce, Hold, PartitionView, Result, SliView
from agent.records import (
    ZERO_BUCKET,
    CgroupSample,
    ClassSample,
    CpiProfile,
    CpiSample,
    CulpritSample,
    DeviceSample,
    Floats,
    Group,
    HistogramSample,
    Ids,
    NetworkProfile,
    NetworkSample,
    NodeSample,
    PartitionProfile,
    PartitionSample,
    Profile,
    Qos,
    SelfSample,
    Source,
    ThrottleSample,
    Tick,
    WaitSample,
)

ODD_PATHS = ('/quote".slice', "/back\\slash", "/new\nline", "/raw\udcff\udc80", "/ünï", "/{curly},comma=", "/trailing ")


def groups_of(count: int) -> tuple[Group, ...]:
    """Ids are not in order, as in life; the first paths are odd."""
    paths = [*ODD_PATHS[:count], *(f"/system.slice/service-{i:04d}.service" for i in range(len(ODD_PATHS), count))]
    classes = list(Qos)
    return tuple(Group(1000 + (i * 7919) % 100_003, path, classes[i % 5]) for i, path in enumerate(paths))


def histogram_of(
    ids: Ids, *, schema: int = 3, buckets: int = 40, growth: float = 1.0, seed: int = 1
) -> HistogramSample:
    """Both classes of every group: `buckets` distinct buckets between 1 us and 1 s, and a zero bucket."""
    random = np.random.default_rng(seed)
    per_octave = 1 << schema
    keys = [(int(group_id), wait) for group_id in ids for wait in (0, 1)]
    columns: list[tuple[int, int, int, int]] = []
    totals: list[tuple[int, int, int, float]] = []
    for group_id, wait in keys:
        places = random.choice(np.arange(-20 * per_octave, 0), size=buckets, replace=False)
        counts = (random.integers(1, 1000, size=buckets) * growth).astype(int) + 1
        columns += [(group_id, wait, int(b), int(c)) for b, c in zip(places, counts, strict=True)]
        columns.append((group_id, wait, ZERO_BUCKET, 3))
        sum_s = float((2.0 ** (places / per_octave) * counts).sum())
        totals.append((group_id, wait, int(counts.sum()) + 3, sum_s * 1e9))
    table = np.array(columns, dtype=np.int64).reshape(-1, 4)
    return HistogramSample(
        schema=schema,
        ids=table[:, 0].astype(np.uint64),
        class_index=table[:, 1].astype(np.int32),
        bucket=table[:, 2].astype(np.int32),
        count=table[:, 3].astype(np.float64),
        total_ids=np.array([t[0] for t in totals], np.uint64),
        total_class_index=np.array([t[1] for t in totals], np.int32),
        total_count=np.array([t[2] for t in totals], np.float64),
        total_sum_ns=np.array([t[3] for t in totals], np.float64),
    )


def culprits_of(ids: Ids, *, each: int = 8, seed: int = 1) -> CulpritSample:
    """Every group waits for `each` others, now and then for nobody."""
    if len(ids) == 0:
        return CulpritSample(ids, ids, np.empty(0), np.empty(0))
    random = np.random.default_rng(seed)
    victims = np.repeat(ids, each)
    culprits = random.choice(np.append(ids, np.uint64(0)), size=len(victims))
    pairs = np.unique(np.stack([victims, culprits], axis=1), axis=0)
    return CulpritSample(
        pairs[:, 0].copy(), pairs[:, 1].copy(), random.uniform(1e3, 1e7, len(pairs)), np.full(len(pairs), 5.0)
    )


def tick_of(
    groups: tuple[Group, ...],
    *,
    number: int = 1,
    source: Source = Source.BPF,
    histograms: HistogramSample | None = None,
    culprits: CulpritSample | None = None,
) -> Tick:
    """A tick in which everything is known. Counters rise with `number`."""
    ids = np.array([group.id for group in groups], dtype=np.uint64)
    rows = np.arange(len(groups), dtype=np.float64) + 1

    def rising(scale: float) -> Floats:
        return rows * scale * number

    return Tick(
        number=number,
        time_ns=number * 1_000_000_000,
        interval_ns=1_000_000_000,
        source=source,
        groups=groups,
        wait=WaitSample(ids, rows, rows * 3e6, rows * 2e6, rows * 1e6, rows, rows, rows, rows * 1e6),
        throttle=ThrottleSample(ids, rows, rows * 1e6, rows * 1e5),
        culprits=culprits_of(ids, seed=number) if culprits is None else culprits,
        cgroup=CgroupSample(
            ids=ids,
            cpu_usage_ns=rising(1e8),
            nr_periods=rising(10),
            nr_throttled=rising(2),
            throttled_ns=rising(1e6),
            quota_ns=np.where(rows % 2 == 0, np.inf, 5e7),
            period_ns=np.full(len(rows), 1e8),
            burst_ns=np.zeros(len(rows)),
            memory_bytes=rows * 4096,
            memory_limit_bytes=np.full(len(rows), np.nan),
            io_read_bytes=rising(512),
            io_write_bytes=rising(1024),
            psi_cpu_some_us=rising(10),
            psi_memory_some_us=rising(20),
            psi_memory_full_us=rising(30),
            psi_io_some_us=rising(40),
            psi_io_full_us=rising(50),
        ),
        histograms=histogram_of(ids, growth=number) if histograms is None else histograms,
        node=NodeSample(2, number * 10**9, 4 << 30, 1 << 30, 1000, 2000, None, 4000, 5000),
        agent=SelfSample(
            cpu_ns=number * 10**7, rss_bytes=40 << 20, bpf_run_ns=10**6, bpf_runs=1000, switches=500, waits=400,
            produced=390, consumed=380, dropped=10, sampled_out=0, unknown=1, own=5, events_lost=0,
            groups_refused=2, sampling=1, malformed=3, sketch_refused=4, pairs_refused=5, events={"files_refused": 7},
        ),
        cpi=CpiSample(ids, rows * 2e9, rows * 1e9, rows * 1e6),
    )  # fmt: skip


def profile_of(groups: tuple[Group, ...]) -> Profile:
    rows = np.arange(len(groups), dtype=np.float64) + 1
    return Profile(
        groups=groups,
        cpu_used_cores=rows / 10,
        throttle_per_s=rows,
        io_read_bytes_per_s=rows,
        io_write_bytes_per_s=rows,
        node_used_cores=1.5,
        wait_p99_window_ns=np.where(rows == 1, np.nan, rows * 1e6),
        wait_trend_ns_per_s=-rows,
        cpu_p95_window_cores=rows / 5,
        main_culprit=(None,) * len(groups),
        counter_resets=9,
        cpi=CpiProfile(rows, rows, rows, rows + 1, rows / 10),
    )


_SENT = ClassSample(sent_bytes=7000, sent_packets=7, dropped_packets=1, backlog_bytes=1500)
NETWORK = NetworkProfile(
    NetworkSample(
        time_ns=0,
        devices=(DeviceSample(2, "eth0", True, 125_000_000, _SENT, dict.fromkeys(("system", "LS", "BE"), _SENT)),),
        group_bytes={1000: 9000},
        group_packets={1000: 9},
        group_drops={1000: 2},
    ),
    devices=(),
    group_bytes_per_s={},
)

_BATCH = PartitionSample(llc_bytes={0: 4096, 1: 8192}, total_bytes={0: 10, 1: 20}, local_bytes={0: 5})
PARTITIONS = (
    PartitionView(-4, "BE", ("/batch.slice",), (0, 30), 20, False, PartitionProfile(_BATCH, 12_288, 1e6, 5e5)),
    PartitionView(7, "/raw\udcff", ("/raw\udcff",), None, 2000, True, None),
)

REPORT = ControlReport(
    mode=Enforce.ON,
    holds=(Hold(None, "the clock jumped"),),
    outcomes={
        ("burst", Result.APPLIED): 5,
        ("suppress", Result.REFUSED): 2,
        ("a", Result.GONE): 1,
        ("b", Result.GONE): 3,
    },
    events=4,
    changed_knobs=3,
    foreign_knobs=1,
    foreign_writes=9,
    reaction_ns={0.5: 300_000.0, 0.99: 900_000.0, 1.0: 2e6},
    throttles_lost=0,
    history_dropped=6,
    network=NETWORK,
    partitions=PARTITIONS,
    slis=(SliView("web", 12e6, 25e6, {"timeout": 3}),),
)
