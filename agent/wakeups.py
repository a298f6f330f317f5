"""How often throttle events may wake the loop. Pure.

Each is answered at once, but not sooner than `gap_ns` after the last, in which time others are collected; and a storm
must not become the agent's own load: beyond `per_s` of them the loop hears of events when it drains anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.units import NS_PER_S


@dataclass
class WakeupBudget:
    """A token bucket. `burst`: how many may come in a row."""

    per_s: float = 100.0
    burst: float = 50.0
    gap_ns: int = 1_000_000

    def __post_init__(self) -> None:
        self._tokens = self.burst
        self._last_ns: int | None = None

    def spend(self, now_ns: int) -> int:
        """The loop was woken. When it may listen again, on the same clock."""
        if self._last_ns is not None:
            self._tokens = min(self.burst, self._tokens + (now_ns - self._last_ns) / NS_PER_S * self.per_s)
        self._last_ns = now_ns
        self._tokens -= 1
        if self._tokens >= 0:
            return now_ns + self.gap_ns
        return now_ns + int(-self._tokens / self.per_s * NS_PER_S)
