"""Ticks -> profiles: what is known of every group over its window. Pure; time comes from the ticks alone.

A tick whose length is not believable (zero, negative, longer than a day, or at odds with the clock of the tick
before) gives no rates, is not put into the window, and is where counting begins anew. The agent's first reading is
such a tick: interval_ns 0.
"""

from __future__ import annotations

import numpy as np

from agent.profiles.counters import Counters, rows_of
from agent.profiles.cpi import CpiProfiler
from agent.profiles.window import Window
from agent.records import NOBODY_ID, Culprit, Floats, Group, Profile, Tick
from agent.units import NS_PER_S

_INTERVAL_S_MAX = 86_400
_CLOCK_ERROR_RATIO = 0.1
_CORES_TOLERANCE_RATIO = 2
"""Counters of one tick are read one after another, so a short tick may show somewhat more than the machine has."""


class Profiler:
    """Keeps the windows of all groups. `window_ticks` >= 1. `cpi` None: hardware counters are not looked at."""

    def __init__(self, window_ticks: int, cpi: CpiProfiler | None = None) -> None:
        self._cpi = cpi
        self.clock_jumps = 0
        """Ticks after the first whose length was not believable."""
        self._cpu = Counters(columns=1)
        self._io = Counters(columns=2)
        self._node = Counters(columns=1)
        self._wait_p99 = Window(window_ticks)
        self._contention = Window(window_ticks)
        self._cores = Window(window_ticks)
        self._clock_s = 0.0
        self._last_time_ns: int | None = None
        self._groups: tuple[Group, ...] = ()
        self._paths: dict[int, str] = {}

    @property
    def counter_resets(self) -> int:
        """Counters seen to fall, since the start."""
        return sum(counters.resets for counters in (self._cpu, self._io, self._node))

    def update(self, tick: Tick) -> Profile:
        """The profile after `tick`; to be called with every tick, in order."""
        interval_s = self._believed_interval_s(tick)
        self._clock_s += interval_s or 0.0
        if interval_s is None:
            for counters in (self._cpu, self._io, self._node):
                counters.forget()
        elif tick.born_ids:
            born = np.fromiter(tick.born_ids, np.uint64, len(tick.born_ids))
            self._cpu.begin(born, self._clock_s - interval_s)
        ids, wait, cgroup = tick.wait.ids, tick.wait, tick.cgroup
        usage_ns_per_s = self._cpu.per_s(ids, cgroup.cpu_usage_ns[:, None], self._clock_s)[:, 0]
        io_bytes = np.stack((cgroup.io_read_bytes, cgroup.io_write_bytes), axis=1)
        io_read_s = self._clock_s if cgroup.slow_time_ns is None else cgroup.slow_time_ns / NS_PER_S
        read_per_s, write_per_s = self._io.per_s(ids, io_bytes, io_read_s).T
        node_id, node_used_ns = np.zeros(1, np.uint64), np.array([[float(tick.node.cpu_used_ns)]])
        node_ns_per_s = self._node.per_s(node_id, node_used_ns, self._clock_s)
        cores = _believable_cores(usage_ns_per_s / NS_PER_S, tick.node.cpus)
        if interval_s is not None:
            self._wait_p99.push(ids, wait.p99_ns, self._clock_s)
            self._contention.push(ids, wait.contention_ns, self._clock_s)
            self._cores.push(ids, cores, self._clock_s)
        else:
            for window in (self._wait_p99, self._contention, self._cores):
                window.follow(ids)
        return Profile(
            groups=tick.groups,
            cpu_used_cores=cores,
            throttle_per_s=tick.throttle.events / (interval_s or np.nan),
            io_read_bytes_per_s=read_per_s,
            io_write_bytes_per_s=write_per_s,
            node_used_cores=float(_believable_cores(node_ns_per_s / NS_PER_S, tick.node.cpus)[0, 0]),
            wait_p99_window_ns=self._wait_p99.max(),
            wait_trend_ns_per_s=self._contention.trend_per_s(),
            cpu_p95_window_cores=self._cores.percentile(95),
            main_culprit=self._main_culprits(tick),
            clock_jumps=self.clock_jumps,
            counter_resets=self.counter_resets,
            cpi=self._cpi.update(tick.cpi, interval_s) if self._cpi and tick.cpi else None,
        )

    def _believed_interval_s(self, tick: Tick) -> float | None:
        """Length of the tick, or None if it cannot be true."""
        last_ns, self._last_time_ns = self._last_time_ns, tick.time_ns
        believed = 0 < tick.interval_ns <= _INTERVAL_S_MAX * NS_PER_S
        if last_ns is not None:
            error_ns = abs(tick.time_ns - last_ns - tick.interval_ns)
            believed = believed and error_ns <= _CLOCK_ERROR_RATIO * tick.interval_ns
            self.clock_jumps += not believed
        return tick.interval_ns / NS_PER_S if believed else None

    def _main_culprits(self, tick: Tick) -> tuple[Culprit | None, ...]:
        """Per group the culprit of the largest part of its contention wait in this tick."""
        if tick.groups is not self._groups:
            self._groups = tick.groups
            self._paths = {group.id: group.path for group in tick.groups}
        main: list[Culprit | None] = [None] * len(tick.groups)
        contention_ns = tick.wait.contention_ns
        victim = rows_of(tick.wait.ids, tick.culprits.victim_ids)
        known = np.flatnonzero((victim >= 0) & (tick.culprits.wait_ns > 0))
        known = known[contention_ns[victim[known]] > 0]
        victim, wait_ns, culprit_ids = victim[known], tick.culprits.wait_ns[known], tick.culprits.culprit_ids[known]
        order = np.lexsort((wait_ns, victim))
        largest = order[np.flatnonzero(np.diff(victim[order], append=-1))]
        victim, culprit_ids = victim[largest], culprit_ids[largest]
        shares = wait_ns[largest] / contention_ns[victim]
        for row, culprit_id, share in zip(victim.tolist(), culprit_ids.tolist(), shares.tolist(), strict=True):
            main[row] = Culprit(culprit_id, self._path(culprit_id), share)
        return tuple(main)

    def _path(self, group_id: int) -> str:
        return "(idle)" if group_id == NOBODY_ID else self._paths.get(group_id, "(gone)")


def _believable_cores(cores: Floats, cpus: int) -> Floats:
    """NaN for more than the machine has: a counter of another group under an id that was used again."""
    return np.where(cores <= cpus * _CORES_TOLERANCE_RATIO, cores, np.nan)
