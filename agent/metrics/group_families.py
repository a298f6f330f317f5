"""The metric families of a group. Pure.

Values are in base units (seconds, bytes, cores, ratios); one that is NaN or infinite is not exported.
Percentiles and rates of one tick that a server computes better from histograms and counters are not repeated here.
"""

from __future__ import annotations

import numpy as np

from agent.metrics.family import (
    CULPRITS,
    GROUP_INFO,
    US_PER_S,
    WAIT_HISTOGRAMS,
    Family,
    GroupColumn,
    Labels,
    View,
    counter,
    gauge,
    histogram,
    info,
)
from agent.records import Floats
from agent.units import NS_PER_S


def _quota_cores(view: View) -> Floats:
    """No quota is inf: not exported."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return view.tick.cgroup.quota_ns / view.tick.cgroup.period_ns


def _of_cpi(view: View, name: str) -> Floats:
    nothing = np.full(len(view.tick.groups), np.nan)
    return getattr(view.profile.cpi, name) if view.profile.cpi else nothing


def _stall(resource: str, stall: str) -> Labels:
    return (("resource", resource), ("stall", stall))


GROUP_FAMILIES: tuple[Family, ...] = (
    info(
        "group_info",
        "A watched cgroup; group is its path below the cpu hierarchy's root, id its kernfs id.",
        GROUP_INFO,
        labels=("id",),
    ),
    counter(
        "group_cpu_seconds_total",
        "CPU time used since the group's birth; on cgroup v1 without cpuacct: fair-class tasks only.",
        GroupColumn(lambda v: v.tick.cgroup.cpu_usage_ns / NS_PER_S),
    ),
    gauge(
        "group_cpu_used_cores",
        "CPU time used per second in the last tick.",
        GroupColumn(lambda v: v.profile.cpu_used_cores),
    ),
    gauge(
        "group_cpu_p95_cores",
        "95th percentile of the used cores per tick over the profile's window.",
        GroupColumn(lambda v: v.profile.cpu_p95_window_cores),
    ),
    histogram(
        "group_wait_seconds",
        "Run-queue waits. wait is the larger part of a wait: contention (someone else had the CPU) or throttle "
        "(the group's own quota stopped it); the whole wait is observed.",
        WAIT_HISTOGRAMS,
        labels=("wait",),
    ),
    counter("group_waits_total", "Run-queue waits that ended.", GroupColumn(lambda v: v.totals.waits)),
    counter(
        "group_waited_seconds_total",
        "Run-queue wait of all kinds.",
        GroupColumn(lambda v: v.totals.waited_ns / NS_PER_S),
    ),
    counter(
        "group_waited_split_seconds_total",
        "Run-queue wait, each wait split exactly into its contention and its throttle part.",
        GroupColumn(lambda v: v.totals.contention_ns / NS_PER_S, (("wait", "contention"),)),
        GroupColumn(lambda v: v.totals.throttle_wait_ns / NS_PER_S, (("wait", "throttle"),)),
    ),
    gauge(
        "group_wait_max_seconds",
        "Longest run-queue wait that ended in the last tick.",
        GroupColumn(lambda v: v.tick.wait.max_ns / NS_PER_S),
    ),
    gauge(
        "group_wait_p99_seconds",
        "Largest per-tick 99th percentile of the wait in the profile's window.",
        GroupColumn(lambda v: v.profile.wait_p99_window_ns / NS_PER_S),
    ),
    gauge(
        "group_wait_trend_ratio",
        "Slope of the contention wait per tick over the profile's window, in seconds per second.",
        GroupColumn(lambda v: v.profile.wait_trend_ns_per_s / NS_PER_S),
    ),
    counter(
        "culprit_wait_seconds_total",
        "Contention wait of a group by culprit, the group whose task ran meanwhile; (nobody): an idle CPU, "
        "(other): all but the group's main culprits.",
        CULPRITS,
        labels=("culprit",),
    ),
    counter(
        "group_throttle_events_total",
        "CFS throttle events of the group's own quota; without BPF the throttled periods.",
        GroupColumn(lambda v: v.totals.throttle_events),
    ),
    counter(
        "group_throttle_seconds_total",
        "Duration of the CFS throttle events that ended.",
        GroupColumn(lambda v: v.totals.throttle_ns / NS_PER_S),
    ),
    gauge(
        "group_throttle_p99_seconds",
        "99th percentile of the CFS throttle events that ended in the last tick.",
        GroupColumn(lambda v: v.tick.throttle.p99_ns / NS_PER_S),
    ),
    counter(
        "group_cfs_periods_total",
        "Enforcement periods by the kernel (cpu.stat nr_periods).",
        GroupColumn(lambda v: v.tick.cgroup.nr_periods),
    ),
    counter(
        "group_cfs_throttled_periods_total",
        "Periods in which the quota ran out, by the kernel (cpu.stat nr_throttled).",
        GroupColumn(lambda v: v.tick.cgroup.nr_throttled),
    ),
    counter(
        "group_cfs_throttled_seconds_total",
        "Throttled time by the kernel (cpu.stat), summed over its run queues; not comparable across kernels.",
        GroupColumn(lambda v: v.tick.cgroup.throttled_ns / NS_PER_S),
    ),
    gauge("group_cpu_quota_cores", "CFS quota per period; absent: no quota.", GroupColumn(_quota_cores)),
    gauge("group_cpu_period_seconds", "CFS period.", GroupColumn(lambda v: v.tick.cgroup.period_ns / NS_PER_S)),
    gauge(
        "group_cpu_burst_seconds",
        "CFS burst: unused quota that may be saved up.",
        GroupColumn(lambda v: v.tick.cgroup.burst_ns / NS_PER_S),
    ),
    counter(
        "group_cycles_total",
        "CPU cycles, user and kernel, of the group and all below it; only where hardware counters are read ([cpi]).",
        GroupColumn(lambda v: v.totals.cycles),
    ),
    counter("group_instructions_total", "Instructions, likewise.", GroupColumn(lambda v: v.totals.instructions)),
    counter(
        "group_llc_misses_total",
        "Cache misses, likewise, as the PMU means it: of the last level on Intel, of the second on AMD.",
        GroupColumn(lambda v: v.totals.llc_misses),
    ),
    gauge(
        "group_usual_cycles_per_instruction_ratio",
        "What is usual for the group, which cycles per instruction are compared with.",
        GroupColumn(lambda v: _of_cpi(v, "usual_cycles_per_instruction")),
    ),
    gauge(
        "group_deviation_cycles_per_instruction_ratio",
        "Standard deviation of the usual cycles per instruction.",
        GroupColumn(lambda v: _of_cpi(v, "deviation_cycles_per_instruction")),
    ),
    gauge("group_memory_bytes", "Memory charged to the group.", GroupColumn(lambda v: v.tick.cgroup.memory_bytes)),
    gauge(
        "group_memory_limit_bytes",
        "Memory limit; absent: no limit.",
        GroupColumn(lambda v: v.tick.cgroup.memory_limit_bytes),
    ),
    counter(
        "group_io_read_bytes_total",
        "Bytes read from block devices.",
        GroupColumn(lambda v: v.tick.cgroup.io_read_bytes),
    ),
    counter(
        "group_io_written_bytes_total",
        "Bytes written to block devices.",
        GroupColumn(lambda v: v.tick.cgroup.io_write_bytes),
    ),
    counter(
        "group_pressure_seconds_total",
        "PSI: time in which some or all (full) of the group's tasks stalled on a resource.",
        GroupColumn(lambda v: v.tick.cgroup.psi_cpu_some_us / US_PER_S, _stall("cpu", "some")),
        GroupColumn(lambda v: v.tick.cgroup.psi_memory_some_us / US_PER_S, _stall("memory", "some")),
        GroupColumn(lambda v: v.tick.cgroup.psi_memory_full_us / US_PER_S, _stall("memory", "full")),
        GroupColumn(lambda v: v.tick.cgroup.psi_io_some_us / US_PER_S, _stall("io", "some")),
        GroupColumn(lambda v: v.tick.cgroup.psi_io_full_us / US_PER_S, _stall("io", "full")),
    ),
)
