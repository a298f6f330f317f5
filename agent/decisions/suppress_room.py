"""How much of the CPU batch work may have, and how its groups share it. Pure.

    sys     = max(node_used - sum(group used), reserved_cores)
    BE_room = C * threshold_pct/100 - sum(used of every group that is not BE) - sys
    BE_room = max(BE_room, C * min_pct/100, min_cores)

A group whose use is not known counts in sys, since the node's use has it. The sums are over topmost groups, since a
group's use has that of the groups in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.config_laws import SuppressConfig
from agent.control import Situation
from agent.decisions.tree import Rows, Tree, total

_WANTS_MORE_RATIO = 0.9
"""A group that uses this much of its limit would use more; below, it wants what it uses and a quarter."""
_HEADROOM_RATIO = 1.25
_WEIGHT_MIN = 1
"""The least that an owner can set; the kernel shows 0 of a group that is idle."""


@dataclass(frozen=True, slots=True)
class Room:
    """In cores."""

    be_cores: float
    be_used_cores: float
    node_used_cores: float


def floor_cores(cpus: int, config: SuppressConfig) -> float:
    """What batch work keeps whatever happens."""
    return max(cpus * config.min_pct / 100, config.min_cores)


def dead_band_cores(cpus: int, groups: int, config: SuppressConfig) -> float:
    """The least change of one BE group's quota, so that all `groups` together are off by dead_band_pct at most."""
    return cpus * config.dead_band_pct / 100 / groups * (1 - 1e-9)


def room_for_be(situation: Situation, tree: Tree, parents: Rows, config: SuppressConfig) -> Room | None:
    """None: the node's use or that of a BE group is not known."""
    used_cores, cpus = situation.profile.cpu_used_cores, situation.tick.node.cpus
    node_used, be_used = situation.profile.node_used_cores, total(used_cores, parents)
    if math.isnan(node_used) or math.isnan(be_used):
        return None
    in_groups = float(np.nansum(used_cores[tree.tops]))
    sys = max(node_used - in_groups, config.reserved_cores)
    room = cpus * config.threshold_pct / 100 - max(in_groups - be_used, 0.0) - sys
    return Room(max(room, floor_cores(cpus, config)), be_used, node_used)


def shares(
    room_cores: float,
    weights: Sequence[float],
    used_cores: Sequence[float],
    limits_cores: Sequence[float],
    min_cores: float,
) -> list[float]:
    """What each group gets of the room: by weight, and what one cannot use is for the others.

    `limits_cores`: what each is limited to now, inf: not. Their sum is the room, but for what `min_cores` each adds.
    """
    wants = [
        math.inf if used >= _WANTS_MORE_RATIO * limit else used * _HEADROOM_RATIO
        for used, limit in zip(used_cores, limits_cores, strict=True)
    ]
    weights = [max(_WEIGHT_MIN, weight) for weight in weights]
    given = [0.0] * len(weights)
    left, open_ = room_cores, set(range(len(weights)))
    while open_:
        per_weight = left / sum(weights[i] for i in open_)
        content = {i for i in open_ if wants[i] <= per_weight * weights[i]}
        if not content:
            break
        for i in content:
            given[i] = wants[i]
            left -= wants[i]
        open_ -= content
    takers = open_ or set(range(len(weights)))
    per_weight = left / sum(weights[i] for i in takers)
    for i in takers:
        given[i] += per_weight * weights[i]
    return [max(cores, min_cores) for cores in given]
