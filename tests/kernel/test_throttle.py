"""Throttle wait and throttle events against quotas that the tests set and the kernel's own counts."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from native.probe import Probe, ProbeOptions, Throttle
from tests.kernel.measure import EMULATED, Measurement, measured, on_quiet_cpu
from tests.kernel.needs import needs
from tests.kernel.workloads import Group, Process, Workloads

pytestmark = [
    pytest.mark.alone,
    needs("root", "bpf", "cgroup:cpu"),
    pytest.mark.parametrize(
        "unthrottle",
        ["off", pytest.param("fentry", marks=needs("fentry")), pytest.param("kprobe", marks=needs("kprobe"))],
    ),
]
"""How the end of a throttle is seen: as the next run of the group, or by tracing the unthrottle itself."""

THROTTLE_SHARE = 0.95


def assert_one_event_per_throttle(events: float, throttled: int, *, cpus: int = 1) -> None:
    """`throttled`: the kernel's count of the periods that ended while the group was throttled, on one CPU or more.

    A group has an event on a CPU in each of them, +-1 for where the counting begins and ends. Unless one throttle
    outlasts periods, and is counted in each: that is so on an emulated CPU that gets no time from its host. What it did
    not get is charged to the task that was on it, and kept back from its group (do_sched_cfs_period_timer(),
    kernel/sched/fair.c).
    """
    at_least = 1 if EMULATED else throttled - 1
    assert at_least <= events <= cpus * (throttled + 1)


def test_lone_task_with_quota_waits_for_its_throttle(tree: Group, workloads: Workloads, unthrottle: str) -> None:
    """20 % quota, nobody else: at least 95 % of the wait is throttle wait; one event per throttle."""
    group = tree.child("a")
    group.set_quota(20_000)

    def run() -> tuple[Measurement, list[Process]]:
        before = group.nr_throttled()
        with measured(unthrottle=unthrottle) as m:
            loop = workloads.start(group, 0, "loop", 2).finish(m.drain)
        assert_one_event_per_throttle(m.of(group, "throttle_events"), group.nr_throttled() - before)
        return m, [loop]

    m = on_quiet_cpu(0, run)
    assert m.of(group, "throttle_ns") >= THROTTLE_SHARE * m.of(group, "wait_sum_ns") > 0
    assert m.of(group, "throttle_sum_ns") == pytest.approx(m.of(group, "throttle_ns"), rel=0.1)


@pytest.mark.short
def test_two_loops_without_quota_have_no_throttle_wait(tree: Group, workloads: Workloads, unthrottle: str) -> None:
    """Contention alone: throttle wait and events are exactly 0."""
    groups = [tree.child("a"), tree.child("b")]
    with measured(unthrottle=unthrottle) as m:
        for loop in [workloads.start(group, 0, "loop", 1) for group in groups]:
            loop.finish(m.drain)
    for group in groups:
        assert m.of(group, "throttle_ns") == 0
        assert m.of(group, "throttle_events") == 0
        assert m.of(group, "contention_ns") == m.of(group, "wait_sum_ns") > 0


def test_event_of_many_tasks_is_one_event(tree: Group, workloads: Workloads, unthrottle: str) -> None:
    """Three tasks of one group on one CPU are stopped together: one event per throttle, not three."""
    group = tree.child("a")
    group.set_quota(20_000)
    with measured(unthrottle=unthrottle) as m:
        for loop in [workloads.start(group, 0, "loop", 2) for _ in range(3)]:
            loop.finish(m.drain)
        throttled = group.nr_throttled()
    assert_one_event_per_throttle(m.of(group, "throttle_events"), throttled)
    assert 0 < m.of(group, "throttle_ns") <= m.of(group, "wait_sum_ns")


def test_task_that_is_stopped_before_it_ran_adds_no_event(tree: Group, workloads: Workloads, unthrottle: str) -> None:
    """Two tasks use up the quota, a third of next to no weight is still queued then: one event per throttle.

    From 6.18 on it gets the CPU once more, only to be stopped (throttle_cfs_rq_work(), kernel/sched/fair.c).
    """
    group = tree.child("a")
    group.set_quota(20_000)
    with measured(unthrottle=unthrottle) as m:
        loops = [workloads.start(group, 0, "loop", 2) for _ in range(3)]
        for loop, niceness in zip(loops, (19, -20, -20), strict=True):
            os.setpriority(os.PRIO_PROCESS, loop.pid, niceness)
        for loop in loops:
            loop.finish(m.drain)
        throttled = group.nr_throttled()
    assert_one_event_per_throttle(m.of(group, "throttle_events"), throttled)


@needs("cpus:2")
def test_events_count_each_cpu(tree: Group, workloads: Workloads, unthrottle: str) -> None:
    """Two tasks on two CPUs: each throttled period has one event or two."""
    group = tree.child("a")
    group.set_quota(40_000)
    with measured(unthrottle=unthrottle) as m:
        cpus = sorted(os.sched_getaffinity(0))[:2]
        for loop in [workloads.start(group, cpu, "loop", 2) for cpu in cpus]:
            loop.finish(m.drain)
        throttled = group.nr_throttled()
    assert_one_event_per_throttle(m.of(group, "throttle_events"), throttled, cpus=2)


def test_event_belongs_to_the_group_whose_quota_ran_out(tree: Group, workloads: Workloads, unthrottle: str) -> None:
    """Quota on the parent, task in the child: the event is the parent's, the throttle wait the child's."""
    parent = tree.child("parent")
    child = parent.child("child")
    parent.set_quota(20_000)

    def run() -> tuple[Measurement, list[Process]]:
        before = parent.nr_throttled()
        with measured(unthrottle=unthrottle) as m:
            loop = workloads.start(child, 0, "loop", 2).finish(m.drain)
        assert_one_event_per_throttle(m.of(parent, "throttle_events"), parent.nr_throttled() - before)
        assert m.of(child, "throttle_events") == 0
        return m, [loop]

    m = on_quiet_cpu(0, run)
    assert m.of(child, "throttle_ns") >= THROTTLE_SHARE * m.of(child, "wait_sum_ns") > 0


def test_quota_removed_while_throttled_ends_the_event(tree: Group, workloads: Workloads, unthrottle: str) -> None:
    """A long throttle that ends because the quota is taken away: as long as the wait of its task."""
    group = tree.child("a")

    def run() -> tuple[Measurement, list[Process]]:
        group.set_quota(50_000, period_us=1_000_000)
        with measured(unthrottle=unthrottle) as m:
            loop = workloads.start(group, 0, "loop", 1.2)
            wait_until_held(loop.pid)
            time.sleep(0.5)
            group.set_quota(None, period_us=1_000_000)
            loop.finish(m.drain)
        assert 1 <= m.of(group, "throttle_events") <= 2
        return m, [loop]

    m = on_quiet_cpu(0, run)
    assert m.of(group, "throttle_ns") >= THROTTLE_SHARE * m.of(group, "wait_sum_ns") > 0
    assert m.of(group, "throttle_sum_ns") == pytest.approx(m.of(group, "throttle_ns"), rel=0.1)


def test_begins_are_handed_over_as_they_come(tree: Group, workloads: Workloads, unthrottle: str) -> None:
    """Waiting on the descriptor and draining events only gives each begin once, with its group, in order."""
    group = tree.child("a")
    group.set_quota(20_000)
    seen: list[Throttle] = []
    with Probe.open(ProbeOptions(unthrottle=unthrottle)) as probe, select.epoll() as epoll:
        probe.queue_throttles(True)
        epoll.register(probe.event_fd, select.EPOLLIN)
        loop = workloads.start(group, 0, "loop", 1)
        while not loop.has_ended():
            if epoll.poll(0.05):
                probe.drain_events()
                throttles, lost = probe.throttles()
                assert lost == 0
                seen += [throttle for throttle in throttles if throttle.owner_id == group.id]
        loop.finish(lambda: None)
    assert_one_event_per_throttle(len(seen), group.nr_throttled())
    assert len(seen) > 1
    assert [throttle.cpu for throttle in seen] == [0] * len(seen)
    times_ns = [throttle.time_ns for throttle in seen]
    assert times_ns == sorted(set(times_ns))


def wait_until_held(pid: int) -> None:
    """Until a busy task that has run for a while (field 1 of schedstat) does not run any more."""
    before_ns, now_ns = -1, 0
    while before_ns != now_ns or now_ns < 10_000_000:
        time.sleep(0.03)
        before_ns, now_ns = now_ns, int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
