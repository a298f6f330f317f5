"""Which writes, in which order, bring knobs where they are to be, so that the kernel refuses none on the way. Pure.

The kernel's rules (tg_set_cfs_bandwidth, tg_cfs_schedulable_down, sched_group_set_shares in kernel/sched/;
validate_change in kernel/cgroup/cpuset-v1.c):

    burst <= quota, and both together below 2^44 us; a quota is at least 1000 us
    v1: quota/period of a group is at most that of the next group above it that has a quota
    v1: the CPUs of a group are a part of its parent's
    a weight cannot be written while idle = 1; idle = 1 and idle = 0 both overwrite it

A goal that breaks one is refused here, in words. What is in the way of a goal and is nobody's goal gives way as a
companion: a burst above a lowered quota, on v1 children above a lowered parent. Companions are held like goals, and go
back to what they were as soon, and as far, as the rules let them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agent.actuators.knobs import QUOTA_US_MAX, QUOTA_US_MIN, allowed
from agent.control import Knob, KnobValue

Key = tuple[int, Knob]


@dataclass(frozen=True, slots=True)
class View:
    """The groups that a plan may concern, as they are now. A knob that is not in `current` is left out of account."""

    current: Mapping[Key, KnobValue]
    """Of a group that is idle the weight is the default: what it will have when it is idle no more."""
    base: Mapping[Key, KnobValue] = field(default_factory=dict)
    """What owners set, of the knobs that we hold."""
    companions: frozenset[Key] = frozenset()
    """Those of them that only gave way."""
    depth: Mapping[int, int] = field(default_factory=dict)
    parent: Mapping[int, int] = field(default_factory=dict)
    """Group -> the group above it, where that is in the view."""
    period_us: Mapping[int, int] = field(default_factory=dict)
    strict: frozenset[Knob] = frozenset()
    """Of QUOTA and CPUSET those of which a child may not have more than its parent: the ones on v1."""


@dataclass(frozen=True, slots=True)
class Write:
    group_id: int
    knob: Knob
    value: KnobValue


@dataclass(frozen=True, slots=True)
class Plan:
    """`writes` in this order; where a knob is written twice, the last counts. `refused`: goals, and why."""

    writes: tuple[Write, ...]
    refused: Mapping[Key, str]


def plan(goals: Mapping[Key, KnobValue], view: View) -> Plan:
    """How to reach `goals`. What is a goal already needs no write."""
    final, refused = _resolved(goals, view)
    return Plan(tuple(ordered(final, view)), refused)


def _resolved(goals: Mapping[Key, KnobValue], view: View) -> tuple[dict[Key, KnobValue], dict[Key, str]]:
    """What every knob is to be in the end, and the goals that cannot be. From the top down, quota before burst."""
    refused = {key: why for key, value in goals.items() if (why := _never(key, value, view))}
    final = {**view.current, **_released(view)}
    final.update((key, value) for key, value in goals.items() if key not in refused)
    for key in goals.keys() - refused.keys():
        if why := _below_floor(key, final, view):
            refused[key] = why
            final[key] = _released(view).get(key, view.current[key])
    groups = sorted({group_id for group_id, _ in final}, key=lambda group_id: view.depth.get(group_id, 0))
    for group_id in groups:
        for knob, law in _LAWS:
            key = group_id, knob
            if key not in final:
                continue
            value, why = law(group_id, final, view)
            if not why:
                continue
            if key not in goals or key in refused:
                final[key] = value
                continue
            refused[key] = f"{_shown(final[key])} {why}"
            final[key] = _released(view).get(key, view.current[key])
            final[key], _ = law(group_id, final, view)
    return final, refused


def _released(view: View) -> dict[Key, KnobValue]:
    """Companions as they were, if nothing were in the way."""
    return {key: view.base[key] for key in view.companions if key in view.current}


def _never(key: Key, value: KnobValue, view: View) -> str | None:
    """Why this goal is refused whatever the others are."""
    if key not in view.current:
        return "the knob cannot be read"
    if ranges := allowed(key[1], value):
        return f"{_shown(value)} is not {ranges}"
    base = view.base.get(key, view.current[key])
    if key[1] is Knob.QUOTA and value is None and base is not None:
        return f"its owner set a quota of {base} us, which is raised but never taken away"
    if key[1] is Knob.CPUSET and value == () and base != ():
        return "a set of CPUs is never emptied"
    return None


def _below_floor(key: Key, final: Mapping[Key, KnobValue], view: View) -> str | None:
    """A quota on v1 that would have to take a child's below the kernel's minimum with it."""
    group_id, quota_us = key[0], final[key]
    if key[1] is not Knob.QUOTA or Knob.QUOTA not in view.strict or not isinstance(quota_us, int):
        return None
    for (child, knob), child_us in final.items():
        if knob is not Knob.QUOTA or child_us is None or group_id not in _ancestors(child, view):
            continue
        if quota_us * view.period_us[child] // view.period_us[group_id] < QUOTA_US_MIN:
            return f"{quota_us} us would leave a group below less than {QUOTA_US_MIN} us"
    return None


def _quota(group_id: int, final: Mapping[Key, KnobValue], view: View) -> tuple[KnobValue, str]:
    quota_us = final[group_id, Knob.QUOTA]
    if Knob.QUOTA not in view.strict or not isinstance(quota_us, int):
        return quota_us, ""
    for above in _ancestors(group_id, view):
        above_us = final.get((above, Knob.QUOTA))
        if isinstance(above_us, int):
            limit_us = above_us * view.period_us[group_id] // view.period_us[above]
            if quota_us > limit_us:
                return limit_us, f"us is more than the {limit_us} us that a group above it leaves"
            break
    return quota_us, ""


def _burst(group_id: int, final: Mapping[Key, KnobValue], view: View) -> tuple[KnobValue, str]:
    burst_us, quota_us = final[group_id, Knob.BURST], final.get((group_id, Knob.QUOTA))
    if not isinstance(burst_us, int) or not isinstance(quota_us, int):
        return burst_us, ""
    limit_us = min(quota_us, QUOTA_US_MAX - quota_us)
    if burst_us > limit_us:
        return limit_us, f"us of burst is more than a quota of {quota_us} us allows"
    return burst_us, ""


def _weight(group_id: int, final: Mapping[Key, KnobValue], view: View) -> tuple[KnobValue, str]:
    """While idle, the weight is the kernel's; nothing is to be written."""
    key = group_id, Knob.WEIGHT
    if final.get((group_id, Knob.IDLE)) == 1:
        return view.current[key], "cannot be written while the group is idle"
    return final[key], ""


def _cpuset(group_id: int, final: Mapping[Key, KnobValue], view: View) -> tuple[KnobValue, str]:
    cpus = final[group_id, Knob.CPUSET]
    above = final.get((view.parent.get(group_id, 0), Knob.CPUSET))
    if Knob.CPUSET not in view.strict or not isinstance(cpus, tuple) or not isinstance(above, tuple):
        return cpus, ""
    if set(cpus) <= set(above):
        return cpus, ""
    return tuple(sorted(set(cpus) & set(above))) or above, f"has CPUs that its parent's {_shown(above)} has not"


# What this knob of this group can be at most, with everything above it final, and which rule it breaks ("": none).
_LAWS = ((Knob.QUOTA, _quota), (Knob.BURST, _burst), (Knob.WEIGHT, _weight), (Knob.CPUSET, _cpuset))


def ordered(final: Mapping[Key, KnobValue], view: View) -> Iterator[Write]:
    """The writes that lead from `view.current` to `final`, which keeps the rules: loosen from the top down, tighten
    from the bottom up, and whatever must not exceed something else first down and last up.
    """
    changes = {key: value for key, value in final.items() if value != view.current[key]}
    yield from _of(changes, Knob.FREEZE, view)
    yield from _of(changes, Knob.IDLE, view)
    yield from _of(changes, Knob.WEIGHT, view)
    yield from _of(_where(changes, Knob.BURST, view, up=False), Knob.BURST, view)
    yield from _of(_where(changes, Knob.QUOTA, view, up=True), Knob.QUOTA, view)
    yield from _of(_where(changes, Knob.QUOTA, view, up=False), Knob.QUOTA, view, bottom_up=True)
    yield from _of(_where(changes, Knob.BURST, view, up=True), Knob.BURST, view)
    yield from _cpusets(changes, view)


def _cpusets(changes: Mapping[Key, KnobValue], view: View) -> Iterator[Write]:
    """Old and new together from the top down, then the new from the bottom up: at no moment is a set empty.

    () is every CPU on v2 (the parent's) and none on v1, so that it is never a step in between.
    """
    strict = Knob.CPUSET in view.strict
    both: dict[Key, KnobValue] = {}
    for (group_id, knob), new in changes.items():
        if knob is not Knob.CPUSET:
            continue
        old = view.current[group_id, knob]
        assert isinstance(new, tuple)
        assert isinstance(old, tuple)
        union = tuple(sorted({*old, *new})) if strict or (old and new) else ()
        if union != old:
            both[group_id, knob] = union
    yield from _of(both, Knob.CPUSET, view)
    narrowed = {key: new for key, new in changes.items() if both.get(key, view.current[key]) != new}
    yield from _of(narrowed, Knob.CPUSET, view, bottom_up=True)


def _where(changes: Mapping[Key, KnobValue], knob: Knob, view: View, *, up: bool) -> dict[Key, KnobValue]:
    return {
        key: value
        for key, value in changes.items()
        if key[1] is knob and (_amount(value) > _amount(view.current[key])) == up
    }


def _of(writes: Mapping[Key, KnobValue], knob: Knob, view: View, *, bottom_up: bool = False) -> Iterator[Write]:
    """Those of one knob, from the top down or from the bottom up."""
    keys: Iterable[Key] = (key for key in writes if key[1] is knob)
    for key in sorted(keys, key=lambda key: view.depth.get(key[0], 0), reverse=bottom_up):
        yield Write(*key, writes[key])


def _amount(value: KnobValue) -> float:
    assert not isinstance(value, tuple)
    return float("inf") if value is None else value


def _ancestors(group_id: int, view: View) -> Iterator[int]:
    while (above := view.parent.get(group_id)) is not None:
        yield above
        group_id = above


def _shown(value: KnobValue) -> str:
    if isinstance(value, tuple):
        return f"{{{','.join(map(str, value))}}}"
    return "no limit" if value is None else str(value)
