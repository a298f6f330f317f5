"""The kernel's rules for the knobs of a tree of groups, as said in agent/actuators/constraints.py but by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.actuators.constraints import Key, View, Write
from agent.actuators.knobs import QUOTA_US_MAX, QUOTA_US_MIN, WEIGHT_DEFAULT
from agent.control import Knob, KnobValue

CPUS = (0, 1, 2, 3)


class Refused(Exception):
    pass


@dataclass
class Node:
    parent: int | None
    depth: int
    period_us: int
    values: dict[Knob, KnobValue]


@dataclass
class Kernel:
    """`write` does what the kernel does. Group 1 is the top one; ids follow the tree from the top down."""

    version: int
    nodes: dict[int, Node] = field(default_factory=dict)

    def write(self, write: Write) -> None:
        values = dict(self.nodes[write.group_id].values)
        values[write.knob] = write.value
        if write.knob is Knob.WEIGHT and values[Knob.IDLE] == 1:
            raise Refused("weight while idle")
        if write.knob is Knob.IDLE and write.value != self.nodes[write.group_id].values[Knob.IDLE]:
            values[Knob.WEIGHT] = WEIGHT_DEFAULT if write.value == 0 else 1
        before, self.nodes[write.group_id].values = self.nodes[write.group_id].values, values
        try:
            self.check()
        except Refused:
            self.nodes[write.group_id].values = before
            raise

    def check(self) -> None:
        for id_, node in self.nodes.items():
            quota, burst = node.values[Knob.QUOTA], node.values[Knob.BURST]
            assert isinstance(burst, int)
            if isinstance(quota, int) and not (
                quota >= QUOTA_US_MIN and burst <= quota and burst + quota <= QUOTA_US_MAX
            ):
                raise Refused(f"{id_}: quota {quota}, burst {burst}")
            if self.version == 1:
                self._check_child(id_, node)

    def _check_child(self, id_: int, node: Node) -> None:
        quota = node.values[Knob.QUOTA]
        for above in self.above(id_):
            limit = self.nodes[above].values[Knob.QUOTA]
            if isinstance(quota, int) and isinstance(limit, int):
                if (quota << 20) // node.period_us > (limit << 20) // self.nodes[above].period_us:
                    raise Refused(f"{id_}: {quota}/{node.period_us} > {above}: {limit}/{self.nodes[above].period_us}")
                break
        cpus = node.values[Knob.CPUSET]
        parent_cpus = self.nodes[node.parent].values[Knob.CPUSET] if node.parent else CPUS
        assert isinstance(cpus, tuple)
        assert isinstance(parent_cpus, tuple)
        if not set(cpus) <= set(parent_cpus):
            raise Refused(f"{id_}: {cpus} is no part of {parent_cpus}")
        if not cpus:
            raise Refused(f"{id_}: no CPUs")

    def above(self, id_: int) -> Iterator[int]:
        while (parent := self.nodes[id_].parent) is not None:
            yield parent
            id_ = parent

    def current(self) -> dict[Key, KnobValue]:
        return {(id_, knob): value for id_, node in self.nodes.items() for knob, value in node.values.items()}

    def view(self, base: Mapping[Key, KnobValue], companions: frozenset[Key]) -> View:
        """As agent/actuators/view.py reads it."""
        current = self.current()
        current.update({(id_, Knob.WEIGHT): WEIGHT_DEFAULT for id_ in self.nodes if current[id_, Knob.IDLE] == 1})
        return View(
            current=current,
            base=base,
            companions=companions,
            depth={id_: node.depth for id_, node in self.nodes.items()},
            parent={id_: node.parent for id_, node in self.nodes.items() if node.parent is not None},
            period_us={id_: node.period_us for id_, node in self.nodes.items()},
            strict=frozenset({Knob.QUOTA, Knob.CPUSET}) if self.version == 1 else frozenset(),
        )
