"""agent.samples.schedstat: growth of waits per group without BPF."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.host import Hierarchy, probe
from agent.records import CgroupSample
from agent.samples.schedstat import Schedstat, parse_schedstat, parse_threads, throttle_growth

S = 1_000_000_000


class Machine:
    """A v1 hierarchy and a /proc of plain files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cpu = Hierarchy(str(root / "cpu"), "/", 1)
        for path in ("cpu/a/b", "cpu/c", "proc"):
            (root / path).mkdir(parents=True)
        self.groups = [(1, "/"), (2, "/a"), (3, "/a/b"), (4, "/c")]
        for _, path in self.groups:
            self.put(path)

    def put(self, path: str, *tids: int) -> None:
        (self.root / f"cpu{path}/tasks").write_text("".join(f"{tid}\n" for tid in tids))

    def thread(self, tid: int, run_ns: int, wait_ns: int, timeslices: int) -> None:
        """What its file says from now on; as in the kernel, a new thread has a new file."""
        (self.root / f"proc/{tid}").mkdir(exist_ok=True)
        (self.root / f"proc/{tid}/schedstat").write_text(f"{run_ns} {wait_ns} {timeslices}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_waits_are_the_growth_of_the_groups_own_threads(machine: Machine) -> None:
    machine.thread(10, 100, 1000, 5)
    machine.thread(11, 100, 2000, 6)
    machine.put("/a/b", 10, 11)
    with Schedstat(machine.cpu, machine.root / "proc") as source:
        assert source.read(machine.groups, S).wait.sum_ns.tolist() == [0, 0, 0, 0]
        machine.thread(10, 400, 1500, 8)
        machine.thread(11, 200, 2007, 7)
        sample = source.read(machine.groups, 2 * S)
    assert sample.wait.sum_ns.tolist() == [0, 0, 507, 0]
    assert sample.wait.count.tolist() == [0, 0, 4, 0]
    for unknown in (sample.wait.contention_ns, sample.wait.throttle_ns, sample.wait.p99_ns, sample.wait.max_ns):
        assert np.isnan(unknown).all()


def test_cpu_usage_includes_the_groups_below_and_never_falls_when_one_vanishes(machine: Machine) -> None:
    machine.thread(10, 100, 0, 1)
    machine.put("/a/b", 10)
    with Schedstat(machine.cpu, machine.root / "proc") as source:
        source.read(machine.groups, S)
        machine.thread(10, 400, 0, 2)
        assert source.read(machine.groups, 2 * S).cpu_usage_ns.tolist() == [300, 300, 300, 0]
        assert source.read(machine.groups[:2], 3 * S).cpu_usage_ns.tolist() == [300, 300]


def test_a_thread_born_in_the_tick_counts_from_zero_and_an_older_one_does_not(machine: Machine) -> None:
    with Schedstat(machine.cpu, machine.root / "proc") as source:
        source.read(machine.groups, S)
        machine.thread(10, 100, 1000, 5)
        machine.thread(11, 3 * S, 1000, 5)
        machine.put("/c", 10, 11)
        assert source.read(machine.groups, 2 * S).wait.sum_ns.tolist() == [0, 0, 0, 1000]


def test_a_thread_that_moved_is_counted_once_and_where_it_is_now(machine: Machine) -> None:
    machine.thread(10, 100, 1000, 5)
    machine.put("/a", 10)
    with Schedstat(machine.cpu, machine.root / "proc") as source:
        source.read(machine.groups, S)
        machine.thread(10, 100, 1300, 6)
        machine.put("/a")
        machine.put("/c", 10)
        assert source.read(machine.groups, 2 * S).wait.sum_ns.tolist() == [0, 0, 0, 300]


def test_a_thread_seen_in_two_groups_in_one_pass_is_counted_once(machine: Machine) -> None:
    machine.thread(10, 100, 1000, 5)
    machine.put("/a", 10)
    machine.put("/c", 10)
    with Schedstat(machine.cpu, machine.root / "proc") as source:
        source.read(machine.groups, S)
        machine.thread(10, 100, 1300, 6)
        assert source.read(machine.groups, 2 * S).wait.sum_ns.sum() == 300


@pytest.mark.parametrize(("run_ns", "wait_ns"), [(50, 40), (200, 40), (50, 4000)], ids=["both", "wait", "run"])
def test_a_counter_that_fell_is_that_of_a_new_thread(machine: Machine, run_ns: int, wait_ns: int) -> None:
    machine.thread(10, 100, 1000, 5)
    machine.put("/a", 10)
    with Schedstat(machine.cpu, machine.root / "proc") as source:
        source.read(machine.groups, S)
        machine.thread(10, run_ns, wait_ns, 2)
        assert source.read(machine.groups, 2 * S).wait.sum_ns.tolist() == [0, wait_ns, 0, 0]


def test_a_vanished_group_is_nan_and_a_vanished_thread_is_counted(machine: Machine) -> None:
    machine.thread(10, 100, 1000, 5)
    machine.put("/c", 10, 99)
    with Schedstat(machine.cpu, machine.root / "proc") as source:
        source.read(machine.groups, S)
        (machine.root / "cpu/c/tasks").unlink()
        sample = source.read(machine.groups, 2 * S)
        assert np.isnan(sample.wait.sum_ns).tolist() == [False, False, False, True]
        assert np.isnan(sample.cpu_usage_ns).tolist() == [False, False, False, True]
        assert (source.counters.vanished_threads, source.counters.refused) == (1, 0)


@pytest.mark.parametrize("budget", [0, 1, 256])
def test_descriptors_stay_in_the_budget_and_are_given_back(machine: Machine, budget: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for tid in (10, 11, 12):
        machine.thread(tid, 1, 1, 1)
    machine.put("/a", 10, 11, 12)
    with Schedstat(machine.cpu, machine.root / "proc", descriptor_budget=budget) as source:
        source.read(machine.groups, S)
        assert len(os.listdir("/proc/self/fd")) == before + min(budget, 3)
        machine.put("/a", 12)
        source.read(machine.groups, 2 * S)
        assert len(os.listdir("/proc/self/fd")) <= before + min(budget, 1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_list_of_threads_that_is_longer_than_one_read_is_read_whole(machine: Machine) -> None:
    for tid in range(100_000, 102_000):
        machine.thread(tid, 1, 1, 1)
    machine.put("/a", *range(100_000, 102_000))
    with Schedstat(machine.cpu, machine.root / "proc") as source:
        source.read(machine.groups, S)
        assert source.counters.threads == 2000


def cgroup_sample(ids: list[int], nr_throttled: list[float], throttled_ns: list[float]) -> CgroupSample:
    nan = np.full(len(ids), np.nan)
    others = {field.name for field in dataclasses.fields(CgroupSample)} - {"ids", "nr_throttled", "throttled_ns"}
    columns = dict.fromkeys(others, nan)
    throttles = {"nr_throttled": np.array(nr_throttled, np.float64), "throttled_ns": np.array(throttled_ns, np.float64)}
    return CgroupSample(ids=np.array(ids, np.uint64), **columns, **throttles)


def test_throttles_are_growth_by_id_whatever_the_order_and_unknown_for_a_new_or_reset_group() -> None:
    before = cgroup_sample([5, 3, 9], [10, 20, 7], [100, 200, 70])
    now = cgroup_sample([3, 4, 5, 9], [22, 50, 10, 6], [260, 500, 100, 60])
    sample = throttle_growth(before, now)
    assert sample.ids.tolist() == [3, 4, 5, 9]
    np.testing.assert_array_equal(sample.events, [2, np.nan, 0, np.nan])
    np.testing.assert_array_equal(sample.sum_ns, [60, np.nan, 0, np.nan])
    assert np.isnan(sample.p99_ns).all()
    assert np.isnan(throttle_growth(None, now).events).all()


@given(st.binary())
def test_no_bytes_break_a_parser(data: bytes) -> None:
    parse_schedstat(data)
    assert all(tid >= 0 for tid in parse_threads(data))


def test_two_busy_loops_on_one_cpu_wait_as_their_own_schedstat_says() -> None:
    cpu = probe().cpu
    if cpu is None or os.geteuid() != 0 or not probe().schedstat:
        pytest.skip("needs root, a mounted cpu hierarchy and /proc/PID/schedstat")
    paths = [f"/slackwater-test-schedstat-{os.getpid()}-{number}" for number in range(2)]
    loops: list[subprocess.Popen[bytes]] = []
    os.mkdir(cpu.mount + paths[0])
    os.mkdir(cpu.mount + paths[1])
    try:
        groups = [(os.stat(cpu.mount + path).st_ino, path) for path in paths]
        for path in paths:
            loops.append(subprocess.Popen([sys.executable, "-Sc", "while True: pass"]))
            Path(f"{cpu.mount}{path}/cgroup.procs").write_text(str(loops[-1].pid))
            os.sched_setaffinity(loops[-1].pid, {max(os.sched_getaffinity(0))})

        def waited_ns() -> list[int]:
            return [int(Path(f"/proc/{loop.pid}/schedstat").read_text().split()[1]) for loop in loops]

        with Schedstat(cpu) as source:
            outer_before = waited_ns()
            source.read(groups, time.monotonic_ns())
            inner_before = waited_ns()
            time.sleep(0.5)
            inner_after = waited_ns()
            sample = source.read(groups, time.monotonic_ns())
            outer_after = waited_ns()
        for index in range(2):
            waited = sample.wait.sum_ns[index]
            assert inner_after[index] - inner_before[index] <= waited <= outer_after[index] - outer_before[index]
            assert waited > 0
            assert sample.cpu_usage_ns[index] > 0
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
        for path in paths:
            os.rmdir(cpu.mount + path)
