"""What a partition is to have, and whose threads belong in it: what is told to actuators/cache.py. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rdt.layout import Range


@dataclass(frozen=True)
class Partition:
    """As it is configured. The knobs of an intent go before it, but what is exclusive is exclusive."""

    id: int
    """agent.control.partition_id of a class, or the cgroup id of a workload."""
    name: str
    """Of the class, or the cgroup's path: for printing, and the group of resctrl is named after it."""
    ways: Range
    """Of the last cache that can be divided: L3, else L2."""
    other_caches: Mapping[str, Range] = field(default_factory=dict)
    """Of caches before the last one, and of its halves with CDP: by L2, L3CODE, ... as rdt.layout.Class has them."""
    bandwidth: int | None = None
    """Percent; MiB/s where resctrl is mounted with mba_MBps; None: all of it."""


@dataclass(frozen=True)
class Member:
    """A cgroup whose threads belong in a partition, with those below it that are no members of their own."""

    group_id: int
    path: str
    partition_id: int
    folder: Path
    """Of a hierarchy in which all its threads are listed."""
    otherwise: int | None = None
    """The partition that they lie in while that one has no group; None: none."""

    def place(self, partitions: Container[int]) -> int | None:
        """The partition that they lie in, of these, which have groups; None: none of them."""
        return next((id for id in (self.partition_id, self.otherwise) if id in partitions), None)
