"""Which threads lie in which group of resctrl, and moves those that do not lie where their cgroup's belong.

Threads are taken from the default group alone, and go back to it when they leave the cgroups of their partition. Who is
in a group of somebody else, or in a group of counters, stays there. Children are born where their parents are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from agent.actuators.partition import Member
from rdt.errors import Gone
from rdt.group import Group, Tree
from rdt.layout import DEFAULT

PASSES_MAX = 5
"""What is born meanwhile, of parents that were not moved yet, is found by the next call."""
SCAN_EVERY = 10
"""Calls; then cgroups are looked through although nobody is new: somebody may have gone from one to another."""

Where = Mapping[str, frozenset[int]]
"""Name of a group -> threads that may be moved out of it."""


@dataclass(frozen=True, slots=True)
class Moves:
    """Threads that were put elsewhere: counts."""

    taken: int = 0
    """Into a partition."""
    returned: int = 0
    """To the default group: they have left the cgroups of the partition."""


class Mover:
    """Remembers who was where."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._members: tuple[Member, ...] = ()
        self._names: Mapping[int, str] = {}
        self._seen: Where = {}
        self._calls = 0
        self._had_new = True
        self._strays: frozenset[int] = frozenset()
        """In a partition, but in none of its cgroups: at the next call they go, if it is still so."""

    def follow(self, members: tuple[Member, ...], names: Mapping[int, str]) -> Moves:
        """`names`: of the groups of partitions. Where nobody is new, a read per group is all. RdtError.

        Who is new is looked for at two calls, and who has left is returned at the second: the kernel lists a child in
        resctrl before it does in its cgroup, and what is started in a container is put there after its birth.
        """
        is_same = members == self._members and names == self._names
        self._members, self._names = members, dict(names)
        self._calls += 1
        if not names:
            self._seen = {}
            return Moves()
        now = self._where()
        had_new, self._had_new = self._had_new, _has_new(now, self._seen)
        if is_same and self._calls % SCAN_EVERY and not (had_new or self._had_new or self._strays):
            return Moves()
        strays = self._strays
        if self._misplaced(now, strays):
            return self._move(strays)
        self._seen = now
        return Moves()

    def _move(self, strays: frozenset[int]) -> Moves:
        """Under the lock of the tree, by which others do the same."""
        taken = returned = 0
        with self._tree.locked():
            for _ in range(PASSES_MAX):
                self._seen = self._where()
                misplaced = self._misplaced(self._seen, strays)
                if not misplaced:
                    break
                for name, threads in misplaced.items():
                    moved = self._tree.group(name).move(threads).moved
                    taken, returned = (taken, returned + moved) if name == DEFAULT else (taken + moved, returned)
        return Moves(taken, returned)

    def _where(self) -> Where:
        return {name: _movable(self._tree.group(name)) for name in (DEFAULT, *self._names.values())}

    def _misplaced(self, where: Where, strays: frozenset[int]) -> dict[str, list[int]]:
        """Name of a group -> threads to be moved there; to the default group only who was a stray before."""
        belongs = self._belongs()
        found: dict[str, list[int]] = {}
        for name, threads in where.items():
            for thread in threads:
                to = belongs.get(thread, DEFAULT)
                if to != name:
                    found.setdefault(to, []).append(thread)
        self._strays = frozenset(found.pop(DEFAULT, ()))
        if gone := strays & self._strays:
            found[DEFAULT] = list(gone)
        return found

    def _belongs(self) -> dict[int, str]:
        """Thread -> name of its group."""
        others = {os.fspath(member.folder) for member in self._members}
        return {
            thread: self._names[place]
            for member in self._members
            if (place := member.place(self._names)) is not None
            for thread in _threads(os.fspath(member.folder), others)
        }


def _has_new(now: Where, before: Where) -> bool:
    return any(threads - before.get(name, frozenset()) for name, threads in now.items())


def _movable(group: Group) -> frozenset[int]:
    """Without those of its groups of counters, which its own file has, too; they are read later, and so are right."""
    threads = group.tasks()
    for each in group.monitoring():
        with contextlib.suppress(Gone):
            threads -= each.tasks()
    return frozenset(threads)


def _threads(folder: str, others: Iterable[str]) -> Iterator[int]:
    """Of a cgroup and of those below it that are not `others`. One that was removed has none."""
    yield from _listed(folder)
    try:
        if os.stat(folder).st_nlink == 2:  # kernfs counts the folders in it
            return
        below = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for path in below:
        if path not in others:
            yield from _threads(path, others)


def _listed(folder: str) -> list[int]:
    for name in ("cgroup.threads", "tasks"):  # v2, v1
        try:
            with open(f"{folder}/{name}", "rb") as file:
                return [int(word) for word in file.read().split()]
        except OSError:
            continue
    return []
