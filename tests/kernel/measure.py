"""What the probe says of a group and of a pair in one tick, and the identities of its counters."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from native.probe import Counters, Probe, ProbeOptions, ProbeTick
from tests.kernel.workloads import Group, Process

UNKNOWN_WITHOUT_STAMP = 0.03
RING_BYTES = 32 << 20
"""A million samples: whoever drains may wait long for a CPU himself."""
QUIET_ATTEMPTS, QUIET_RATIO = 5, 0.015
EMULATED = "QEMU TCG CPU" in Path("/proc/cpuinfo").read_text()
"""This CPU is a thread of its host's: it stands still when that has other work, and its clock goes on."""


@dataclass
class Measurement:
    """All that ended between begin and end of `measured`. `tick` is set at the end."""

    probe: Probe
    tick: ProbeTick | None = None

    def drain(self) -> None:
        self.probe.drain()

    def of(self, group: Group | int, column: str) -> float:
        """A column of the group's row. 0 where the tick has no row of it."""
        assert self.tick is not None
        rows = self.tick.groups[self.tick.groups["id"] == _id(group)]
        return float(rows[column][0]) if len(rows) else 0.0

    def pair_wait_ns(self, victim: Group | int, culprit: Group | int) -> float:
        assert self.tick is not None
        pairs = self.tick.pairs
        rows = (pairs["victim_id"] == _id(victim)) & (pairs["culprit_id"] == _id(culprit))
        return float(pairs["wait_ns"][rows].sum())


@contextmanager
def measured(*, force_wakeup_stamps: bool = False, unthrottle: str = "auto") -> Iterator[Measurement]:
    """All that happens in the body; at its end the probe is detached: nothing may be lost, and the sums add up.

    By wakeup stamps some waits are unknown, and counted: of a task that was queued when the probe was attached, and of
    one whose storage could not be made because another user of this CPU's storage lock was preempted.
    """
    options = ProbeOptions(force_wakeup_stamps=force_wakeup_stamps, ring_bytes=RING_BYTES, unthrottle=unthrottle)
    with Probe.open(options) as probe:
        probe.tick()
        measurement = Measurement(probe)
        yield measurement
        probe.detach()
        measurement.tick = probe.tick()
        counters = probe.counters()
        unknown_allowed = 0 if probe.features.sched_info else UNKNOWN_WITHOUT_STAMP * counters.waits
        assert counters.unknown <= unknown_allowed, counters
        assert lost(counters) == counters.unknown, counters
        assert_balanced(counters)


def on_quiet_cpu(cpu: int, run: Callable[[], tuple[Measurement, list[Process]]]) -> Measurement:
    """The first of some runs in which tasks of others had next to nothing of `cpu`: their part in the waits is theirs.

    Others: what /proc/stat counts as busy there and was not the run's own processes. This one keeps off the CPU.
    """
    foreign_ratio = 1.0
    for _ in range(QUIET_ATTEMPTS):
        busy_ns, begin_ns = cpu_busy_ns(cpu), time.monotonic_ns()
        with kept_off(cpu):
            measurement, processes = run()
        own_ns = sum(process.ran_ns for process in processes)
        foreign_ratio = (cpu_busy_ns(cpu) - busy_ns - own_ns) / (time.monotonic_ns() - begin_ns)
        if foreign_ratio <= QUIET_RATIO:
            return measurement
    reason = f"others had {foreign_ratio:.0%} of CPU {cpu}: who waited for whom is not for this test to say"
    pytest.skip(reason)


@contextmanager
def kept_off(cpu: int) -> Iterator[None]:
    """This process runs on the other CPUs meanwhile, if there are any."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before - {cpu} or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_busy_ns(cpu: int) -> int:
    """Time that a CPU was not idle. Source: proc_stat(5): user nice system idle iowait irq softirq, in ticks."""
    lines = Path("/proc/stat").read_text().splitlines()
    user, nice, system, _, _, irq, softirq = next(
        map(int, line.split()[1:8]) for line in lines if line.startswith(f"cpu{cpu} ")
    )
    return (user + nice + system + irq + softirq) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def lost(counters: Counters) -> int:
    """Samples and events that should be in the figures and are not."""
    return counters.dropped + counters.unknown + counters.events_lost + counters.groups_refused


def assert_balanced(counters: Counters) -> None:
    """Of a detached probe after its tick: every wait is accounted for, exactly."""
    assert counters.pending == 0
    assert counters.produced == counters.consumed + counters.dropped
    assert counters.waits == counters.produced + counters.sampled_out + counters.own + counters.unknown


def _id(group: Group | int) -> int:
    return group if isinstance(group, int) else group.id
