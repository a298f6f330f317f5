"""Events counted per cgroup for Python: choose the events, add and remove cgroups, read the growth of all at once.

What the figures mean, and what they cost: native/perf.h.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from native._slackwater import ffi, lib


class PerfError(OSError):
    """`strerror` is one line: the step, and what the kernel said."""


class Kind(NamedTuple):
    """An event: `type` and `config` of struct perf_event_attr."""

    type: int
    config: int


CYCLES, INSTRUCTIONS, CACHE_MISSES = Kind(0, 0), Kind(0, 1), Kind(0, 3)
"""PERF_TYPE_HARDWARE. Source: include/uapi/linux/perf_event.h. Which cache the last one is of is the PMU's choice: the
last level of Intel's, the second of AMD's Zen, the first of Arm's."""


class CgroupCounters:
    """Counts the same `kinds` for up to `max_groups` cgroups, each in a row of its own. A context manager."""

    def __init__(self, kinds: Sequence[Kind], max_groups: int) -> None:
        """PerfError: this machine or this process does not have them."""
        error = ffi.new("int *")
        c_kinds = ffi.new("struct perf_kind[]", [{"type": kind.type, "config": kind.config} for kind in kinds])
        self._perf = lib.perf_open(c_kinds, len(kinds), max_groups, error)
        if self._perf == ffi.NULL:
            self._perf = None
            raise PerfError(-error[0], f"perf_event_open: {os.strerror(-error[0])}")
        self._amounts = np.empty((max_groups, len(kinds)))

    def close(self) -> None:
        """Again: nothing."""
        if self._perf:
            lib.perf_close(self._perf)
        self._perf = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def add(self, cgroup_fd: int) -> int:
        """The row of this cgroup, which counts from 0 now. `cgroup_fd`: its directory, open for reading. PerfError."""
        row = int(lib.perf_add(self._perf, cgroup_fd))
        if row < 0:
            raise PerfError(-row, f"perf_event_open of a cgroup: {os.strerror(-row)}")
        return row

    def remove(self, row: int) -> None:
        lib.perf_remove(self._perf, row)

    def read(self) -> NDArray[np.float64]:
        """Growth since the last time, (max_groups, kinds); NaN: not known. Overwritten by the next call."""
        lib.perf_read(self._perf, ffi.from_buffer("double[]", self._amounts))
        return self._amounts
