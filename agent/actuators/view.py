"""Reads the groups that a plan may concern: those of its goals, and on v1 those above and below them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from agent.actuators.cgroup import Gone, Group, Hierarchies, Unsupported
from agent.actuators.constraints import Key, View
from agent.actuators.knobs import WEIGHT_DEFAULT
from agent.control import Knob, KnobValue

_BOUND_TO = {
    Knob.QUOTA: (Knob.QUOTA, Knob.BURST),
    Knob.BURST: (Knob.QUOTA, Knob.BURST),
    Knob.WEIGHT: (Knob.IDLE, Knob.WEIGHT),
    Knob.IDLE: (Knob.IDLE, Knob.WEIGHT),
    Knob.CPUSET: (Knob.CPUSET,),
    Knob.FREEZE: (Knob.FREEZE,),
}


def look(
    groups: dict[int, Group],
    hierarchies: Hierarchies,
    goals: Mapping[Key, KnobValue],
    base: Mapping[Key, KnobValue],
    companions: Iterable[Key],
) -> View:
    """The view for a plan. `groups`: the open ones, with those of the goals and companions; more are added."""
    reader = _Reader(groups, hierarchies)
    tops = tuple(groups[group_id].path for group_id, _ in goals)
    near = [key for key in companions if not tops or _is_within(groups[key[0]].path, tops)]
    for group_id, knob in (*goals, *near):
        reader.add(groups[group_id], knob)
        if knob in reader.strict:
            reader.add_above(groups[group_id], knob)
    for (group_id, knob), value in goals.items():
        if knob is Knob.QUOTA and knob in reader.strict and _tightens(value, reader.current.get((group_id, knob))):
            reader.add_below(groups[group_id])
    return View(
        current=reader.current,
        base=base,
        companions=frozenset(near),
        depth=reader.depth,
        parent=reader.parent,
        period_us=reader.period_us,
        strict=reader.strict,
    )


class _Reader:
    def __init__(self, groups: dict[int, Group], hierarchies: Hierarchies) -> None:
        self._groups, self._hierarchies = groups, hierarchies
        places = ((Knob.QUOTA, hierarchies.cpu), (Knob.CPUSET, hierarchies.cpuset))
        self.strict = frozenset(knob for knob, place in places if place and place.version == 1)
        self.current: dict[Key, KnobValue] = {}
        self.depth: dict[int, int] = {}
        self.parent: dict[int, int] = {}
        self.period_us: dict[int, int] = {}

    def add(self, group: Group, knob: Knob) -> None:
        """The knob, and what it is bound to in the same group."""
        for bound in _BOUND_TO[knob]:
            self._read(group, bound)
        if self.current.get((group.id, Knob.IDLE)) == 1 and (group.id, Knob.WEIGHT) in self.current:
            self.current[group.id, Knob.WEIGHT] = WEIGHT_DEFAULT

    def add_above(self, group: Group, knob: Knob) -> None:
        """The knob of every group above but the root, which has all there is."""
        for path in _paths_above(group.path):
            try:
                above = self._kept(Group(self._hierarchies, path))
            except (Gone, OSError):
                return
            self._read(above, knob)
            self.parent[group.id] = above.id
            group = above

    def add_below(self, group: Group) -> None:
        """Every group below, for its quota. One on v1 whose CPUs are narrowed has none (Group.narrows_newcomers)."""
        for child in group.children():
            below = self._kept(child)
            self.parent[below.id] = group.id
            self._read(below, Knob.QUOTA)
            if self.current.get((below.id, Knob.QUOTA)) is not None:
                self._read(below, Knob.BURST)
            self.add_below(below)

    def _read(self, group: Group, knob: Knob) -> None:
        """What cannot be read is left out."""
        key = group.id, knob
        if key in self.current:
            return
        self.depth[group.id] = 0 if group.path == "/" else group.path.count("/")
        with contextlib.suppress(Unsupported, Gone, OSError, ValueError):
            value = group.file_of(knob).parse(group.read(knob))
            if knob is Knob.QUOTA and knob in self.strict:
                self.period_us[group.id] = group.period_us()
            self.current[key] = value  # last: a group may go between two reads, and a quota without its period is none

    def _kept(self, group: Group) -> Group:
        """This one, or that which is open already."""
        known = self._groups.setdefault(group.id, group)
        if known is not group:
            group.close()
        return known


def _paths_above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _is_within(path: str, tops: tuple[str, ...]) -> bool:
    return any(path == top or path.startswith(top.rstrip("/") + "/") for top in tops)


def _tightens(new: KnobValue, old: KnobValue) -> bool:
    """For one child or another it may be too little."""
    assert not isinstance(new, tuple)
    assert not isinstance(old, tuple)
    return new is not None and (old is None or new < old)
