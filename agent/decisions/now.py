"""What a knob is set to now, and what its owner set. Pure.

What the agent has written the executor knows (Situation.knobs); an untouched knob is as its owner set it. In a dry run
nothing is written: then it counts what would have been (`Memory.said`, from the outcomes).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from agent.control import Knob, KnobValue, Outcome, Result, Situation
from agent.units import NS_PER_US

QUOTA_US_MIN = 1_000
"""The kernel's least. Source: min_cfs_quota_period, kernel/sched/core.c."""


class Unknown(Enum):
    """Its only member stands for a value that nobody knows; None is the value "no limit"."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN
Key = tuple[int, Knob]

DONE = frozenset({Result.APPLIED, Result.UNCHANGED, Result.DRY_RUN})
NEVER_NS = 1 << 63
_NEUTRAL: Mapping[Knob, KnobValue] = {Knob.WEIGHT: 100, Knob.IDLE: 0, Knob.CPUSET: (), Knob.FREEZE: 0}
"""What a group has whose owner never cared."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a controller remembers of its writes."""

    said: Mapping[Key, KnobValue] = field(default_factory=dict)
    retry_ns: Mapping[Key, int] = field(default_factory=dict)
    """Knobs that were refused, and when they may be tried again; one that the host does not have: never."""

    def learned(self, outcomes: Iterable[Outcome], now_ns: int, retry_ns: int) -> Memory:
        """After `outcomes`; what was refused is not tried for `retry_ns`."""
        said, retry = dict(self.said), dict(self.retry_ns)
        for outcome in outcomes:
            key = outcome.intent.group_id, outcome.intent.knob
            if outcome.result in DONE:
                said[key] = outcome.intent.value
            elif outcome.result is Result.REFUSED:
                retry[key] = now_ns + retry_ns
            elif outcome.result is Result.UNSUPPORTED:
                retry[key] = NEVER_NS
        return Memory(said, retry)

    def may_try(self, key: Key, now_ns: int) -> bool:
        return self.retry_ns.get(key, now_ns) <= now_ns

    def without_gone(self, alive: Mapping[int, int]) -> Memory:
        """`alive` has the ids of the groups that are there."""
        if all(key[0] in alive for key in (*self.said, *self.retry_ns)):
            return self
        said = {key: value for key, value in self.said.items() if key[0] in alive}
        return Memory(said, {key: at_ns for key, at_ns in self.retry_ns.items() if key[0] in alive})


def owners_value(situation: Situation, row: int, knob: Knob) -> KnobValue | Unknown:
    """What the owner of the group in `row` set."""
    if state := situation.knobs.get((situation.tick.groups[row].id, knob)):
        return state.base
    if knob not in (Knob.QUOTA, Knob.BURST):
        return _NEUTRAL[knob]
    cgroup = situation.tick.cgroup
    value_ns = float((cgroup.quota_ns if knob is Knob.QUOTA else cgroup.burst_ns)[row])
    if math.isnan(value_ns):
        return UNKNOWN
    return None if math.isinf(value_ns) else int(value_ns / NS_PER_US)


def value_now(situation: Situation, row: int, knob: Knob, memory: Memory) -> KnobValue | Unknown:
    """What it is set to."""
    key = situation.tick.groups[row].id, knob
    if state := situation.knobs.get(key):
        return state.current
    return memory.said[key] if key in memory.said else owners_value(situation, row, knob)


def is_left_alone(situation: Situation, row: int) -> bool:
    """The group's owner wrote some knob of it too often."""
    group_id = situation.tick.groups[row].id
    states = (situation.knobs.get((group_id, knob)) for knob in Knob)
    return any(state is not None and state.is_foreign for state in states)


def period_us(situation: Situation, row: int) -> int | None:
    period_ns = float(situation.tick.cgroup.period_ns[row])
    return int(period_ns / NS_PER_US) if period_ns > 0 else None


@dataclass(frozen=True, slots=True)
class Quota:
    """Of a group whose owner gave it one, in us of CPU time per period."""

    base_us: int
    now_us: int
    period_us: int

    @property
    def base_cores(self) -> float:
        return self.base_us / self.period_us

    @property
    def now_cores(self) -> float:
        return self.now_us / self.period_us


def quota_now(situation: Situation, row: int, memory: Memory) -> Quota | None:
    """None: its owner gave it none, or it is not known."""
    base, now = (
        owners_value(situation, row, Knob.QUOTA),
        value_now(situation, row, Knob.QUOTA, memory),
    )
    period = period_us(situation, row)
    if not isinstance(base, int) or not isinstance(now, int) or period is None:
        return None
    return Quota(base, now, period)
