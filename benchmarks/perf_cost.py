"""Cost of counting events of cgroups: per switch between two of them, per reading, and in kernel memory per event.

Two processes in two cgroups pass a byte to and fro on one CPU; their own run time per switch, with the same three
events counted for neither, for a third cgroup, for one of them, and for both. Software events: a lower bound, since no
PMU is programmed.

    python -m benchmarks.perf_cost [--rounds N]

No bound. Needs root; the cgroups are its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from agent.host import probe
from native.perf import CgroupCounters, Kind
from tests.kernel.workloads import Group, Workloads, build, schedstat_ns

KINDS = (Kind(1, 0), Kind(1, 2), Kind(1, 3))
"""CPU clock, page faults, context switches."""
WINDOW_S = 0.5
MANY = 256


@contextlib.contextmanager
def own_groups(names: Sequence[str]) -> Iterator[list[Group]]:
    place = probe().perf_event
    assert place
    top = Group(Path(place.mount) / f"slackwater-bench-{os.getpid()}", place.version)
    top.path.mkdir()
    try:
        groups = [Group(top.path / name, place.version) for name in names]
        for group in groups:
            group.path.mkdir()
        yield groups
    finally:
        top.remove()


@contextlib.contextmanager
def counted(groups: Sequence[Group]) -> Iterator[CgroupCounters]:
    with CgroupCounters(KINDS, max(1, len(groups))) as counters:
        for group in groups:
            fd = os.open(group.path, os.O_RDONLY)
            counters.add(fd)
            os.close(fd)
        yield counters


def switches(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(count) for count in re.findall(r"ctxt_switches:\s*(\d+)", status))


def ns_per_switch(pids: Sequence[int]) -> float:
    """Run time of both processes in a window, by their switches."""

    def totals() -> tuple[int, int]:
        return sum(schedstat_ns(pid)[0] for pid in pids), sum(map(switches, pids))

    ran_before, before = totals()
    time.sleep(WINDOW_S)
    ran_after, after = totals()
    return (ran_after - ran_before) / (after - before)


def child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
    return int(found[0])


def cost_of_switches(a: Group, b: Group, c: Group, workloads: Workloads, rounds: int) -> None:
    parent = workloads.start(a, 0, "pingpong", 2**40)
    pids = [parent.pid, child_of(parent.pid)]
    (b.path / "cgroup.procs").write_text(str(pids[1]))
    try:
        compare(a, b, c, pids, rounds)
    finally:
        os.kill(pids[1], signal.SIGKILL)  # it holds its pipe open, so that it would not end with its parent


def compare(a: Group, b: Group, c: Group, pids: Sequence[int], rounds: int) -> None:
    cases = {"neither": [], "a third": [c], "one of both": [a], "both": [a, b]}
    seen: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, groups in cases.items():
            with counted(groups) if groups else contextlib.nullcontext():
                seen[name].append(ns_per_switch(pids))
    for name, values in seen.items():
        above = [value - least for value, least in zip(values, seen["neither"], strict=True)]
        print(
            f"counted: {name:<12} run time per switch, median {statistics.median(values):6.0f} ns"
            f"   above neither {statistics.median(above):6.0f} ns",
            flush=True,
        )


def in_us(action: Callable[[], object]) -> float:
    begin_ns = time.thread_time_ns()
    action()
    return (time.thread_time_ns() - begin_ns) / 1000


def slab_kib() -> int:
    return int(re.findall(r"^Slab:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[0])


def cost_of_reading(groups: Sequence[Group]) -> None:
    before_kib, begin_ns, cpus = slab_kib(), time.thread_time_ns(), os.cpu_count() or 1
    with counted(groups) as counters:
        opening_us = (time.thread_time_ns() - begin_ns) / 1000
        events = len(groups) * cpus * len(KINDS)
        kib = (slab_kib() - before_kib) / events
        reading_us = statistics.median(in_us(counters.read) for _ in range(100))
    print(f"{len(groups)} cgroups on {cpus} CPUs, {events} events: {kib:.2f} KiB of slab each")
    print(f"CPU per cgroup and CPU: opening {opening_us / len(groups) / cpus:.1f} us, reading "
          f"{reading_us / len(groups) / cpus:.2f} us")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    print(time.strftime("%Y-%m-%d"), os.uname().release)
    with tempfile.TemporaryDirectory() as folder, own_groups([str(n) for n in range(MANY)]) as groups:
        cost_of_reading(groups)
        workloads = Workloads(build(Path(folder)))
        try:
            cost_of_switches(groups[0], groups[1], groups[2], workloads, rounds)
        finally:
            workloads.stop()
            time.sleep(0.1)


if __name__ == "__main__":
    main()
