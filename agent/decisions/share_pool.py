"""How busy the CPUs are that LS groups share: whether there is room for a raised quota. Pure.

    r = (node used - used by LSE, LSR, BE) / (C - requests of LSE, LSR)       mean of share_pool_mean_s

What an LSE or LSR group requests is its quota; without one, what it used at most (p95 over the window).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from agent.config_laws import BurstConfig
from agent.decisions.tree import Tree, total
from agent.records import Profile, Tick
from agent.units import NS_PER_S


class Room(StrEnum):
    FREE = "free"
    NO_RISE = "no rise"
    OVERLOAD = "overload"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SharePool:
    """Use of the last seconds: (time_ns, ratio) of each tick, the newest last."""

    uses: tuple[tuple[int, float], ...] = ()

    def after(self, tick: Tick, profile: Profile, tree: Tree, config: BurstConfig) -> SharePool:
        """With this tick's use; one that is not known makes the mean unknown while it is in it."""
        since_ns = tick.time_ns - int(config.share_pool_mean_s * NS_PER_S)
        uses = (*self.uses, (tick.time_ns, share_pool_ratio(tick, profile, tree)))
        return SharePool(tuple(use for use in uses if use[0] > since_ns))

    @property
    def mean_ratio(self) -> float:
        """NaN: not known."""
        return sum(ratio for _, ratio in self.uses) / len(self.uses) if self.uses else math.nan

    def room(self, config: BurstConfig) -> Room:
        threshold_ratio = config.share_pool_pct / 100
        mean_ratio = self.mean_ratio
        if math.isnan(mean_ratio):
            return Room.UNKNOWN
        if mean_ratio >= threshold_ratio:
            return Room.OVERLOAD
        return Room.NO_RISE if mean_ratio >= threshold_ratio * config.share_pool_free_ratio else Room.FREE


def share_pool_ratio(tick: Tick, profile: Profile, tree: Tree) -> float:
    """r of this tick; NaN: not known."""
    reserved = tree.alive(tree.reserved_rows, tick)
    quota_cores = tick.cgroup.quota_ns[reserved] / tick.cgroup.period_ns[reserved]
    most_cores = profile.cpu_p95_window_cores[reserved]
    requests_cores = float(np.where(np.isfinite(quota_cores), quota_cores, most_cores).sum())
    others_cores = total(profile.cpu_used_cores, reserved) + total(
        profile.cpu_used_cores, tree.alive(tree.be_rows, tick)
    )
    shared_cpus = tick.node.cpus - requests_cores
    if shared_cpus <= 0:
        return math.inf
    ratio = (profile.node_used_cores - others_cores) / shared_cpus
    return ratio if math.isnan(ratio) else max(0.0, ratio)
