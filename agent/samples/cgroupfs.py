"""CPU, memory, IO and pressure of each group from the kernel's cgroup files, v1, v2 and hybrid.

What is read when, per group:

    every tick            cpu.stat (v2), cpuacct.usage (v1); on v1 also cpu.stat of groups that `cpu_stat` (BPF) does
                          not cover
    every Nth tick        memory, IO, PSI, and quota, period, burst of groups that `cpu_stat` does not cover: a
                          different Nth part of the groups in every tick, so that the cost is even; in between the
                          last value stands, and `slow_time_ns` says of when it is
    at first sight        everything

`cpu_stat` counts the run time of fair-class tasks alone (a SCHED_FIFO loop is 0), so it stands only for a group without
one of the files above: on v1 one that has no directory in a cpuacct hierarchy.

Cost: a file that is kept open is read in 1.2-3.6 us, one that must be opened in 6.5-10 us. Files of every tick are
kept open while the descriptor budget lasts; the others are opened through the group's directory descriptor (an open
and once read kernfs file holds 4 KiB of kernel memory, a directory descriptor does not). A group that finds the
budget used up keeps nothing; this is no LRU, because a round through more files than an LRU holds never hits.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import HostError, is_gone
from agent.host import Host
from agent.records import CgroupSample, Floats, Ids
from agent.samples.cgroup_formats import INF, NAN
from agent.samples.cgroup_table import COLUMNS, KernelFile, files_of
from agent.samples.files import read_whole

NO_QUOTA = 2**64 - 1
"""quota_ns in struct cgroup_cpu_stat (bpf/cgroup.h): none."""

_SLOW_TIME = len(COLUMNS)
_WIDTH = len(COLUMNS) + 1

_CPU_STAT_FIELDS = ("usage_ns", "nr_periods", "nr_throttled", "throttled_ns", "quota_ns", "period_ns", "burst_ns")
"""Of struct cgroup_cpu_stat, in the order of the first columns."""

Groups = Sequence[tuple[int, str]]


@dataclass(slots=True)
class CgroupFilesCounters:
    """All rise since start."""

    reads: int = 0
    opens: int = 0
    gone: int = 0
    """Groups that had vanished when their turn came."""
    refused: int = 0
    """Files that exist and could not be read (permission, no descriptors left, PSI switched off): NaN."""


class _Group:
    """A group's descriptors and its row in the table. A descriptor of -1: looked for, not there."""

    __slots__ = ("directories", "files", "gone", "id", "path", "row")

    def __init__(self, id: int, path: str, row: int) -> None:
        self.id = id
        self.path = path
        self.row = row
        self.gone = False
        self.directories: dict[str, int] = {}
        self.files: dict[KernelFile, int] = {}

    def close(self) -> int:
        """How many descriptors this gave back."""
        open_now = [fd for fd in (*self.directories.values(), *self.files.values()) if fd >= 0]
        for fd in open_now:
            os.close(fd)
        self.directories.clear()
        self.files.clear()
        return len(open_now)

    def forget_absent(self) -> None:
        """Look again: a controller may have been enabled since."""
        self.directories = {mount: fd for mount, fd in self.directories.items() if fd >= 0}
        self.files = {file: fd for file, fd in self.files.items() if fd >= 0}


class CgroupFiles:
    """Reads the files of the groups it is given, tick after tick; owns the descriptors (`close`, or `with`).

    `descriptor_budget`: how many descriptors it may keep between ticks, by default half of the soft RLIMIT_NOFILE now.
    """

    def __init__(self, host: Host, *, slow_every_ticks: int = 10, descriptor_budget: int | None = None) -> None:
        if host.cpu is None:
            raise HostError("no cgroup hierarchy with the cpu controller is mounted")
        self.counters = CgroupFilesCounters()
        self.descriptors = 0
        """Gauge: kept open now."""
        self._cpu_mount = host.cpu.mount
        self._files = files_of(host)
        self._slow_every_ticks = slow_every_ticks
        if descriptor_budget is None:  # asked now: the agent has raised it since the host was probed
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            descriptor_budget = (65536 if soft == resource.RLIM_INFINITY else soft) // 2
        self._budget = descriptor_budget
        self._groups: dict[int, _Group] = {}
        self._free_rows: list[int] = []
        self._asked: Groups = ()
        self._ids: Ids = np.empty(0, np.uint64)
        self._rows = np.empty(0, np.intp)
        self._has_usage = np.empty(0, np.bool_)  # by row: a usage file was there; the two accounts are never mixed
        self._tick = 0
        self._table: Floats = np.full((0, _WIDTH), NAN)

    def __enter__(self) -> CgroupFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all descriptors back."""
        self._drop(list(self._groups))
        self._asked = ()

    def read(self, groups: Groups, now_ns: int, cpu_stat: NDArray[Any] | None = None) -> CgroupSample:
        """The sample whose row i is of groups[i], an (id, path) with the path as in CgroupTree.paths.

        `cpu_stat` is an array of struct cgroup_cpu_stat (bpf/cgroup.h, the fields by their names): where it has a
        group's id, of the group's cpu files only that of its usage is read. A vanished group is a row of NaN. Never
        raises for a group.
        """
        new = self._follow(groups) if tuple(groups) != self._asked else ()
        covered, stat_rows = _covered(self._ids, cpu_stat)
        slow = self._rows % self._slow_every_ticks == self._tick % self._slow_every_ticks
        slow[list(new)] = True
        self._tick += 1
        cells = self._table.reshape(-1)
        for index in np.flatnonzero(slow | ~covered | self._has_usage[self._rows]).tolist():
            group = self._groups[self._asked[index][0]]
            self._read_group(group, cells, slow=bool(slow[index]), cpu=not covered[index], now_ns=now_ns)
        columns = np.ascontiguousarray(self._table[self._rows].T)
        self._has_usage[self._rows] |= ~np.isnan(columns[0])
        if cpu_stat is not None:
            for column, field in enumerate(_CPU_STAT_FIELDS):
                columns[column, covered] = cpu_stat[field][stat_rows]
            columns[0] = np.where(self._has_usage[self._rows], self._table[self._rows, 0], columns[0])
            columns[4, covered & (columns[4] == float(NO_QUOTA))] = INF
        return CgroupSample(self._ids, **dict(zip(COLUMNS, columns, strict=False)), slow_time_ns=columns[_SLOW_TIME])

    def _follow(self, groups: Groups) -> list[int]:
        """From now on it is these. Returns the indices of those that are new."""
        self._asked = tuple(groups)
        self._ids = np.fromiter((id for id, _ in groups), np.uint64, len(groups))
        self._drop(self._groups.keys() - {id for id, _ in groups})
        self._make_room(len(groups))
        new = []
        for index, (id, path) in enumerate(groups):
            if id in self._groups:
                self._groups[id].path = path
            else:
                self._groups[id] = _Group(id, path, self._free_rows.pop())
                new.append(index)
        self._rows = np.fromiter((self._groups[id].row for id, _ in groups), np.intp, len(groups))
        return new

    def _read_group(self, group: _Group, cells: Floats, *, slow: bool, cpu: bool, now_ns: int) -> None:
        base = group.row * _WIDTH
        if slow:
            group.forget_absent()
        try:
            for file in self._files.cpu if cpu else self._files.usage:
                self._read_file(group, file, cells, base, keep=True)
            if slow:
                for file in (*self._files.quota, *self._files.slow) if cpu else self._files.slow:
                    self._read_file(group, file, cells, base, keep=False)
                cells[base + _SLOW_TIME] = float(now_ns)
            group.gone = False
        except _Gone:
            for cell in range(base, base + _WIDTH):
                cells[cell] = NAN
            self.counters.gone += not group.gone
            group.gone = True
            self.descriptors -= group.close()
        if self.descriptors > self._budget:
            self.descriptors -= group.close()

    def _read_file(self, group: _Group, file: KernelFile, cells: Floats, base: int, *, keep: bool) -> None:
        """Fill the file's cells, with NaN where the group has no such file. Raises _Gone."""
        data = None
        try:
            fd = group.files.get(file)
            if fd is None:
                fd = self._open(group, file)
                if keep:
                    group.files[file] = fd
                    self.descriptors += fd >= 0
            if fd >= 0:
                try:
                    data = read_whole(fd)
                    self.counters.reads += 1
                finally:
                    if not keep:
                        os.close(fd)
        except OSError as error:
            if not is_gone(error):
                self.counters.refused += 1
            elif file.mount == self._cpu_mount:
                raise _Gone from error
            else:
                self.descriptors -= group.close()  # only this hierarchy's directory is gone: look again next time
        at = base + file.first
        for value in file.parse(data) if data is not None else (NAN,) * file.width:
            cells[at] = value
            at += 1

    def _open(self, group: _Group, file: KernelFile) -> int:
        """A descriptor of the file, -1 when the group has none. Raises _Gone, OSError when refused."""
        directory = group.directories.get(file.mount)
        if directory is None:
            directory = group.directories[file.mount] = self._open_directory(group, file.mount)
            self.descriptors += directory >= 0
        if directory < 0:
            return -1
        for name in file.names:
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
            except FileNotFoundError:
                continue
            self.counters.opens += 1
            return fd
        if file.mount == self._cpu_mount and not self._is_alive(group):
            raise _Gone
        return -1

    def _open_directory(self, group: _Group, mount: str) -> int:
        try:
            fd = os.open(mount + group.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            if mount == self._cpu_mount:
                raise _Gone from None
            return -1
        if mount == self._cpu_mount and os.fstat(fd).st_ino != group.id:
            os.close(fd)
            raise _Gone
        return fd

    def _is_alive(self, group: _Group) -> bool:
        try:
            return os.stat(self._cpu_mount + group.path).st_ino == group.id
        except OSError:
            return False

    def _drop(self, ids: Iterable[int]) -> None:
        for id in ids:
            group = self._groups.pop(id)
            self.descriptors -= group.close()
            self._table[group.row] = NAN
            self._has_usage[group.row] = False
            self._free_rows.append(group.row)

    def _make_room(self, groups: int) -> None:
        """Rows for all groups; the table never shrinks."""
        have = len(self._table)
        if groups > have:
            more = max(groups - have, have // 2)
            self._table = np.concatenate([self._table, np.full((more, _WIDTH), NAN)])
            self._has_usage = np.concatenate([self._has_usage, np.zeros(more, np.bool_)])
            self._free_rows = [*range(have + more - 1, have - 1, -1), *self._free_rows]


class _Gone(Exception):
    """The group's directory in the cpu hierarchy does not exist any more, or belongs to another group."""


def _covered(ids: Ids, cpu_stat: NDArray[Any] | None) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which ids have a row in cpu_stat, and for those, in order, which row."""
    if cpu_stat is None or len(cpu_stat) == 0:
        return np.zeros(len(ids), np.bool_), np.empty(0, np.intp)
    order = np.argsort(cpu_stat["id"])
    have = cpu_stat["id"][order]
    place = np.minimum(np.searchsorted(have, ids), len(have) - 1)
    covered = have[place] == ids
    return covered, order[place[covered]]
