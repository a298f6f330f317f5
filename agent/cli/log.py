"""One tick as one line of a log. Pure."""

from __future__ import annotations

import numpy as np

from agent.cli.text import decimal, duration
from agent.config_explain import one_line
from agent.records import Profile, Tick


def log_line(tick: Tick, profile: Profile) -> str:
    """Where the figures come from, how busy the node is, and who waited longest; key=value, "-" is not available."""
    parts = [
        f"source={tick.source}",
        f"sampling={tick.agent.sampling}",
        f"lost_samples={tick.agent.lost_samples}",
        f"groups={len(tick.groups)}",
        f"used_cores={decimal(profile.node_used_cores)}",
    ]
    if np.isfinite(tick.wait.p99_ns).any():
        row = int(np.nanargmax(tick.wait.p99_ns))
        culprit = profile.main_culprit[row]
        parts += [
            f"worst={one_line(tick.groups[row].path)}",
            f"wait_p99={duration(float(tick.wait.p99_ns[row]))}",
            f"culprit={one_line(culprit.path) if culprit else '-'}",
        ]
    return " ".join(parts)
