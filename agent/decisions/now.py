"""What a knob is set to now, and what its owner set. Pure.

What the agent has written the executor knows (Situation.knobs). A knob that is not there is as its owner set it: as a
write since the tick has found or left it (`Memory.seen`), else as it was read (Situation.owners, and quota and burst of
the tick). In a dry run nothing is written: then it counts what would have been (`Memory.said`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from agent.control import CACHE_KNOBS, CGROUP_KNOBS, DEVICE_KNOBS, Knob, KnobValue, Outcome, Result, Situation
from agent.units import NS_PER_US

QUOTA_US_MIN = 1_000
"""The kernel's least. Source: min_cfs_quota_period, kernel/sched/core.c."""


class Unknown(Enum):
    """Its only member stands for a value that nobody knows; None is the value "no limit"."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN
Key = tuple[int, Knob]

DONE = frozenset({Result.APPLIED, Result.UNCHANGED, Result.DRY_RUN})
_READ_BACK = frozenset({Result.APPLIED, Result.UNCHANGED, Result.FOREIGN})
NEVER_NS = 1 << 63


@dataclass(frozen=True, slots=True)
class Memory:
    """What a controller remembers of its writes."""

    said: Mapping[Key, KnobValue] = field(default_factory=dict)
    """What would have been written in a dry run."""
    seen: Mapping[Key, tuple[int, KnobValue]] = field(default_factory=dict)
    """When a write was tried, and what was there afterwards."""
    retry_ns: Mapping[Key, int] = field(default_factory=dict)
    """Knobs that were refused, and when they may be tried again; one that the host does not have: never."""

    def learned(self, outcomes: Iterable[Outcome], now_ns: int, retry_ns: int) -> Memory:
        """After `outcomes`; what was refused is not tried for `retry_ns`."""
        said, seen, retry = dict(self.said), dict(self.seen), dict(self.retry_ns)
        for outcome in outcomes:
            key = outcome.intent.group_id, outcome.intent.knob
            if outcome.result is Result.DRY_RUN:
                said[key] = outcome.intent.value
            elif outcome.result in _READ_BACK:
                seen[key] = now_ns, outcome.after
            elif outcome.result is Result.REFUSED:
                retry[key] = now_ns + retry_ns
            elif outcome.result is Result.UNSUPPORTED:
                retry[key] = NEVER_NS
        return Memory(said, seen, retry)

    def may_try(self, key: Key, now_ns: int) -> bool:
        return self.retry_ns.get(key, now_ns) <= now_ns

    def without_gone(self, alive: Mapping[int, int]) -> Memory:
        """`alive` has the ids of the groups that are there."""
        if all(key[0] in alive for key in (*self.said, *self.seen, *self.retry_ns)):
            return self
        return Memory(
            {key: value for key, value in self.said.items() if key[0] in alive},
            {key: value for key, value in self.seen.items() if key[0] in alive},
            {key: at_ns for key, at_ns in self.retry_ns.items() if key[0] in alive},
        )


def owners_value(situation: Situation, row: int, knob: Knob) -> KnobValue | Unknown:
    """What the owner of the group in `row` set."""
    key = situation.tick.groups[row].id, knob
    if state := situation.knobs.get(key):
        return state.base
    if knob is Knob.CPUSET:
        return ()  # as if its owner never cared: what it may use is in Situation.cpusets
    if knob not in (Knob.QUOTA, Knob.BURST):
        return situation.owners.get(key, UNKNOWN) if knob in CGROUP_KNOBS else None
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
    if key in memory.said:
        return memory.said[key]
    if (seen := memory.seen.get(key)) and seen[0] >= situation.tick.time_ns:
        return seen[1]
    return owners_value(situation, row, knob)


def is_left_alone(situation: Situation, row: int) -> bool:
    """The group's owner wrote some knob of it too often."""
    group_id = situation.tick.groups[row].id
    states = (situation.knobs.get((group_id, knob)) for knob in Knob if knob not in DEVICE_KNOBS | CACHE_KNOBS)
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
    key = situation.tick.groups[row].id, Knob.QUOTA
    now = value_now(situation, row, Knob.QUOTA, memory)
    is_ours = key in situation.knobs or key in memory.said
    base = owners_value(situation, row, Knob.QUOTA) if is_ours else now
    period = period_us(situation, row)
    if not isinstance(base, int) or not isinstance(now, int) or period is None:
        return None
    return Quota(base, now, period)
