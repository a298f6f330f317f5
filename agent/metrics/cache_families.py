"""The metric families of the caches; only with [cache]. Pure. What lies in no partition is in the partition (rest)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from agent.control import PartitionView
from agent.metrics.family import Family, Labels, Series, View, counter, gauge
from agent.records import PartitionSample

_MIB = 1 << 20


def _partitions(view: View) -> tuple[PartitionView, ...]:
    return view.control.partitions if view.control else ()


def _counters(pick: Callable[[PartitionSample], Mapping[int, int]]) -> Series:
    """By cache, as read."""

    def read(view: View) -> Iterator[tuple[Labels, float]]:
        for partition in _partitions(view):
            for cache, value in pick(partition.profile.sample).items() if partition.profile else ():
                yield (("partition", partition.name), ("cache", str(cache))), value

    return Series(read, ("partition", "cache"))


def _ways(view: View) -> Iterator[tuple[Labels, float]]:
    for partition in _partitions(view):
        for edge, pct in zip(("from", "to"), partition.ways_pct or (), strict=False):
            yield (("partition", partition.name), ("edge", edge)), pct / 100


def _bandwidth(*, mib_per_s: bool) -> Series:
    def read(view: View) -> Iterator[tuple[Labels, float]]:
        for partition in _partitions(view):
            if partition.bandwidth is not None and partition.is_mib_per_s == mib_per_s:
                yield (
                    (("partition", partition.name),),
                    partition.bandwidth * _MIB if mib_per_s else partition.bandwidth / 100,
                )

    return Series(read, ("partition",))


CACHE_FAMILIES: tuple[Family, ...] = (
    gauge(
        "cache_occupancy_bytes",
        "What a partition has in a last-level cache now.",
        _counters(lambda sample: sample.llc_bytes),
    ),
    counter(
        "cache_memory_bytes_total",
        "To and from memory by a cache, since the partition exists.",
        _counters(lambda sample: sample.total_bytes),
    ),
    counter(
        "cache_local_memory_bytes_total",
        "The same, of memory of the cache's own node.",
        _counters(lambda sample: sample.local_bytes),
    ),
    gauge(
        "cache_ways_ratio",
        "Where the ways of a partition begin and end, of all of the cache.",
        Series(_ways, ("partition", "edge")),
    ),
    gauge(
        "cache_bandwidth_limit_ratio",
        "Memory bandwidth that a partition may use, of all.",
        _bandwidth(mib_per_s=False),
    ),
    gauge(
        "cache_bandwidth_limit_bytes",
        "The same per second, where resctrl is mounted with mba_MBps.",
        _bandwidth(mib_per_s=True),
    ),
)
