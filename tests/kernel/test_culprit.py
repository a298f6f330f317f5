"""Who is to blame for a wait: the group that ran, never the one that woke."""

from __future__ import annotations

import itertools
import os

import pytest

from tests.kernel.measure import Measurement, measured, on_quiet_cpu
from tests.kernel.needs import needs
from tests.kernel.workloads import Group, Process, Workloads

pytestmark = [needs("root", "bpf", "cgroup:cpu"), pytest.mark.alone]

RIGHT_SHARE = 0.95


@pytest.mark.short
def test_culprit_of_two_loops_is_the_other_one(tree: Group, workloads: Workloads) -> None:
    """Two groups share a CPU: at least 95 % of the wait of each is the other's doing, none its own."""
    a, b = tree.child("a"), tree.child("b")

    def run() -> tuple[Measurement, list[Process]]:
        with measured() as m:
            # long, beside the second that a busy host may need to start the other one
            loops = [workloads.start(group, 0, "loop", 3) for group in (a, b)]
            return m, [loop.finish(m.drain) for loop in loops]

    m = on_quiet_cpu(0, run)
    for victim, culprit in ((a, b), (b, a)):
        assert m.pair_wait_ns(victim, culprit) >= RIGHT_SHARE * m.of(victim, "wait_sum_ns") > 0
        assert m.pair_wait_ns(victim, victim) <= (1 - RIGHT_SHARE) * m.of(victim, "wait_sum_ns")


@needs("cpus:2")
def test_waker_is_no_culprit(tree: Group, workloads: Workloads) -> None:
    """A third group on another CPU wakes both every 3 ms, each to work 2 ms: the waker has no part in their waits."""
    a, b, waker = (tree.child(name) for name in ("a", "b", "waker"))
    cpu, waker_cpu = sorted(os.sched_getaffinity(0))[:2]

    def run() -> tuple[Measurement, list[Process]]:
        with measured() as m:
            pipes = [os.pipe() for _ in range(2)]
            ends = [write_end for _, write_end in pipes]
            servers = [workloads.start(g, cpu, "serve", 2000, stdin=r) for g, (r, _) in zip((a, b), pipes, strict=True)]
            process = workloads.start(waker, waker_cpu, "wake", 3000, 500, *ends, pass_fds=ends)
            for fd in itertools.chain(*pipes):
                os.close(fd)
            process.finish(m.drain)
            return m, [server.finish(m.drain) for server in servers]

    m = on_quiet_cpu(cpu, run)
    for victim, culprit in ((a, b), (b, a)):
        assert m.pair_wait_ns(victim, culprit) >= RIGHT_SHARE * m.of(victim, "wait_sum_ns") > 0
        assert m.pair_wait_ns(victim, waker) == 0
