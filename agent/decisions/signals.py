"""What a rule can watch: a figure per group, its dimension, and how it is taken from a tick and its profile. Pure.

NaN: not known in this tick. Larger is worse, for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agent.quantity import CORES, PER_CENT, PER_SECOND, TIME, Dimension
from agent.records import Floats, Profile, Tick

CPI_SIGNAL = "cpi_pct"
"""Needs hardware counters ([cpi])."""


@dataclass(frozen=True, slots=True)
class Signal:
    """`take` gives one value per row of the tick, in `dimension.unit`."""

    dimension: Dimension
    meaning: str
    take: Callable[[Tick, Profile], Floats]
    of_waits: bool = False
    """Of the waits in the tick: a tick in which nobody waited has no value, and is known to be quiet."""


def _pct_of_time(wait_ns: Floats, tick: Tick) -> Floats:
    return wait_ns / (tick.interval_ns or np.nan) * 100


def _mean_wait_ns(tick: Tick, _: Profile) -> Floats:
    return tick.wait.sum_ns / np.where(tick.wait.count > 0, tick.wait.count, np.nan)


def _quota_pct(tick: Tick, profile: Profile) -> Floats:
    """NaN without a quota."""
    quota_cores = tick.cgroup.quota_ns / tick.cgroup.period_ns
    return profile.cpu_used_cores / np.where(np.isfinite(quota_cores), quota_cores, np.nan) * 100


def _cpi_pct(tick: Tick, profile: Profile) -> Floats:
    if profile.cpi is None:
        return np.full(len(tick.groups), np.nan)
    return profile.cpi.cycles_per_instruction / profile.cpi.usual_cycles_per_instruction * 100


SIGNALS = {
    "wait_p50": Signal(TIME, "median run-queue wait in a tick", lambda tick, _: tick.wait.p50_ns, of_waits=True),
    "wait_p95": Signal(TIME, "its 95th percentile", lambda tick, _: tick.wait.p95_ns, of_waits=True),
    "wait_p99": Signal(TIME, "its 99th percentile", lambda tick, _: tick.wait.p99_ns, of_waits=True),
    "wait_max": Signal(TIME, "the longest wait in a tick", lambda tick, _: tick.wait.max_ns, of_waits=True),
    "wait_mean": Signal(TIME, "mean wait in a tick", _mean_wait_ns, of_waits=True),
    "contention_pct": Signal(
        PER_CENT,
        "contention wait of all its threads, of the time: 100 % is one thread that waits all the time",
        lambda tick, _: _pct_of_time(tick.wait.contention_ns, tick),
    ),
    "throttle_pct": Signal(
        PER_CENT,
        "throttle wait of all its threads, of the time",
        lambda tick, _: _pct_of_time(tick.wait.throttle_ns, tick),
    ),
    "throttle_rate": Signal(
        PER_SECOND,
        "how often its quota ran out on a CPU; without BPF: throttled periods",
        lambda _, profile: profile.throttle_per_s,
    ),
    "cpu_used": Signal(CORES, "CPU that it used", lambda _, profile: profile.cpu_used_cores),
    "quota_pct": Signal(PER_CENT, "CPU that it used, of its quota", _quota_pct),
    CPI_SIGNAL: Signal(PER_CENT, "cycles per instruction, of its usual ones", _cpi_pct),
}
