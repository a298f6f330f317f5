"""Which groups lie in which partition of the caches. Pure; made anew when the groups change.

A group lies in the partition of the topmost group that a [[partition]] matches, else in that of its class: what lies in
a BE group is batch work, of whatever class by name. A group whose class has no partition lies where the group above it
does, at last in none: the default group of resctrl. So does, in that of its class, a workload whose partition cannot be
made.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.config import Config
from agent.config_cache import PartitionConfig, all_partitions
from agent.control import partition_id
from agent.decisions.tree import Tree
from agent.discovery.rules import glob_regex
from agent.records import Qos


@dataclass(frozen=True, slots=True)
class Part:
    """A partition as the configuration has it."""

    id: int
    """See agent.control.partition_id."""
    name: str
    """The class, or the path of the group that has it alone."""
    config: PartitionConfig

    @property
    def title(self) -> str:
        """For people."""
        return f"partition {self.name}" if self.config.qos else self.name


@dataclass(frozen=True, slots=True)
class Member:
    """A group that lies in another partition than the group above it, with all below it that are no members."""

    row: int
    partition_id: int
    otherwise: int | None
    """The partition of its class: while there is none of its own."""


class Partitions:
    """Of one configuration."""

    def __init__(self, config: Config) -> None:
        given = all_partitions(config.cache, config.partitions)
        self.of_classes = tuple(Part(partition_id(Qos(each.qos)), each.qos, each) for each in given if each.qos)
        """They are there whether or not there are such groups."""
        self._of_groups = [(each, [glob_regex(glob).fullmatch for glob in each.globs]) for each in given if each.globs]
        self._ids = {Qos(part.config.qos): part.id for part in self.of_classes}

    def of(self, tree: Tree) -> tuple[tuple[Part, ...], tuple[Member, ...]]:
        """All partitions, and who lies in them."""
        own: dict[int, Part] = {}
        place: dict[int, int | None] = {-1: None}
        members: list[Member] = []
        for row in sorted(range(len(tree.groups)), key=lambda row: tree.groups[row].path.count("/")):
            group, above = tree.groups[row], place[tree.parent[row]]
            if group.path == "/":
                place[row] = None
                continue
            if above in own:
                place[row] = above
                continue
            here = of_class = self._ids.get(Qos.BE if tree.is_be[row] else _sensitive(group.qos), above)
            if config := self._match(group.path):
                own[group.id] = Part(group.id, group.path, config)
                here = group.id
            place[row] = here
            if here is not None and here != above:
                members.append(Member(row, here, of_class))
        return (*self.of_classes, *own.values()), tuple(members)

    def _match(self, path: str) -> PartitionConfig | None:
        return next((config for config, globs in self._of_groups if any(glob(path) for glob in globs)), None)


def _sensitive(qos: Qos) -> Qos:
    """A BE group that holds services is none of batch work's: only what lies in it is."""
    return Qos.SYSTEM if qos is Qos.BE else qos
