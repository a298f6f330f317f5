"""What each topmost BE group is to be set to, for a place on the ladder. Pure.

A limit falls at once, rises by rise_pct of the machine per tick at most, and is not written for less than
dead_band_pct.
The room limits while a rule fires, and with `always` at all times; when no rule fires the feedback alone does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from agent.config_laws import Rung, SuppressConfig
from agent.control import Intent, Knob, KnobValue, Situation
from agent.decisions.now import (
    QUOTA_US_MIN,
    UNKNOWN,
    Memory,
    Unknown,
    is_left_alone,
    owners_value,
    period_us,
    value_now,
)
from agent.decisions.suppress_cpuset import cpu_count, cpus_for_be
from agent.decisions.suppress_ladder import LIMITING, Ladder, Stand
from agent.decisions.suppress_room import Room, dead_band_cores, floor_cores, room_for_be, shares
from agent.decisions.tree import Rows, Tree
from agent.records import Qos

KNOBS: Mapping[Rung, tuple[Knob, ...]] = {
    "idle": (Knob.IDLE, Knob.WEIGHT),
    "cpuset": (Knob.CPUSET,),
    "quota": (Knob.QUOTA,),
    "freeze": (Knob.FREEZE,),
}
_WEIGHT_DEFAULT, _WEIGHT_MIN = 100, 1

Wanted = dict[tuple[int, Knob], KnobValue | Unknown]
"""By (row, knob); what is UNKNOWN, or not there, stays as it is."""


class Settings:
    """One situation, as the ladder sees it. `parents`: the topmost BE groups that are there."""

    def __init__(self, config: SuppressConfig, situation: Situation, tree: Tree, parents: Rows, memory: Memory) -> None:
        self._config = config
        self._tree = tree
        self._memory = memory
        self._rows: list[int] = parents.tolist()
        self._cpus = situation.tick.node.cpus
        self.situation = situation
        self.room: Room | None = room_for_be(situation, tree, parents, config)
        floors: dict[Rung, float] = {"quota": floor_cores(self._cpus, config), "cpuset": float(config.min_cpus)}
        self.ladder = Ladder(config, self._cpus, floors)
        self._lse = [group for row in tree.reserved_rows.tolist() if (group := tree.groups[row]).qos is Qos.LSE]
        unknown = (group.path for group in self._lse if "cpuset" in config.rungs and group.id not in situation.cpusets)
        self.pinned_unknown: str | None = next(unknown, None)
        """Path of an LSE group whose CPUs are not known: no group is given fewer CPUs then."""
        self.possible = frozenset(rung for rung in config.rungs if any(self._can(row, rung) for row in self._rows))
        """Rungs that this host has for some group."""

    def of(self, before: Stand, stand: Stand) -> tuple[Stand, Wanted]:
        """For `stand`, coming from `before`; the stand with the limits that this is made of."""
        if before.frozen_until_ns is not None and stand.frozen_until_ns is None:
            return replace(stand, set_cores=before.set_cores), self._switches(Knob.FREEZE, 0)
        set_cores: dict[Rung, float] = {}
        wanted: Wanted = {}
        for level, rung in enumerate(self._config.rungs):
            is_in_use = level < stand.level
            if rung in LIMITING:
                limit = self._limit(rung, before, stand, is_in_use=is_in_use)
                if isinstance(limit, Unknown):
                    set_cores |= {rung: before.set_cores[rung]} if rung in before.set_cores else {}
                    continue
                set_cores |= {rung: limit} if limit is not None else {}
                wanted |= self._cpusets(limit) if rung == "cpuset" else self._quotas(limit)
            elif rung == "idle":
                wanted |= self._priorities(is_in_use=is_in_use)
            else:
                wanted |= self._switches(Knob.FREEZE, 1 if is_in_use else 0)
        return replace(stand, set_cores=set_cores), wanted

    def changes(self, wanted: Wanted) -> Iterator[Intent]:
        """What differs from what is set and may be written."""
        for (row, knob), value in (wanted | self._left_behind()).items():
            if isinstance(value, Unknown) or not self._may_write(row, knob):
                continue
            if value != value_now(self.situation, row, knob, self._memory):
                group = self._tree.groups[row]
                yield Intent(group.id, group.path, knob, value)

    def _left_behind(self) -> Wanted:
        """What is set of BE groups that must not be touched any more, since a service has come into them."""
        knobs = [knob for rung in self._config.rungs for knob in KNOBS[rung]]
        rows = {self._tree.row.get(group_id, -1) for group_id, _ in (*self.situation.knobs, *self._memory.said)}
        left = [row for row in rows if row >= 0 and self._tree.groups[row].qos is Qos.BE and not self._tree.is_be[row]]
        return {(row, knob): owners_value(self.situation, row, knob) for row in left for knob in knobs}

    def _limit(self, rung: Rung, before: Stand, stand: Stand, *, is_in_use: bool) -> float | Unknown | None:
        """In cores; None: none; UNKNOWN: it stays as it is."""
        always = self._config.always and rung == next(rung for rung in self._config.rungs if rung in LIMITING)
        if not is_in_use and not always:
            return None
        if self.room is None or (rung == "cpuset" and self.pinned_unknown):
            return UNKNOWN
        limit = stand.by_wait_cores.get(rung, math.inf)
        if always or self.situation.findings:
            limit = min(limit, self.room.be_cores)
        limit, last = min(limit, float(self._cpus)), before.set_cores.get(rung)
        rise = self._cpus * self._config.rise_pct / 100
        if rung == "cpuset":
            limit, rise = float(cpu_count(limit, self._config)), math.ceil(rise)
        return limit if last is None else min(limit, last + rise)

    def _quotas(self, limit: float | None) -> Wanted:
        """Each group its share of the limit; never more than its owner gave it."""
        if limit is None:
            return {(row, Knob.QUOTA): owners_value(self.situation, row, Knob.QUOTA) for row in self._rows}
        used_cores = self.situation.profile.cpu_used_cores
        rows = [row for row in self._rows if self._may_write(row, Knob.QUOTA) and period_us(self.situation, row)]
        others_cores = sum(float(used_cores[row]) for row in self._rows if row not in rows)
        room = max(limit - others_cores, floor_cores(self._cpus, self._config))
        weights = [self._weight(row) for row in rows]
        used = [float(used_cores[row]) for row in rows]
        now = [self._quota_now_cores(row) for row in rows]
        given = shares(room, weights, used, now, self._config.min_cores) if rows else []
        return {(row, Knob.QUOTA): self._quota(row, cores) for row, cores in zip(rows, given, strict=True)}

    def _weight(self, row: int) -> int:
        weight = owners_value(self.situation, row, Knob.WEIGHT)
        return weight if isinstance(weight, int) else _WEIGHT_DEFAULT

    def _quota_now_cores(self, row: int) -> float:
        now, period = value_now(self.situation, row, Knob.QUOTA, self._memory), period_us(self.situation, row)
        return now / period if isinstance(now, int) and period else math.inf

    def _quota(self, row: int, cores: float) -> KnobValue | Unknown:
        owners = owners_value(self.situation, row, Knob.QUOTA)
        now = value_now(self.situation, row, Knob.QUOTA, self._memory)
        period = period_us(self.situation, row)
        if isinstance(owners, Unknown) or period is None:
            return UNKNOWN
        quota_us = max(round(cores * period), QUOTA_US_MIN)
        if isinstance(owners, int) and quota_us >= owners:
            return owners
        least_cores = dead_band_cores(self._cpus, len(self._rows), self._config)
        is_small = isinstance(now, int) and now != owners and abs(quota_us - now) / period < least_cores
        return now if is_small else quota_us

    def _cpusets(self, limit: float | None) -> Wanted:
        if limit is None:
            return {(row, Knob.CPUSET): owners_value(self.situation, row, Knob.CPUSET) for row in self._rows}
        others = self._others_cpus()
        return {(row, Knob.CPUSET): self._cpuset(row, int(limit), others) for row in self._rows}

    def _cpuset(self, row: int, count: int, others: frozenset[int]) -> KnobValue | Unknown:
        situation = self.situation
        owners = owners_value(situation, row, Knob.CPUSET)
        known = situation.cpusets.get(self._tree.groups[row].id, situation.topology.cpus)
        allowed = frozenset(owners if isinstance(owners, tuple) and owners else known)
        cpus = cpus_for_be(count, allowed, others, situation.topology)
        if cpus is None or len(cpus) < min(self._config.min_cpus, len(allowed)):
            return UNKNOWN
        return owners if frozenset(cpus) == allowed else cpus

    def _others_cpus(self) -> frozenset[int]:
        """CPUs that batch work gets none of: reserved, or of an LSE group that has CPUs of its own."""
        cpus = set(self._config.reserved_cpus)
        for group in self._lse:
            own = set(self.situation.cpusets[group.id])
            cpus |= own if own < set(self.situation.topology.cpus) else set()
        return frozenset(cpus)

    def _priorities(self, *, is_in_use: bool) -> Wanted:
        """cpu.idle, or where a group has none the lowest weight; not both: to an idle group a weight is nothing."""
        wanted: Wanted = {}
        for row in self._rows:
            if not is_in_use:
                wanted |= {(row, knob): owners_value(self.situation, row, knob) for knob in KNOBS["idle"]}
            elif not self._may_write(row, Knob.IDLE) or self._is_by_weight(row):
                wanted[row, Knob.WEIGHT] = _WEIGHT_MIN
            else:
                wanted[row, Knob.IDLE] = 1
        return wanted

    def _is_by_weight(self, row: int) -> bool:
        now, owners = (
            value_now(self.situation, row, Knob.WEIGHT, self._memory),
            owners_value(self.situation, row, Knob.WEIGHT),
        )
        return now == _WEIGHT_MIN != owners

    def _switches(self, knob: Knob, value: int) -> Wanted:
        return {(row, knob): value or owners_value(self.situation, row, knob) for row in self._rows}

    def _can(self, row: int, rung: Rung) -> bool:
        if rung == "cpuset" and self.pinned_unknown:
            return False
        return any(self._may_write(row, knob) for knob in KNOBS[rung])

    def _may_write(self, row: int, knob: Knob) -> bool:
        key = self._tree.groups[row].id, knob
        return self._memory.may_try(key, self.situation.now_ns) and not is_left_alone(self.situation, row)
