"""How the groups of a tick lie in one another, and which of them are whose. Pure; made anew when the groups change."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from agent.records import Floats, Group, Qos, Tick

Rows = NDArray[np.intp]

SENSITIVE = frozenset({Qos.LSE, Qos.LSR, Qos.LS})


class Tree:
    """Of `groups`, by row. Never changes."""

    __slots__ = ("be_parents", "be_rows", "children", "groups", "is_be", "parent", "reserved_rows", "row", "tops")

    def __init__(self, groups: tuple[Group, ...]) -> None:
        self.groups = groups
        self.row = {group.id: row for row, group in enumerate(groups)}
        by_path = {group.path: row for row, group in enumerate(groups)}
        self.parent = [_parent(group.path, by_path) for group in groups]
        """The nearest group above that is there, not the root; -1: none."""
        self.children: dict[int, list[int]] = {}
        for row, parent in enumerate(self.parent):
            self.children.setdefault(parent, []).append(row)
        root = by_path.get("/")
        self.tops: Rows = np.array([row for row in self.children.get(-1, []) if row != root], np.intp)
        """Topmost groups below the root: together they hold all others."""
        self.be_parents = tuple(self._be_parents(-1, root))
        """Topmost BE groups that hold no latency-sensitive group: what is taken from them hits batch work alone."""
        self.is_be = np.zeros(len(groups), np.bool_)
        """In one of these."""
        for row in self.be_parents:
            self.is_be[[row, *self.below(row)]] = True
        self.be_rows: Rows = np.array(self.be_parents, np.intp)
        self.reserved_rows = self._topmost(frozenset({Qos.LSE, Qos.LSR}))
        """Topmost groups that have CPUs of their own."""

    def below(self, row: int) -> Iterator[int]:
        """All groups in this one."""
        for child in self.children.get(row, ()):
            yield child
            yield from self.below(child)

    def above(self, row: int) -> Iterator[int]:
        """The groups that this one is in, from the nearest."""
        while (row := self.parent[row]) >= 0:
            yield row

    def _topmost(self, wanted: frozenset[Qos]) -> Rows:
        """Groups of these classes that are in no other of them."""

        def of_class(row: int) -> bool:
            return self.groups[row].qos in wanted

        rows = [row for row in range(len(self.groups)) if of_class(row) and not any(map(of_class, self.above(row)))]
        return np.array(rows, np.intp)

    def alive(self, rows: Rows, tick: Tick) -> Rows:
        """Without those that were removed in this tick: nothing could be read of them."""
        gone: NDArray[np.bool_] = np.isnan(tick.cgroup.cpu_usage_ns[rows]) & np.isnan(tick.cgroup.quota_ns[rows])
        return rows[~gone] if gone.any() else rows

    def _be_parents(self, row: int, root: int | None) -> Iterator[int]:
        for child in self.children.get(row, ()):
            if child == root:
                continue
            holds_service = any(self.groups[below].qos in SENSITIVE for below in self.below(child))
            if self.groups[child].qos is Qos.BE and not holds_service:
                yield child
            else:
                yield from self._be_parents(child, root)


def tree_of(groups: tuple[Group, ...], last: Tree | None) -> Tree:
    """The tree of `groups`; most ticks have the groups of the tick before."""
    return last if last is not None and last.groups is groups else Tree(groups)


def total(values: Floats, rows: Rows) -> float:
    """Sum over these rows; NaN when one of them is not known."""
    return float(values[rows].sum())


def _parent(path: str, by_path: dict[str, int]) -> int:
    while path := path.rpartition("/")[0]:
        if path in by_path:
            return by_path[path]
    return -1
