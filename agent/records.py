"""The frozen records in which the stages meet: samples -> profiles -> views (table, JSON, metrics).

Arrays are columns: row i of every array of one record is the same group. Sums and counts are float64
(exact up to 2**53: 104 days in ns) so that "not available" can be NaN; it is never 0. Ids are uint64
kernfs ids. Nothing here reads, writes or decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.uint64]

NOBODY_ID = 0
"""Culprit id of a wait that ended on an idle CPU."""


class Qos(StrEnum):
    """Class of a group. Source: the project's glossary (README, Words)."""

    LSE = "LSE"
    LSR = "LSR"
    LS = "LS"
    BE = "BE"
    SYSTEM = "SYSTEM"


class Source(StrEnum):
    """Where the waits come from."""

    BPF = "bpf"
    CGROUPFS = "cgroupfs"


@dataclass(frozen=True, slots=True)
class Group:
    """A cgroup of the cpu hierarchy. Identity is `id`; `path` (relative to the root, "/" = root) is for printing."""

    id: int
    path: str
    qos: Qos


@dataclass(frozen=True, slots=True)
class WaitSample:
    """Run-queue waits that ended in one tick, per group; all but `count` in ns.

    `sum_ns == contention_ns + throttle_ns`. From cgroupfs only `count` and `sum_ns` are known.
    Percentiles and `max_ns` are NaN where the tick has no sample.
    """

    ids: Ids
    count: Floats
    sum_ns: Floats
    contention_ns: Floats
    throttle_ns: Floats
    p50_ns: Floats
    p95_ns: Floats
    p99_ns: Floats
    max_ns: Floats


@dataclass(frozen=True, slots=True)
class ThrottleSample:
    """CFS throttle events in one tick, per group whose own quota ran out.

    `events` began in the tick; `sum_ns` and `p99_ns` are of the events that ended in it.
    From cgroupfs: `events` is the growth of nr_throttled (periods, not events), p99 is NaN.
    """

    ids: Ids
    events: Floats
    sum_ns: Floats
    p99_ns: Floats


@dataclass(frozen=True, slots=True)
class CulpritSample:
    """Contention wait by (victim, culprit) pair in one tick. `culprit_ids` may hold NOBODY_ID."""

    victim_ids: Ids
    culprit_ids: Ids
    wait_ns: Floats
    count: Floats


@dataclass(frozen=True, slots=True)
class HistogramSample:
    """Cumulative wait histograms since the agent started, sparse: one row per non-empty bucket.

    `class_index` 0 = contention, 1 = throttle: the larger part of the wait decides, the whole wait is
    the observation. `bucket` is an index at `schema` (bounds: native/sketch.h); `ZERO_BUCKET` counts waits of 0 ns.
    `total_*` have one row per (group, class) that has any sample.
    """

    schema: int
    ids: Ids
    class_index: NDArray[np.int32]
    bucket: NDArray[np.int32]
    count: Floats
    total_ids: Ids
    total_class_index: NDArray[np.int32]
    total_count: Floats
    total_sum_ns: Floats


ZERO_BUCKET = -(2**31)
WAIT_CLASSES = ("contention", "throttle")


@dataclass(frozen=True, slots=True)
class CgroupSample:
    """What the kernel's files (or its scheduler, by BPF) say of each group now. Counters rise since the group's birth.

    `cpu_usage_ns` on v1 without cpuacct is of fair-class tasks only (no SCHED_FIFO, no SCHED_DEADLINE).
    NaN: this host or this group does not have it. quota_ns and memory_limit_bytes are inf when there is none.
    Memory, IO and PSI of a group are as of `slow_time_ns`, not as of the tick: rates of them need its growth.
    """

    ids: Ids
    cpu_usage_ns: Floats
    nr_periods: Floats
    nr_throttled: Floats
    throttled_ns: Floats
    quota_ns: Floats
    period_ns: Floats
    burst_ns: Floats
    memory_bytes: Floats
    memory_limit_bytes: Floats
    io_read_bytes: Floats
    io_write_bytes: Floats
    psi_cpu_some_us: Floats
    psi_memory_some_us: Floats
    psi_memory_full_us: Floats
    psi_io_some_us: Floats
    psi_io_full_us: Floats
    slow_time_ns: Floats | None = None
    """When memory, IO and PSI of the group were read, same clock as Tick.time_ns; None: all in this tick."""


@dataclass(frozen=True, slots=True)
class NodeSample:
    """The whole machine now. Counters rise since boot; None: not available."""

    cpus: int
    cpu_used_ns: int
    memory_total_bytes: int
    memory_available_bytes: int
    psi_cpu_some_us: int | None
    psi_memory_some_us: int | None
    psi_memory_full_us: int | None
    psi_io_some_us: int | None
    psi_io_full_us: int | None


SELF_EVENTS = {
    "groups_born": "groups that were found or told of",
    "groups_gone": "groups that were removed",
    "groups_reused": "paths that passed to a new group",
    "groups_corrected": "differences that a scan found and no event had told",
    "groups_vanished": "groups that were gone when their files were to be read",
    "files_refused": "group files that could not be read",
    "threads_refused": "threads or lists of threads that could not be read",
    "rows_born": "groups that got a row in the table of the waits",
    "rows_reused": "rows of groups that were gone and were given to others",
}
"""Keys of SelfSample.events, and what each counts since the start."""


@dataclass(frozen=True, slots=True)
class SelfSample:
    """The agent's own cost. Counters rise since it started; None: not available (no BPF)."""

    cpu_ns: int
    rss_bytes: int | None
    bpf_run_ns: int | None
    bpf_runs: int | None
    switches: int | None
    waits: int | None
    produced: int | None
    consumed: int | None
    dropped: int | None
    sampled_out: int | None
    unknown: int | None
    own: int | None
    events_lost: int | None
    groups_refused: int | None
    sampling: int
    """Sampling factor now: one wait in `sampling` is sent."""
    malformed: int | None = None
    """Samples that made no sense."""
    sketch_refused: int | None = None
    """Samples in counts and sums, but in no percentile (no memory)."""
    pairs_refused: int | None = None
    """Samples in everything but the culprits (matrix full)."""
    drain_cpu_ns: int = 0
    """The part of cpu_ns that goes with the number of samples: emptying the rings."""

    vanished_threads: int | None = None
    """Without BPF: threads that ended between two ticks; each took what it had waited since the last one along."""
    unreadable_directories: int = 0
    """Groups that the last scan could not list; those below them are unknown."""
    events: Mapping[str, int] = field(default_factory=dict)
    """What else was counted, by the names in SELF_EVENTS; one that is not there is not available."""

    @property
    def lost_samples(self) -> int:
        """Every sample that should be in the figures and is not. Without BPF: the threads that ended between two ticks
        and took waits along, of which only those are counted that were seen before; how many waits is not known.
        """
        lost = (self.dropped, self.unknown, self.groups_refused, self.malformed, self.vanished_threads)
        return sum(n or 0 for n in lost)


@dataclass(frozen=True, slots=True)
class CpiSample:
    """Hardware counters: growth over the last tick, user and kernel mode, with all that is below the group, scaled up
    where the kernel shared counters. NaN: not known, as of most groups: only some are counted.
    """

    ids: Ids
    cycles: Floats
    instructions: Floats
    llc_misses: Floats
    """Misses of the cache that the PMU means by it (native/perf.py)."""


@dataclass(frozen=True, slots=True)
class Tick:
    """All that the samplers read in one tick. The per-group records are aligned with `groups`, row by row."""

    number: int
    time_ns: int
    """CLOCK_MONOTONIC at the end of the tick."""
    interval_ns: int
    """True length of the tick."""
    source: Source
    groups: tuple[Group, ...]
    wait: WaitSample
    throttle: ThrottleSample
    culprits: CulpritSample
    cgroup: CgroupSample
    histograms: HistogramSample | None
    node: NodeSample
    agent: SelfSample
    born_ids: frozenset[int] = frozenset()
    """Groups that are known to be younger than the tick: their counters began at 0 in it."""
    cpi: CpiSample | None = None
    """None: this host has no hardware counters, or they are not looked at."""


@dataclass(frozen=True, slots=True)
class ClassSample:
    """What a class of a device has sent since it was made, what was dropped, and what waits in it now."""

    sent_bytes: int
    sent_packets: int
    dropped_packets: int
    backlog_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """A network device that the configuration chooses, or that still has qdiscs of ours."""

    ifindex: int
    name: str
    is_chosen: bool
    link_bytes_per_s: int | None
    """As configured, or as its driver says; None: neither."""
    whole: ClassSample | None
    """Of its root qdisc; None: it has none that counts."""
    classes: Mapping[str, ClassSample]
    """By name: system, LS, BE; empty: the device is not ours."""


@dataclass(frozen=True, slots=True)
class NetworkSample:
    """All that was read of the network in one tick."""

    time_ns: int
    """CLOCK_MONOTONIC."""
    devices: tuple[DeviceSample, ...]
    group_bytes: Mapping[int, int]
    """By group id: sent on all devices that are ours, since the agent knows the group."""
    group_packets: Mapping[int, int]
    group_drops: Mapping[int, int] = field(default_factory=dict)
    """Packets that a group's own limit dropped; of what shares a class only the class knows."""


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Rates over the last tick; NaN: not known."""

    sample: DeviceSample
    sent_bytes_per_s: float
    class_bytes_per_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class NetworkProfile:
    """A sample with its rates. A group that is not in `group_bytes_per_s` is not known (yet)."""

    sample: NetworkSample
    devices: tuple[DeviceProfile, ...]
    group_bytes_per_s: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class PartitionSample:
    """Counters of a group of resctrl now, by cache id. A cache that is not there, or has no value now, is left out."""

    llc_bytes: Mapping[int, int]
    """In the cache now."""
    total_bytes: Mapping[int, int]
    """To and from memory since the group exists."""
    local_bytes: Mapping[int, int]
    """The same, of the cache's own node."""


@dataclass(frozen=True, slots=True)
class CacheOffer:
    """What the machine can divide; None: it cannot."""

    ways: int | None
    """Of the last cache that can be divided."""
    bandwidth_step: float | None
    """The least difference in bandwidth, in percent or MiB/s."""
    is_mib_per_s: bool = False
    """Bandwidth is in MiB/s here."""
    ways_min: int = 1
    """That a partition can have."""
    bandwidth_min: float = 0
    """In percent or MiB/s."""
    cache: str = "L3"
    """The name of that last cache."""


@dataclass(frozen=True, slots=True)
class CacheSample:
    """All that was read of resctrl in one tick."""

    time_ns: int
    """CLOCK_MONOTONIC."""
    partitions: Mapping[int, PartitionSample]
    """By partition id (agent.control.partition_id)."""
    rest: PartitionSample | None
    """Of the default group: what lies in no partition; None: not monitored."""
    offer: CacheOffer = CacheOffer(None, None)


@dataclass(frozen=True, slots=True)
class PartitionProfile:
    """Over all caches, over the last tick; NaN: not known."""

    sample: PartitionSample
    llc_bytes: float
    total_bytes_per_s: float
    local_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class CacheProfile:
    """A sample with its rates."""

    sample: CacheSample
    partitions: Mapping[int, PartitionProfile]
    rest: PartitionProfile | None


@dataclass(frozen=True, slots=True)
class CpiProfile:
    """Aligned with the groups of its tick. NaN: not known, or too few instructions to say."""

    cycles_per_instruction: Floats
    low_cycles_per_instruction: Floats
    """Of the last ticks, most had more: a spike does not show here."""
    llc_misses_per_1000_instructions: Floats
    usual_cycles_per_instruction: Floats
    """Of the group, before this tick; what it is compared with."""
    deviation_cycles_per_instruction: Floats
    """Standard deviation of the usual ones."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What the agent knows of all groups over its window, aligned with `groups`. NaN: not known (yet)."""

    groups: tuple[Group, ...]
    cpu_used_cores: Floats
    """Mean over the last tick."""
    throttle_per_s: Floats
    io_read_bytes_per_s: Floats
    io_write_bytes_per_s: Floats
    node_used_cores: float
    wait_p99_window_ns: Floats
    """Largest per-tick p99 of the window."""
    wait_trend_ns_per_s: Floats
    """Least-squares slope of the per-tick contention wait over the window."""
    cpu_p95_window_cores: Floats
    main_culprit: tuple[Culprit | None, ...]
    clock_jumps: int = 0
    """Ticks since the start whose length was not believable."""
    counter_resets: int = 0
    """Counters seen to fall since the start."""
    cpi: CpiProfile | None = None
    """None: this host has no hardware counters, or they are not looked at."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """Who caused most of a group's contention wait in the last tick, and its share of that wait."""

    id: int
    path: str
    share_ratio: float
