"""The state between loop and scrape: the last tick and the counters made of all ticks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from agent.control import NO_RELOADS, ControlReport, Reloads
from agent.metrics.family import View
from agent.metrics.totals import add_tick, no_totals
from agent.records import Profile, Tick


class Metrics:
    """Fed by the loop's thread, read by the server's: what is handed over is immutable and replaced as a whole."""

    def __init__(
        self, *, version: str, culprits_per_group: int, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._version = version
        self._culprits_per_group = culprits_per_group
        self._clock_ns = clock_ns
        self._totals = no_totals()
        self._view: View | None = None

    def update(
        self, tick: Tick, profile: Profile, reloads: Reloads = NO_RELOADS, control: ControlReport | None = None
    ) -> None:
        """Once per tick, no tick left out: the counters are sums over ticks."""
        self._totals = add_tick(self._totals, tick, self._culprits_per_group)
        self._view = View(tick, profile, self._totals, self._version, tick.time_ns, reloads, control)

    def view(self) -> View | None:
        """What a scrape shows now; None before the first tick."""
        return self._view and replace(self._view, now_ns=self._clock_ns())
