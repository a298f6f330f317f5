"""Cycles, instructions and cache misses of groups, from the hardware counters of the PMU by perf events.

Only some groups are counted (agent/discovery/targets.py): each costs descriptors and kernel memory on every CPU, and
work at each switch from and to it. A group is counted by its directory in the hierarchy that has perf_event, which on
v1 hosts is another than that of the cpu controller: a group that has none there is NaN.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from agent.config import Config
from agent.discovery.targets import Counted
from agent.errors import is_gone
from agent.host import Hierarchy, Host
from agent.records import CpiSample, Group
from native.perf import CACHE_MISSES, CYCLES, INSTRUCTIONS, CgroupCounters, Kind, PerfError

log = logging.getLogger(__name__)

KINDS = (CYCLES, INSTRUCTIONS, CACHE_MISSES)
_NO_COUNTER = (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP)

Choose = Callable[[Sequence[Group]], list[Group]]


def open_counters(max_groups: int, kinds: Sequence[Kind] = KINDS) -> CgroupCounters:
    """Of `kinds`, or of all but the last one where that alone cannot be counted. PerfError."""
    try:
        return CgroupCounters(kinds, max_groups)
    except PerfError as error:
        if error.errno not in _NO_COUNTER:
            raise
    return CgroupCounters(kinds[:-1], max_groups)


def refusal() -> int:
    """Why this process cannot have them: an errno; 0: it can."""
    try:
        open_counters(1).close()
    except PerfError as error:
        return error.errno or errno.EIO
    return 0


class _Row(NamedTuple):
    """Of the counters; `inode`: of the directory that is counted."""

    number: int
    inode: int


class CpiReader:
    """Owns `counters`. `choose`: which groups are to be counted, the most important first."""

    def __init__(self, counters: CgroupCounters, hierarchy: Hierarchy, choose: Choose, max_groups: int) -> None:
        self._counters = counters
        self._mount = hierarchy.mount
        self._max_groups = max_groups
        self._rows: dict[int, _Row] = {}
        """By id of the group; those that are counted."""
        self._refused: int | None = None
        self._left_out = 0
        self.choose_anew(choose)

    @classmethod
    def open(cls, config: Config, host: Host) -> CpiReader | None:
        """None: it is not asked for, or this host does not have it, which is said."""
        if not config.cpi.enabled:
            return None
        if host.perf_event is None:
            log.warning("hardware counters are not read: no cgroup hierarchy with perf_event is mounted")
            return None
        max_groups = min(config.cpi.max_groups, _groups_for_descriptors(host.cpus))
        try:
            counters = open_counters(max_groups)
        except PerfError as error:
            log.warning("hardware counters are not read (slackwater doctor tells more): %s", error.strerror)
            return None
        return cls(counters, host.perf_event, Counted(config).of, max_groups)

    def close(self) -> None:
        self._counters.close()

    def choose_anew(self, choose: Choose) -> None:
        """Rules are others."""
        self._choose = choose
        self._groups: tuple[Group, ...] | None = None

    def read(self, groups: tuple[Group, ...]) -> CpiSample:
        """What was counted since the last call, aligned with `groups`. Of a group that is new: from the next one on."""
        amounts = self._counters.read()
        if groups is not self._groups:
            self._follow(groups)
        columns = np.full((len(KINDS), len(groups)), np.nan)
        for id, row in self._rows.items():
            if id in self._index:
                columns[: amounts.shape[1], self._index[id]] = amounts[row.number]
        self._open_and_close()
        return CpiSample(self._ids, *columns)

    def _follow(self, groups: tuple[Group, ...]) -> None:
        chosen = self._choose(groups)
        left_out = max(0, len(chosen) - self._max_groups)
        if left_out and not self._left_out:
            log.warning("hardware counters are read of %d groups, %d are left out", self._max_groups, left_out)
        self._left_out = left_out
        self._groups = groups
        self._ids = np.fromiter((group.id for group in groups), np.uint64, len(groups))
        self._paths = {group.id: self._mount + group.path for group in chosen[: self._max_groups]}
        of_interest = self._paths.keys() | self._rows.keys()
        self._index = {group.id: index for index, group in enumerate(groups) if group.id in of_interest}

    def _open_and_close(self) -> None:
        """Count those that are to be counted, as far as they have a directory now."""
        for id, row in list(self._rows.items()):
            if id not in self._paths or _inode(self._paths[id]) != row.inode:
                self._counters.remove(row.number)
                del self._rows[id]
        for id in self._paths.keys() - self._rows.keys():
            try:
                self._rows[id] = self._add(self._paths[id])
            except OSError as error:
                if not is_gone(error) and error.errno != self._refused:
                    self._refused = error.errno
                    log.warning("%s: its hardware counters are not read: %s", self._paths[id], error.strerror)

    def _add(self, path: str) -> _Row:
        """OSError: there is no such directory (any more), or the kernel does not count it."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _Row(self._counters.add(fd), os.fstat(fd).st_ino)
        finally:
            os.close(fd)


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _groups_for_descriptors(cpus: int) -> int:
    """A quarter of the descriptors, at least for one group: files of cgroups have half."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, soft // 4 // (cpus * len(KINDS) + 1)) if soft != resource.RLIM_INFINITY else 1 << 16
