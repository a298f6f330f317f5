"""Run-queue wait without BPF: /proc/TID/schedstat of every thread, summed by group. Source name: cgroupfs.

Known this way are only how long the threads of a group waited and how often they were put on a CPU: no percentiles,
no culprit, and contention cannot be told from throttling (all of these are NaN).

A thread that exits between two ticks takes its last growth with it, and one that lives shorter than a tick is never
seen: the sums are a lower bound, and many short processes are hardly counted. A thread is counted in the group in
which it is found at the end of the tick.

Sources: proc_pid_schedstat (fs/proc/base.c), sched_info (Documentation/scheduler/sched-stats.rst).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.errors import is_gone
from agent.host import Hierarchy
from agent.records import CgroupSample, Floats, ThrottleSample, WaitSample
from agent.samples.files import read_whole

_LONGER_THAN_TICK_RATIO = 1.5
"""A new thread that ran and waited longer than this many ticks was born before the tick: not its growth."""


@dataclass(frozen=True, slots=True)
class ThreadStat:
    """Since the thread's birth. All zero in a kernel without CONFIG_SCHED_INFO."""

    run_ns: int
    wait_ns: int
    timeslices: int


@dataclass(frozen=True, slots=True)
class SchedstatSample:
    """Aligned with the groups given. `cpu_usage_ns` rises since the first read and includes the groups below."""

    wait: WaitSample
    cpu_usage_ns: Floats


@dataclass(slots=True)
class SchedstatCounters:
    """`threads`: read in the last tick; the others rise since start."""

    threads: int = 0
    vanished_threads: int = 0
    """Threads that were there a tick ago: each took the growth since then with it."""
    refused: int = 0


# 125920 17600 2
def parse_schedstat(data: bytes) -> ThreadStat | None:
    """/proc/TID/schedstat; None when it is not three numbers."""
    fields = data.split()
    if len(fields) != 3 or not all(field.isdigit() and len(field) <= 20 for field in fields):
        return None
    run_ns, wait_ns, timeslices = map(int, fields)
    return ThreadStat(run_ns, wait_ns, timeslices)


# 1
# 17
def parse_threads(data: bytes) -> list[int]:
    """The thread ids in tasks (v1) or cgroup.threads (v2)."""
    return [int(line) for line in data.split() if line.isdigit() and len(line) <= 10]


class Schedstat:
    """Keeps what each thread had at the last tick, and its file open (`close`, or `with`).

    Opening /proc/TID/schedstat costs 20 us, reading it again 2 us: up to `descriptor_budget` stay open. An open file
    belongs to one thread for ever (ESRCH when that has exited), even when its id is given to another.
    """

    def __init__(self, cpu: Hierarchy, proc: Path = Path("/proc"), *, descriptor_budget: int = 256) -> None:
        self.counters = SchedstatCounters()
        self._mount = cpu.mount
        self._threads_file = "cgroup.threads" if cpu.version == 2 else "tasks"
        self._proc = str(proc)
        self._before: dict[int, ThreadStat] = {}
        self._before_ns: int | None = None
        self._usage_ns: dict[int, float] = {}
        self._open: dict[int, int] = {}
        self._budget = descriptor_budget

    def __enter__(self) -> Schedstat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all descriptors back."""
        self._forget(list(self._open))

    def read(self, groups: Sequence[tuple[int, str]], now_ns: int) -> SchedstatSample:
        """The growth since the last call (in the first: zero). A vanished group is NaN."""
        longest_ns = None if self._before_ns is None else (now_ns - self._before_ns) * _LONGER_THAN_TICK_RATIO
        threads: dict[int, ThreadStat] = {}
        growth = np.full((3, len(groups)), np.nan)
        for index, (_, path) in enumerate(groups):
            ids = self._threads_of(path)
            if ids is None:
                continue
            total = [0, 0, 0]
            for tid in ids:
                now = self._thread(tid) if tid not in threads else None  # it may move while we read
                if now is None:
                    continue
                threads[tid] = now
                for column, grown in enumerate(_growth(self._before.get(tid), now, longest_ns)):
                    total[column] += grown
            growth[:, index] = total
        self.counters.threads = len(threads)
        self.counters.vanished_threads += len(self._before.keys() - threads.keys())
        self._before, self._before_ns = threads, now_ns
        self._forget(self._open.keys() - threads.keys())
        ids64 = np.fromiter((id for id, _ in groups), np.uint64, len(groups))
        unknown = np.full(len(groups), np.nan)
        wait = WaitSample(ids64, growth[2], growth[1], *(unknown.copy() for _ in range(6)))
        return SchedstatSample(wait, self._usage_with_below(groups, growth[0]))

    def _threads_of(self, path: str) -> list[int] | None:
        try:
            fd = os.open(f"{self._mount}{path}/{self._threads_file}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return parse_threads(read_whole(fd))
            finally:
                os.close(fd)
        except OSError as error:
            self.counters.refused += not is_gone(error)
            return None

    def _thread(self, tid: int) -> ThreadStat | None:
        kept = self._open.get(tid)
        try:
            if kept is not None:
                try:
                    return parse_schedstat(os.pread(kept, 128, 0))
                except ProcessLookupError:
                    self._forget((tid,))
            fd = os.open(f"{self._proc}/{tid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            self._open[tid] = fd
            stat = parse_schedstat(os.pread(fd, 128, 0))
            if len(self._open) > self._budget:
                self._forget((tid,))
            return stat
        except OSError as error:
            self.counters.refused += not is_gone(error)
            return None

    def _forget(self, tids: Iterable[int]) -> None:
        for tid in tids:
            os.close(self._open.pop(tid))

    def _usage_with_below(self, groups: Sequence[tuple[int, str]], run_ns: Floats) -> Floats:
        """Add the growth of each group to its own account and to all above it."""
        grown = {path: 0.0 for _, path in groups}
        for (_, path), own_ns in zip(groups, run_ns.tolist(), strict=True):
            if own_ns > 0:
                for ancestor in _with_ancestors(path):
                    if ancestor in grown:
                        grown[ancestor] += own_ns
        self._usage_ns = {id: self._usage_ns.get(id, 0.0) + grown[path] for id, path in groups}
        usage_ns = np.array([self._usage_ns[id] for id, _ in groups], np.float64)
        usage_ns[np.isnan(run_ns)] = np.nan
        return usage_ns


def throttle_growth(before: CgroupSample | None, now: CgroupSample) -> ThrottleSample:
    """Throttles of one tick by the growth of nr_throttled (periods, not events) and throttled_ns (over all CPUs).

    NaN for a group that was not there before or whose counters fell (they were reset, so the growth is not known).
    """
    events = np.full(len(now.ids), np.nan)
    sum_ns = events.copy()
    if before is not None and len(before.ids) and len(now.ids):
        order = np.argsort(before.ids)
        place = np.minimum(np.searchsorted(before.ids[order], now.ids), len(order) - 1)
        row = order[place]
        same = before.ids[row] == now.ids
        for grown, column in ((events, "nr_throttled"), (sum_ns, "throttled_ns")):
            difference = getattr(now, column) - getattr(before, column)[row]
            grown[:] = np.where(same & (difference >= 0), difference, np.nan)
    return ThrottleSample(now.ids, events, sum_ns, np.full(len(now.ids), np.nan))


def _growth(before: ThreadStat | None, now: ThreadStat, longest_ns: float | None) -> tuple[int, int, int]:
    """run, wait, timeslices since the last tick. A thread not seen before counts from 0 if it can be that young.

    Counters that fell belong to a new thread with an old thread's id.
    """
    if before is not None and now.run_ns >= before.run_ns and now.wait_ns >= before.wait_ns:
        return now.run_ns - before.run_ns, now.wait_ns - before.wait_ns, now.timeslices - before.timeslices
    if longest_ns is None or now.run_ns + now.wait_ns > longest_ns:
        return 0, 0, 0
    return now.run_ns, now.wait_ns, now.timeslices


def _with_ancestors(path: str) -> list[str]:
    """ "/a/b" -> "/a/b", "/a", "/"."""
    paths = [path]
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        paths.append(path)
    return paths
