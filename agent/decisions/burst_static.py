"""The burst that a quota may save up. Pure.

burst_us = owner's quota * burst_pct / 100, at most the quota: upstream kernels refuse more
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agent.config_laws import BurstConfig
from agent.control import Decision, Intent, Knob, Resource, Situation
from agent.decisions.now import Memory, is_left_alone, quota_now, value_now


def static_burst(controller: str, situation: Situation, memory: Memory, config: BurstConfig) -> Iterator[Decision]:
    """One decision for all groups whose burst is less than it is to be; a larger one is their owner's."""
    cgroup = situation.tick.cgroup
    behind = np.isfinite(cgroup.quota_ns) & (cgroup.burst_ns < cgroup.quota_ns * (config.burst_pct / 100))
    intents = []
    for row in np.flatnonzero(behind).tolist():
        group = situation.tick.groups[row]
        quota = quota_now(situation, row, memory)
        burst_us = value_now(situation, row, Knob.BURST, memory)
        if group.qos not in config.classes or quota is None or not isinstance(burst_us, int):
            continue
        target_us = min(quota.base_us, int(quota.base_us * config.burst_pct / 100))
        may = memory.may_try((group.id, Knob.BURST), situation.now_ns) and not is_left_alone(situation, row)
        if may and burst_us < target_us:
            intents.append(Intent(group.id, group.path, Knob.BURST, target_us))
    if intents:
        yield Decision(
            controller=controller,
            resource=Resource.BURST,
            intents=tuple(intents),
            reason=f"{len(intents)} groups may save up {config.burst_pct:g} % of their quota",
            group_id=intents[0].group_id if len(intents) == 1 else None,
            inputs={"burst_pct": config.burst_pct},
        )
