"""Where on the ladder batch work is, and the next step up or down. Pure.

up      one step per settling time while a rule fires and batch work is the cause: the next rung; on a rung that has a
        limit, first that x down_ratio until it is as low as it may be
down    when no rule fires: the limit of the top rung + up_pct of the machine per settling time; when it limits no more
        the rung is given back; priority after calm_s
frozen  for freeze_s, each time longer, whatever happens
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.config_laws import Rung, SuppressConfig
from agent.units import NS_PER_S

LIMITING: tuple[Rung, ...] = ("cpuset", "quota")


@dataclass(frozen=True, slots=True)
class Stand:
    """`level` of `config.rungs` are in use, from the first."""

    level: int = 0
    by_wait_cores: Mapping[Rung, float] = field(default_factory=dict)
    """The limit of each limiting rung that is in use, by the feedback."""
    set_cores: Mapping[Rung, float] = field(default_factory=dict)
    """What was set in the end."""
    frozen_until_ns: int | None = None
    freezes: int = 0
    """How often, since the ladder was last left."""


class Ladder:
    """The steps. `cpus`: of the machine, `floors`: the least that a limiting rung may leave, in cores."""

    def __init__(self, config: SuppressConfig, cpus: int, floors: Mapping[Rung, float]) -> None:
        self._config = config
        self._cpus = cpus
        self._floors = floors

    def up(self, stand: Stand, be_used_cores: float, possible: frozenset[Rung], now_ns: int) -> Stand | None:
        """One step; None: there is none. `possible`: rungs that this host has for some group. `be_used_cores` is not
        asked of a rung without a limit.
        """
        rungs = self._config.rungs
        top = rungs[stand.level - 1] if stand.level else None
        if top in LIMITING and top in possible:
            before = min(stand.by_wait_cores.get(top, math.inf), stand.set_cores.get(top, math.inf))
            if before > self._floors[top] + 1e-6:
                return replace(
                    stand, by_wait_cores={**stand.by_wait_cores, top: self._less(top, before, be_used_cores)}
                )
        for level in range(stand.level, len(rungs)):
            if (rung := rungs[level]) in possible:
                return self._entered(replace(stand, level=level + 1), rung, be_used_cores, now_ns)
        return None

    def _less(self, rung: Rung, limit_cores: float, used_cores: float) -> float:
        """x down_ratio; of what is used, where that is less than the limit, else the step would not be felt."""
        return max(min(limit_cores, used_cores) * self._config.down_ratio, self._floors[rung])

    def _entered(self, stand: Stand, rung: Rung, used_cores: float, now_ns: int) -> Stand:
        if rung in LIMITING:
            return replace(stand, by_wait_cores={**stand.by_wait_cores, rung: self._less(rung, self._cpus, used_cores)})
        if rung == "freeze":
            config = self._config
            for_s = min(config.freeze_s + stand.freezes * config.freeze_step_s, config.freeze_max_s)
            return replace(stand, frozen_until_ns=now_ns + int(for_s * NS_PER_S), freezes=stand.freezes + 1)
        return stand

    def down(self, stand: Stand, clear_s: float) -> Stand:
        """One step; the same stand when it is too early or there is none."""
        if not stand.level or stand.frozen_until_ns is not None:
            return stand
        top = self._config.rungs[stand.level - 1]
        if top in LIMITING:
            before = stand.by_wait_cores.get(top, self._cpus)
            if not self._config.always:  # nothing else will limit it then: go up from where it is
                before = min(before, stand.set_cores.get(top, self._cpus))
            if before < self._cpus - 1e-6:
                limit = min(before + self._cpus * self._config.up_pct / 100, self._cpus)
                return replace(stand, by_wait_cores={**stand.by_wait_cores, top: limit})
        elif top == "idle" and clear_s < self._config.calm_s:
            return stand
        return self._left(stand)

    def thawed(self, stand: Stand) -> Stand:
        """The bounded time is over."""
        return replace(stand, level=self._config.rungs.index("freeze"), frozen_until_ns=None)

    def _left(self, stand: Stand) -> Stand:
        top = self._config.rungs[stand.level - 1]
        by_wait = {rung: cores for rung, cores in stand.by_wait_cores.items() if rung != top}
        level = stand.level - 1
        return replace(stand, level=level, by_wait_cores=by_wait, freezes=stand.freezes if level else 0)
