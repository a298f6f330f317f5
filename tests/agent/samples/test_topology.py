"""CPUs, cores and nodes from a tree of files, and of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from agent.control import Topology
from agent.samples.topology import TopologyReader


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def test_threads_of_a_core_and_nodes(tmp_path: Path) -> None:
    """Two sockets of one core with two threads each; CPU 2 is offline."""
    siblings = {f"cpu/cpu{cpu}/topology/thread_siblings_list": "0,2" if cpu == 0 else "1,3" for cpu in (0, 1, 3)}
    write(tmp_path, {"cpu/online": "0-1,3", "node/node0/cpulist": "0", "node/node1/cpulist": "1,3"} | siblings)
    assert TopologyReader(tmp_path).read() == Topology((0, 1, 3), {0: (0, 2), 1: (1, 3), 3: (1, 3)}, {0: 0, 1: 1, 3: 1})


def test_what_is_not_said_is_a_core_of_its_own_on_node_0(tmp_path: Path) -> None:
    write(tmp_path, {"cpu/online": "0-1"})
    assert TopologyReader(tmp_path).read() == Topology((0, 1), {0: (0,), 1: (1,)}, {0: 0, 1: 0})


def test_cpu_that_goes_is_gone(tmp_path: Path) -> None:
    write(tmp_path, {"cpu/online": "0-1"})
    reader = TopologyReader(tmp_path)
    reader.read()
    write(tmp_path, {"cpu/online": "1"})
    assert reader.read().cpus == (1,)


def test_this_machine_has_cpus() -> None:
    assert set(os.sched_getaffinity(0)) <= set(TopologyReader().read().cpus)
