"""The demo's own cgroups, `slackwater-demo-PID` and below, and what their files say. Works on v1 and v2."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.needs import cpu_hierarchy
from tests.kernel.workloads import Group

PREFIX = "slackwater-demo-"
REAL_TIME_US = 200_000
"""Of each second, for a group of the tree: the kernel gives one none by itself on v1 (CONFIG_RT_GROUP_SCHED)."""


@contextlib.contextmanager
def own_tree(under: Path | None, *, heavy: bool) -> Iterator[Group]:
    """A new group below `under` (default: the root of the hierarchy with the cpu controller), removed with all below.

    Empty ones that an earlier demo has left (kill -9) are removed first.
    """
    hierarchy = cpu_hierarchy()
    if hierarchy is None:
        raise SystemExit("no cgroup hierarchy with the cpu controller")
    root, version = hierarchy
    parent = Group(under or root, version)
    _remove_left_over(parent)
    tree = parent.child(f"{PREFIX}{os.getpid()}")
    try:
        if heavy:
            tree.set_heavy()
        yield tree
    finally:
        tree.remove()


def _remove_left_over(parent: Group) -> None:
    for path in parent.path.glob(f"{PREFIX}*"):
        if not Path("/proc", path.name.removeprefix(PREFIX)).exists():
            with contextlib.suppress(OSError):
                Group(path, parent.version).remove()


def path_of(group: Group) -> str:
    """From the root of the hierarchy, as the agent names groups."""
    hierarchy = cpu_hierarchy()
    assert hierarchy
    return f"/{group.path.relative_to(hierarchy[0])}"


@dataclass(frozen=True)
class Groups:
    """Of one phase."""

    service: Group
    batch: Group
    load: Group
    agent: Group


def make_groups(tree: Group) -> Groups:
    """Load and agent may have real-time priority."""
    groups = Groups(*(tree.child(name) for name in ("service", "batch", "load", "agent")))
    for group, real_time_us in ((tree, 2 * REAL_TIME_US), (groups.load, REAL_TIME_US), (groups.agent, REAL_TIME_US)):
        file = group.path / "cpu.rt_runtime_us"
        if file.exists():
            file.write_text(str(real_time_us))
    return groups


def quota_cores(group: Group) -> float | None:
    """None: no limit."""
    if group.version == 2:
        quota, period = (group.path / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    quota_us = int((group.path / "cpu.cfs_quota_us").read_text())
    return None if quota_us < 0 else quota_us / int((group.path / "cpu.cfs_period_us").read_text())


def is_idle(group: Group) -> bool:
    return (group.path / "cpu.idle").read_text().strip() == "1"


def cpu_stat(group: Group) -> dict[str, int]:
    """Lines of cpu.stat: `nr_periods 17`."""
    lines = (group.path / "cpu.stat").read_text().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}
