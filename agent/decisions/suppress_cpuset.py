"""Which CPUs batch work keeps when it is to have fewer. Pure.

    n = max(min_cpus, ceil(limit)) of those that are neither reserved nor an LSE group's: whole cores first, in turn
    from each NUMA node, from the last CPU down, since the first ones have the interrupts

The order does not depend on n, so that a smaller set is a part of a larger one and tasks move as little as can be.
"""

from __future__ import annotations

import math
from itertools import zip_longest

from agent.config_laws import SuppressConfig
from agent.control import Topology


def cpu_count(limit_cores: float, config: SuppressConfig) -> int:
    return max(config.min_cpus, math.ceil(limit_cores - 1e-9))


def cpus_for_be(
    count: int, allowed: frozenset[int], excluded: frozenset[int], topology: Topology
) -> tuple[int, ...] | None:
    """`count` of the `allowed` CPUs, ascending; fewer when there are not so many. None: none is left."""
    usable = (allowed & frozenset(topology.cpus)) - excluded
    chosen = sorted(_in_order(usable, topology)[:count])
    return tuple(chosen) or None


def _in_order(usable: frozenset[int], topology: Topology) -> list[int]:
    cores = {topology.siblings.get(cpu, (cpu,)) for cpu in usable}
    whole = [core for core in cores if usable.issuperset(core)]
    split = [tuple(cpu for cpu in core if cpu in usable) for core in cores if not usable.issuperset(core)]
    return [cpu for part in (whole, split) for core in _from_each_node(part, topology) for cpu in sorted(core)]


def _from_each_node(cores: list[tuple[int, ...]], topology: Topology) -> list[tuple[int, ...]]:
    by_node: dict[int, list[tuple[int, ...]]] = {}
    for core in sorted(cores, reverse=True):
        by_node.setdefault(topology.node_of.get(core[0], 0), []).append(core)
    columns = [by_node[node] for node in sorted(by_node, reverse=True)]
    return [core for turn in zip_longest(*columns) for core in turn if core is not None]
