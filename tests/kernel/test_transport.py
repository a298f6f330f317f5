"""No sample is lost silently: what was produced is what was consumed and what was counted as dropped."""

from __future__ import annotations

import math

import pytest

from native.probe import Probe, ProbeOptions
from tests.kernel.measure import assert_balanced, lost, measured
from tests.kernel.needs import needs
from tests.kernel.workloads import Group, Workloads

pytestmark = [needs("root", "bpf", "cgroup:cpu", "command:hackbench"), pytest.mark.alone]

HACKBENCH = ("exec", "hackbench", "-g", "4", "-l", "300")


@pytest.mark.short
def test_produced_is_consumed_plus_dropped(tree: Group, workloads: Workloads) -> None:
    """Under hackbench nothing is dropped and every sample of the group is in its row."""
    group = tree.child("a")
    with measured() as m:
        workloads.start(group, -1, *HACKBENCH).finish(m.drain)
    assert m.of(group, "wait_count") > 161


def test_tiny_ring_drops_and_counts_what_it_drops(tree: Group, workloads: Workloads) -> None:
    """A ring of one page that nobody reads during hackbench: most is dropped, and the sum is still exact."""
    group = tree.child("a")
    with Probe.open(ProbeOptions(ring_bytes=4096)) as probe:
        workloads.start(group, -1, *HACKBENCH).finish(lambda: None)
        probe.detach()
        probe.tick()
        counters = probe.counters()
    assert_balanced(counters)
    assert lost(counters) == counters.dropped > counters.consumed > 0


def test_sampled_sum_stands_for_the_whole(tree: Group, workloads: Workloads) -> None:
    """One wait in four, chosen at random, counted four times: the sum of all is met within five standard errors.

    Two probes see the same load. The error of a sum of x taken with probability 1/k is sqrt((k - 1) * sum(x^2)),
    and sum(x^2) <= max(x) * sum(x); that of the count is sqrt((k - 1) * n).
    """
    factor = 4
    group = tree.child("a")
    with measured() as whole, measured() as sampled:
        sampled.probe.set_sampling(factor)
        sampled.probe.tick()
        whole.probe.tick()
        workloads.start(group, -1, *HACKBENCH).finish(whole.drain)
        counters = sampled.probe.counters()
    count, sum_ns, max_ns = (whole.of(group, column) for column in ("wait_count", "wait_sum_ns", "max_ns"))
    assert abs(sampled.of(group, "wait_count") - count) <= 5 * math.sqrt((factor - 1) * count)
    assert abs(sampled.of(group, "wait_sum_ns") - sum_ns) <= 5 * math.sqrt((factor - 1) * max_ns * sum_ns)
    assert counters.sampled_out > count / 2
