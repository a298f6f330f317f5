"""What the owners of BE groups have set that decisions want to know: weights, and CPUs that the groups may use.

Files: Documentation/admin-guide/cgroup-v2.rst (cpu.weight, cpuset.cpus.effective), and their twins on v1
(Documentation/scheduler/sched-design-CFS.rst, Documentation/admin-guide/cgroup-v1/cpusets.rst).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.host import Hierarchy, Host
from agent.records import Group, Qos, Tick
from agent.samples.files import read_file
from agent.units import parse_cpus

READ_EVERY_TICKS = 5
SHARES_DEFAULT, WEIGHT_DEFAULT = 1024, 100


@dataclass(frozen=True, slots=True)
class Settings:
    """By id of the group; what could not be read is not there."""

    weights: Mapping[int, int] = field(default_factory=dict)
    """On the scale of cpu.weight."""
    cpusets: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


class SettingsReader:
    """Reads when the groups change, and every few ticks."""

    def __init__(self, host: Host) -> None:
        self._cpu, self._cpuset = host.cpu, host.cpuset
        self._groups: tuple[Group, ...] = ()
        self._read_at = 0
        self._settings = Settings()

    def read(self, tick: Tick) -> Settings:
        if tick.groups is not self._groups or tick.number >= self._read_at + READ_EVERY_TICKS:
            self._groups, self._read_at = tick.groups, tick.number
            be = [group for group in tick.groups if group.qos is Qos.BE]
            weights = {group.id: weight for group in be if (weight := self._weight(group.path)) is not None}
            cpusets = {group.id: cpus for group in be if (cpus := self._cpus(group.path))}
            self._settings = Settings(weights, cpusets)
        return self._settings

    def _weight(self, path: str) -> int | None:
        is_v2 = self._cpu is not None and self._cpu.version == 2
        text = _text(self._cpu, path, "cpu.weight" if is_v2 else "cpu.shares")
        if not text.isdigit():
            return None
        return int(text) if is_v2 else max(1, round(int(text) * WEIGHT_DEFAULT / SHARES_DEFAULT))

    def _cpus(self, path: str) -> tuple[int, ...]:
        is_v2 = self._cpuset is not None and self._cpuset.version == 2
        return parse_cpus(_text(self._cpuset, path, "cpuset.cpus.effective" if is_v2 else "cpuset.effective_cpus"))


def _text(hierarchy: Hierarchy | None, path: str, name: str) -> str:
    """ "": the group, or this hierarchy, has no such file."""
    if hierarchy is None:
        return ""
    try:
        return read_file(f"{hierarchy.mount}{path}/{name}").decode("ascii", "replace").strip()
    except OSError:
        return ""
