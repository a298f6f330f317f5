"""Samples of the caches -> rates over the last tick. Pure.

A sum over caches is known when each of them is: a cache that came, went, or began to count anew makes it unknown for a
tick, since the rest alone would be too little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from agent.records import CacheProfile, CacheSample, PartitionProfile, PartitionSample
from agent.units import NS_PER_S
from rdt.monitor import growth

_NO_CACHES = PartitionSample({}, {}, {})


class CacheProfiler:
    """Remembers the sample before."""

    def __init__(self) -> None:
        self._before: CacheSample | None = None

    def update(self, sample: CacheSample) -> CacheProfile:
        before, self._before = self._before, sample
        interval_s = (sample.time_ns - before.time_ns) / NS_PER_S if before else math.nan
        partitions = before.partitions if before else {}
        rest = before.rest if before else None
        return CacheProfile(
            sample=sample,
            partitions={
                id: _partition(now, partitions.get(id, _NO_CACHES), interval_s) for id, now in sample.partitions.items()
            },
            rest=_partition(sample.rest, rest or _NO_CACHES, interval_s) if sample.rest else None,
        )


def _partition(now: PartitionSample, before: PartitionSample, interval_s: float) -> PartitionProfile:
    caches = now.llc_bytes.keys() | now.total_bytes.keys() | now.local_bytes.keys()
    is_whole = bool(caches) and now.llc_bytes.keys() == caches
    return PartitionProfile(
        sample=now,
        llc_bytes=float(sum(now.llc_bytes.values())) if is_whole else math.nan,
        total_bytes_per_s=_rate(now.total_bytes, before.total_bytes, interval_s),
        local_bytes_per_s=_rate(now.local_bytes, before.local_bytes, interval_s),
    )


def _rate(now: Mapping[int, int], before: Mapping[int, int], interval_s: float) -> float:
    """Per s, over all caches; NaN: not known."""
    if not now or now.keys() != before.keys() or not interval_s > 0:
        return math.nan
    grown = [growth(before[domain], value) for domain, value in now.items()]
    known = [each for each in grown if each is not None]
    return sum(known) / interval_s if len(known) == len(grown) else math.nan
