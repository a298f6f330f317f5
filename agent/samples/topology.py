"""Which CPUs are online, which share a core, and on which NUMA node they are.

Sources: Documentation/admin-guide/cputopology.rst, Documentation/ABI/stable/sysfs-devices-node.
"""

from __future__ import annotations

import os
from pathlib import Path

from agent.control import Topology
from agent.units import parse_cpus

SYSTEM = Path("/sys/devices/system")


class TopologyReader:
    """Reads again only what may have changed: a CPU that went or came changes the list of those online."""

    def __init__(self, system: Path = SYSTEM) -> None:
        self._system = system
        self._online = ""
        self._topology = Topology((), {}, {})

    def read(self) -> Topology:
        """What a file does not say is left out: a CPU without siblings is a core of its own, on node 0."""
        online = self._text("cpu/online") or f"0-{(os.cpu_count() or 1) - 1}"
        if online != self._online:
            self._online = online
            cpus = parse_cpus(online)
            self._topology = Topology(cpus, {cpu: self._siblings(cpu) for cpu in cpus}, self._nodes(cpus))
        return self._topology

    def _siblings(self, cpu: int) -> tuple[int, ...]:
        return parse_cpus(self._text(f"cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu))

    def _nodes(self, cpus: tuple[int, ...]) -> dict[int, int]:
        node_of = dict.fromkeys(cpus, 0)
        for folder in self._system.glob("node/node[0-9]*"):
            for cpu in parse_cpus(self._text(f"node/{folder.name}/cpulist")):
                if cpu in node_of:
                    node_of[cpu] = int(folder.name.removeprefix("node"))
        return node_of

    def _text(self, name: str) -> str:
        try:
            return (self._system / name).read_text().strip()
        except OSError:
            return ""
