"""When a rule fires for a group: most of a window was past the threshold. Pure.

    fires   the q-th percentile of the window's samples is past the threshold
    clears  the (100-q)-th is below the threshold x clear_ratio

With q = 20 that takes 80 % of the samples: a spike does not fire it. An absent sample is none: with fewer than half a
window of them a rule neither fires nor clears. Ticks in which a group did not wait at all are no samples of its waits
either, but count as good when it is to clear; else a service that stopped would be protected for ever.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.config import Config
from agent.config_control import RuleConfig, SliConfig
from agent.control import SliValue
from agent.decisions.signals import CPI_SIGNAL, SIGNALS
from agent.decisions.tree import Rows
from agent.discovery.targets import Targets
from agent.profiles.counters import rows_of
from agent.quantity import TIME, Dimension, format_quantity, parse_quantity
from agent.records import Floats, Group, Ids, Profile, Tick

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule that fires for a group, in `row` of the tick."""

    rule: Rule
    group: Group
    row: int
    value: float
    """The q-th percentile, in `rule.dimension.unit`; NaN: the window has no sample any more."""
    is_fresh: bool
    """There is a sample in this tick."""
    is_past: bool
    """And it is past the threshold."""

    @property
    def reason(self) -> str:
        rule = self.rule
        past = f"rule {rule.name}: {rule.signal} was past {format_quantity(rule.threshold, rule.dimension)}"
        if math.isnan(self.value):
            return f"{past}, and is not known since {rule.window_s:g} s"
        seen = format_quantity(self.value, rule.dimension)
        return f"{past} for most of {rule.window_s:g} s (percentile {rule.percentile:g}: {seen})"


@dataclass(frozen=True, slots=True)
class RuleState:
    """Windows of the groups that a rule is about: a row per group, a column per tick; never changed in place."""

    groups: tuple[Group, ...] = ()
    """Of the tick that `rows` are of."""
    rows: Rows = field(default_factory=lambda: np.zeros(0, np.intp))
    ids: Ids = field(default_factory=lambda: np.zeros(0, np.uint64))
    samples: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    quiet: Bools = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    fires: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))
    at: int = 0
    """The column that is next."""


class Rule:
    """One [[rule]], ready to be evaluated."""

    def __init__(self, config: RuleConfig, tick_s: float, sli: SliConfig | None = None) -> None:
        self.name = config.name
        self.signal = config.signal
        self.controllers = config.controllers
        self.percentile = config.percentile
        self.window_s = config.window_s
        self.sli = sli
        self.is_own_figure = sli is not None or config.signal == CPI_SIGNAL
        """Says that a group is slow, whatever it waits."""
        self.dimension: Dimension = TIME if sli else SIGNALS[config.signal].dimension
        self.threshold = parse_quantity(config.threshold or (sli.target if sli else ""), self.dimension)
        self._clear_below = self.threshold * config.clear_ratio
        self._ticks = max(1, round(config.window_s / tick_s))
        self._targets = Targets(config, sli)

    def update(
        self, state: RuleState, tick: Tick, profile: Profile, slis: Mapping[str, SliValue]
    ) -> tuple[RuleState, tuple[Firing, ...]]:
        """The state after `tick`, and for whom it fires."""
        state = self._followed(state, tick)
        values, quiet_now = self._values(state.rows, tick, profile, slis)
        samples, quiet = state.samples.copy(), state.quiet.copy()
        samples[:, state.at] = values
        quiet[:, state.at] = quiet_now
        known = np.count_nonzero(~np.isnan(samples), axis=1)
        good = np.count_nonzero(samples <= self.threshold, axis=1)
        enough = math.ceil(self._ticks / 2)
        low = np.floor(known * self.percentile / 100)
        fires = (known >= enough) & (good <= low)
        calm = np.count_nonzero(samples < self._clear_below, axis=1) + np.count_nonzero(quiet, axis=1)
        looked_at = known + np.count_nonzero(quiet, axis=1)
        clears = (looked_at >= enough) & (calm >= looked_at * (1 - self.percentile / 100))
        fires = fires | (state.fires & ~clears)
        after = RuleState(state.groups, state.rows, state.ids, samples, quiet, fires, (state.at + 1) % samples.shape[1])
        if not fires.any():
            return after, ()
        return after, tuple(
            Firing(
                self,
                tick.groups[row],
                row,
                value=self._percentile(samples[i]),
                is_fresh=not math.isnan(values[i]),
                is_past=bool(values[i] > self.threshold),
            )
            for i, row in zip(np.flatnonzero(fires).tolist(), state.rows[fires].tolist(), strict=True)
        )

    def _values(self, rows: Rows, tick: Tick, profile: Profile, slis: Mapping[str, SliValue]) -> tuple[Floats, Bools]:
        """The sample of each row in this tick, and whether nobody waited there."""
        if self.sli:
            value = slis.get(self.sli.name)
            return np.full(len(rows), value.value if value else np.nan), np.zeros(len(rows), np.bool_)
        signal = SIGNALS[self.signal]
        values = signal.take(tick, profile)[rows]
        quiet = tick.wait.count[rows] == 0 if signal.of_waits else np.zeros(len(rows), np.bool_)
        return values, quiet & np.isnan(values)

    def _percentile(self, samples: NDArray[np.float32]) -> float:
        known = np.sort(samples[~np.isnan(samples)])
        return float(known[min(int(len(known) * self.percentile / 100), len(known) - 1)]) if len(known) else math.nan

    def _followed(self, state: RuleState, tick: Tick) -> RuleState:
        """With a row for each group that the rule is about now; the new are empty, the gone forgotten."""
        if state.groups is tick.groups and state.samples.shape[1]:
            return state
        rows: Rows = np.array([row for row, group in enumerate(tick.groups) if group in self._targets], np.intp)
        ids = tick.wait.ids[rows]
        before = rows_of(state.ids, ids)
        old = before >= 0
        samples = np.full((len(ids), self._ticks), np.nan, np.float32)
        quiet = np.zeros((len(ids), self._ticks), np.bool_)
        fires = np.zeros(len(ids), np.bool_)
        if old.any():
            samples[old], quiet[old], fires[old] = (
                column[before[old]] for column in (state.samples, state.quiet, state.fires)
            )
        return RuleState(tick.groups, rows, ids, samples, quiet, fires, state.at)


def rules_of(config: Config) -> tuple[Rule, ...]:
    """All rules of a configuration that was checked."""
    slis = {sli.signal: sli for sli in config.slis}
    return tuple(Rule(rule, config.agent.tick_s, slis.get(rule.signal)) for rule in config.rules)
