"""What the probe costs the host: run time and runs of our BPF programs.

The kernel measures it only while somebody asks for it (two clock reads for every run of every BPF program), so it is
asked for one tick in `every_ticks`; in between the cost per context switch that was last measured is taken. Where
kernel.bpf_stats_enabled is on anyway the kernel's own sums are taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from native.probe import Probe, ProbeError, enable_run_stats


class BpfCost:
    """Cumulative since it was made; None until the first measurement."""

    def __init__(
        self, probe: Probe, *, always_on: bool, every_ticks: int = 60, enable: Callable[[], int] = enable_run_stats
    ) -> None:
        self._probe = probe
        self._always_on = always_on
        self._every_ticks = every_ticks
        self._enable = enable
        self._ticks = 0
        self._descriptor: int | None = None
        self._begin = (0, 0, 0)
        self._switches = 0
        self._per_switch: tuple[float, float] | None = None
        self._total = (0.0, 0.0)

    def read(self, switches: int) -> tuple[int, int] | None:
        """(run time in ns, runs) up to now; `switches`: the probe's counter now. Once per tick."""
        grown, self._switches = switches - self._switches, switches
        if self._always_on:
            return self._probe.run_stats()
        if self._descriptor is not None:
            run_ns, runs = self._probe.run_stats()
            begin_ns, begin_runs, begin_switches = self._begin
            if switches > begin_switches:
                measured = switches - begin_switches
                self._per_switch = (run_ns - begin_ns) / measured, (runs - begin_runs) / measured
            self.close()
        elif self._ticks % self._every_ticks == 0:
            self._start(switches)
        self._ticks += 1
        if self._per_switch is None:
            return None
        ns_each, runs_each = self._per_switch
        self._total = self._total[0] + grown * ns_each, self._total[1] + grown * runs_each
        return int(self._total[0]), int(self._total[1])

    def _start(self, switches: int) -> None:
        try:
            self._descriptor = self._enable()
            self._begin = (*self._probe.run_stats(), switches)
        except ProbeError:
            self.close()  # not allowed: the cost stays unknown

    def close(self) -> None:
        """The kernel stops measuring, if it was we who asked."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
