"""What the probe says of a group and of a pair in one tick, and the identities of its counters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from native.probe import Probe, ProbeOptions, ProbeTick
from tests.kernel.workloads import Group


@dataclass
class Measurement:
    """All that ended between begin and end of `measured`. `tick` is set at the end."""

    probe: Probe
    tick: ProbeTick | None = None

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
def measured(options: ProbeOptions | None = None) -> Iterator[Measurement]:
    """Run the body between two cuts; at the end nothing may be lost and the counters must add up."""
    with Probe.open(options or ProbeOptions()) as probe:
        probe.tick()
        before = probe.counters()
        measurement = Measurement(probe)
        yield measurement
        measurement.tick = probe.tick()
        assert probe.counters().dropped == before.dropped
        assert_balanced(probe)


def assert_balanced(probe: Probe) -> None:
    """produced == consumed + dropped; waits == produced + sampled_out + own + unknown. After a tick, exactly."""
    probe.tick()
    now = probe.counters()
    assert now.produced - now.pending == now.consumed + now.dropped
    assert now.waits == now.produced + now.sampled_out + now.own + now.unknown


def _id(group: Group | int) -> int:
    return group if isinstance(group, int) else group.id
