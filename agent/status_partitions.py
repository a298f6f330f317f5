"""Partitions of the caches in the status of the agent."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from agent.control import PartitionView
from agent.history.schema import stored


class PartitionStatus(msgspec.Struct, frozen=True):
    """Keys may be added, never renamed or removed. `bandwidth` in percent, or MiB/s. None: not set, or not known."""

    id: int | None
    """None: what lies in no partition."""
    name: str
    members: tuple[str, ...]
    ways_pct: tuple[int, int] | None
    bandwidth: int | None
    is_mib_per_s: bool
    llc_bytes: float | None
    total_bytes_per_s: float | None
    local_bytes_per_s: float | None


def partition_statuses(partitions: Iterable[PartitionView]) -> tuple[PartitionStatus, ...]:
    """As they are now."""
    return tuple(
        PartitionStatus(
            id=view.id,
            name=stored(view.name),
            members=tuple(map(stored, view.members)),
            ways_pct=view.ways_pct,
            bandwidth=view.bandwidth,
            is_mib_per_s=view.is_mib_per_s,
            llc_bytes=_known(view.profile.llc_bytes) if view.profile else None,
            total_bytes_per_s=_known(view.profile.total_bytes_per_s) if view.profile else None,
            local_bytes_per_s=_known(view.profile.local_bytes_per_s) if view.profile else None,
        )
        for view in partitions
    )


def partition_of(path: str, partitions: Iterable[PartitionStatus]) -> PartitionStatus | None:
    """The one that a group lies in; None: in none."""
    members = [(member, each) for each in partitions for member in each.members]
    around = [(member, each) for member, each in members if path == member or path.startswith(f"{member}/")]
    return max(around, key=lambda found: len(found[0]))[1] if around else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
