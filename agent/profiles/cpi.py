"""Cycles per instruction (CPI) of each group, and what is usual for it. Pure.

Who shares a cache or the memory bus with a group makes its instructions take more cycles, and nothing else of the group
changes. What is past its mean by two standard deviations is suspect: so do Zhang et al., "CPI2: CPU performance
isolation for shared compute clusters" (EuroSys 2013), with the statistics of all tasks of a job on a cluster. A single
node has only the group's own past: mean and deviation here are over its own ticks, the older the less they count.

What is far from usual counts only as far as it could be called usual, so that ten bad minutes do not become so; what
stays different (another release, another load) does, in some half-lives.
"""

from __future__ import annotations

import numpy as np

from agent.profiles.counters import rows_of, same
from agent.profiles.window import Window
from agent.records import CpiProfile, CpiSample, Floats, Ids

_CLIP_DEVIATIONS = 2
_DEVIATION_MIN_RATIO = 0.05
"""Of the mean, at least: a load that never varied is not unusual for its first change of 1 %."""
_LOW_PERCENTILE = 20


class CpiProfiler:
    """Remembers what is usual. `min_instructions_per_s`: with fewer nothing is known of the tick. `usual_after_ticks`:
    so many must be known. `recent_ticks`: those that `low_cycles_per_instruction` is of.
    """

    def __init__(
        self,
        *,
        min_instructions_per_s: float,
        usual_half_life_s: float,
        usual_after_ticks: int,
        recent_ticks: int,
    ) -> None:
        self._min_instructions_per_s = min_instructions_per_s
        self._half_life_s = usual_half_life_s
        self._after_ticks = usual_after_ticks
        self._recent = Window(recent_ticks)
        self._ids: Ids = np.empty(0, np.uint64)
        self._ticks = self._mean = self._variance = np.empty(0)

    def update(self, sample: CpiSample, interval_s: float | None) -> CpiProfile:
        """Of a tick; `interval_s` None: its length is not believable, and nothing is known of it."""
        self._follow(sample.ids)
        instructions = np.where(
            sample.instructions >= self._min_instructions_per_s * (interval_s or np.nan), sample.instructions, np.nan
        )
        per_instruction = sample.cycles / instructions
        is_usual_known = self._ticks >= self._after_ticks
        usual, deviation = self._mean, self._deviation()
        self._recent.push(sample.ids, per_instruction, 0.0)
        low = np.where(np.isnan(per_instruction), np.nan, self._recent.percentile(_LOW_PERCENTILE))
        self._learn(per_instruction, is_usual_known, interval_s or 0.0)
        return CpiProfile(
            cycles_per_instruction=per_instruction,
            low_cycles_per_instruction=low,
            llc_misses_per_1000_instructions=sample.llc_misses / instructions * 1000,
            usual_cycles_per_instruction=np.where(is_usual_known, usual, np.nan),
            deviation_cycles_per_instruction=np.where(is_usual_known, deviation, np.nan),
        )

    def _deviation(self) -> Floats:
        return np.maximum(np.sqrt(self._variance), self._mean * _DEVIATION_MIN_RATIO)

    def _learn(self, values: Floats, is_usual_known: np.typing.NDArray[np.bool_], interval_s: float) -> None:
        """At first all ticks count the same."""
        reach = np.where(is_usual_known, self._deviation() * _CLIP_DEVIATIONS, np.inf)
        off = np.clip(values - self._mean, -reach, reach)
        weight = np.maximum(1 / (self._ticks + 1), 1 - 0.5 ** (interval_s / self._half_life_s))
        known = ~np.isnan(values)
        self._mean = np.where(known, self._mean + weight * off, self._mean)
        self._variance = np.where(known, (1 - weight) * (self._variance + weight * off**2), self._variance)
        self._ticks = self._ticks + known

    def _follow(self, ids: Ids) -> None:
        """A row for each; the gone are forgotten."""
        if same(ids, self._ids):
            return
        rows = rows_of(self._ids, ids)

        def moved(column: Floats) -> Floats:
            return np.append(column, 0.0)[rows]  # -1, of a new one, is the 0

        self._ticks, self._mean, self._variance = map(moved, (self._ticks, self._mean, self._variance))
        self._ids = ids
