"""The class that systemd's tree suggests. Pure.

Services live below system.slice, sessions and user services below user.slice; init.scope, machine.slice and what
other managers put beside them are nobody's service here. The names are the same on cgroup v1 and v2.
Source: systemd.special(7).
"""

from __future__ import annotations

from agent.records import Qos


def default_class(path: str) -> Qos:
    """LS below system.slice and user.slice, else SYSTEM; the slices themselves and "/" are SYSTEM."""
    return Qos.LS if path.startswith(("/system.slice/", "/user.slice/")) else Qos.SYSTEM
