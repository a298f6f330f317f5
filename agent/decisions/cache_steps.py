"""How far a step goes: batch work's part of the cache or of memory bandwidth, in whole points. Pure.

    down    to low + (now - low) x down_ratio
    up      to now + up, at most high

A point is a per cent, or a MiB/s. A machine has few ways and coarse steps of bandwidth, so that a point may change
nothing: then a step goes on to the first one that does. Of all points that are the same to the machine the highest is
taken, which says best what it makes of it, or the bound. So every step is felt, and low and high are reached in as many
steps as the machine has between them, or less.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from agent.config_cache import CacheConfig
from agent.records import CacheOffer


@dataclass(frozen=True, slots=True)
class Scale:
    """low <= every value <= high. `effect`: what the machine makes of a value; it never falls where a value rises."""

    low: int
    high: int
    up_points: int
    down_ratio: float
    effect: Callable[[int], int]

    def down(self, now: int) -> int:
        """`now` at the low bound only."""
        target = self.low + int((now - self.low) * self.down_ratio)
        while target > self.low and self.effect(target) == self.effect(now):
            target -= 1
        return self.low if self.effect(target) == self.effect(self.low) else self._highest(target)

    def up(self, now: int) -> int:
        """`now` at the high bound only."""
        target = min(now + self.up_points, self.high)
        while target < self.high and self.effect(target) == self.effect(now):
            target += 1
        return self._highest(target)

    def _highest(self, value: int) -> int:
        """Of all points that are the same to the machine."""
        while value < self.high and self.effect(value + 1) == self.effect(value):
            value += 1
        return value


def ways_scale(config: CacheConfig, ways_pct: tuple[int, int], offer: CacheOffer) -> Scale | None:
    """Of where batch work's range ends; it begins at the same way always. None: no cache can be divided."""
    if offer.ways is None:
        return None
    ways, (begin, end) = offer.ways, ways_pct
    first, least = math.floor(ways * begin / 100), offer.ways_min
    return Scale(
        low=begin + config.be_ways_low_pct,
        high=end,
        up_points=config.up_pct,
        down_ratio=config.down_ratio,
        effect=lambda value: max(math.ceil(ways * value / 100) - first, least),
    )


def bandwidth_scale(config: CacheConfig, most: int | None, offer: CacheOffer) -> Scale | None:
    """In percent or MiB/s. None: batch work has no limit, or bandwidth cannot be divided, or not in this unit."""
    step = offer.bandwidth_step
    if step is None or most is None or offer.is_mib_per_s != config.mba_mbps:
        return None
    hundred = most if offer.is_mib_per_s else 100
    return Scale(
        low=min(max(1, hundred * config.be_bandwidth_low_pct // 100), most),
        high=most,
        up_points=max(1, hundred * config.up_pct // 100),
        down_ratio=config.down_ratio,
        effect=lambda value: math.ceil(max(value, offer.bandwidth_min) / step),
    )
