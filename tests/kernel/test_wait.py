"""Wait per group against the kernel's accounts of the same tasks: within 1 %, by wakeup stamps 3 %; nothing lost."""

from __future__ import annotations

import itertools
import os
import time

import pytest

from tests.kernel.measure import measured
from tests.kernel.needs import needs
from tests.kernel.truth import exits
from tests.kernel.workloads import Group, Workloads

pytestmark = [
    pytest.mark.alone,
    needs("root", "bpf", "cgroup:cpu"),
    pytest.mark.parametrize("stamps", [False, True], ids=["sched_info", "wakeup_stamps"]),
]


def bound(stamps: bool) -> float:
    """1 %. Wakeup stamps, read beside the scheduler's own clock, 3 %: what comes between (a hypervisor) is in them."""
    return 0.03 if stamps else 0.01


@pytest.mark.short
def test_wait_of_two_loops_on_one_cpu_is_schedstat(tree: Group, workloads: Workloads, stamps: bool) -> None:
    """Two groups share a CPU: the wait of each is what its loop reads of itself."""
    groups = [tree.child("a"), tree.child("b")]
    with measured(force_wakeup_stamps=stamps) as m:
        loops = [workloads.start(group, 0, "loop", 2) for group in groups]
        truths = [loop.finish(m.drain).waited_ns for loop in loops]
    waits = [m.of(group, "wait_sum_ns") for group in groups]
    assert waits == pytest.approx(truths, rel=bound(stamps))


@needs("cpus:2")
def test_wait_of_migrated_loops_is_schedstat(tree: Group, workloads: Workloads, stamps: bool) -> None:
    """Running or waiting, moved to another CPU every few ms: no wait is lost and none is counted twice."""
    groups = [tree.child(name) for name in "abc"]
    cpus = sorted(os.sched_getaffinity(0))[:2]
    with measured(force_wakeup_stamps=stamps) as m:
        loops = [workloads.start(group, cpus[0], "loop", 4) for group in groups]
        for loop, cpu in zip(itertools.cycle(loops), itertools.cycle(cpus), strict=False):
            if any(each.has_ended() for each in loops):
                break
            os.sched_setaffinity(loop.pid, {cpu})
            time.sleep(0.002)
        truths = [loop.finish(m.drain).waited_ns for loop in loops]
    waits = [m.of(group, "wait_sum_ns") for group in groups]
    assert waits == pytest.approx(truths, rel=bound(stamps))


@needs("command:hackbench")
@pytest.mark.parametrize("kind", ["--process", "--threads"])
def test_wait_of_hackbench_is_taskstats(tree: Group, workloads: Workloads, stamps: bool, kind: str) -> None:
    """160 tasks that wake one another through sockets: their sum is that of their records at exit."""
    with exits() as ended, measured(force_wakeup_stamps=stamps) as m:
        group = tree.child("a")
        process = workloads.start(group, -1, "exec", "hackbench", kind, "-g", "4", "-l", "500").finish(m.drain)
        records = ended.of_tree(process.pid)
    assert len(records) == 161
    truth = sum(record.waited_ns for record in records) - process.waited_before_ns
    assert m.of(group, "wait_sum_ns") == pytest.approx(truth, rel=bound(stamps))


def test_wait_of_short_lived_processes_is_taskstats(tree: Group, workloads: Workloads, stamps: bool) -> None:
    """2,000 processes, born and gone within the tick, eight at a time: every one is in the sum.

    The records are written early in a task's exit, so their sum is short of the waits on the rest of its way out;
    schedstat of the dead has these.
    """
    with exits() as ended, measured(force_wakeup_stamps=stamps) as m:
        group = tree.child("a")
        process = workloads.start(group, -1, "spawn", 2000, 8, 2000).finish(m.drain)
        records = ended.of_tree(process.pid)
    assert len(records) == 2001
    at_exit_ns = sum(record.waited_ns for record in records) - process.waited_before_ns
    assert m.of(group, "wait_sum_ns") == pytest.approx(process.waited_ns, rel=bound(stamps))
    assert at_exit_ns <= m.of(group, "wait_sum_ns") * (1 + bound(stamps))
    assert m.of(group, "wait_count") >= 2001
