"""A tree of groups with all knobs that this host has, and what is in their files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.actuators.cgroup import Hierarchies, Unsupported
from agent.actuators.executor import Executor
from agent.actuators.knobs import KnobFile
from agent.control import CGROUP_KNOBS, Intent, Knob, KnobValue, Outcome, Result
from agent.host import Host, probe
from tests.kernel.workloads import Group

V2_CONTROLLERS = ("cpu", "cpuset")


@dataclass
class KnobTree:
    """Groups of the test's own, by their path below `top` ("" is the top one)."""

    top: str
    host: Host
    hierarchies: Hierarchies

    def make(self, name: str) -> None:
        """The group, in each hierarchy that has a knob; those above it are there. On v1 its cpuset is its parent's."""
        for mount in self._mounts():
            path = self._at(mount, name)
            controllers = path.parent / "cgroup.controllers"
            if controllers.exists():
                there = set(controllers.read_text().split()).intersection(V2_CONTROLLERS)
                (path.parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in there))
            path.mkdir()
            for file in ("cpuset.mems", "cpuset.cpus"):
                if self.has(Knob.CPUSET) == 1 and (path / file).exists():
                    (path / file).write_text((path.parent / file).read_text())

    def remove(self, name: str) -> None:
        """With everything below."""
        for mount in self._mounts():
            if self._at(mount, name).exists():
                Group(self._at(mount, name), 0).remove()

    def group(self, name: str) -> Group:
        """For workloads."""
        return Group(self._at(self.hierarchies.cpu.mount, name), self.hierarchies.cpu.version)

    def path(self, name: str) -> str:
        """As intents have it."""
        return f"/{self.top}/{name}".rstrip("/")

    def intent(self, name: str, knob: Knob, value: KnobValue) -> Intent:
        return Intent(self.group(name).id, self.path(name), knob, value)

    def has(self, knob: Knob) -> int:
        """Version of the hierarchy that has this knob; 0: none has."""
        try:
            return self.hierarchies.of_knob(knob)[0].version
        except Unsupported:
            return 0

    def file(self, name: str, knob: Knob) -> Path:
        return self._at(self.hierarchies.of_knob(knob)[0].mount, name) / self.table(knob).name

    def table(self, knob: Knob) -> KnobFile:
        return self.hierarchies.of_knob(knob)[1]

    def text(self, name: str, knob: Knob) -> str:
        """All of the file."""
        return self.file(name, knob).read_text().strip()

    def set(self, name: str, knob: Knob, text: str) -> None:
        """As an owner would."""
        file = self.file(name, knob)
        file.with_name(self.table(knob).set_by or file.name).write_text(text)

    def found(self) -> dict[str, str]:
        """What is in every knob's file of every group of the tree now."""
        texts = {}
        for mount in self._mounts():
            for directory, _, files in os.walk(self._at(mount, "")):
                for knob in CGROUP_KNOBS:
                    if self.has(knob) and self.table(knob).name in files:
                        file = Path(directory) / self.table(knob).name
                        texts[str(file)] = file.read_text()
        return texts

    def _mounts(self) -> list[Path]:
        places = (self.hierarchies.cpu, self.hierarchies.cpuset, self.hierarchies.freezer)
        return [
            Path(mount) for mount in dict.fromkeys(place.mount for place in places if place) if self._is_ours(mount)
        ]

    def _is_ours(self, mount: str) -> bool:
        """On a host with v1 only the cpu hierarchy may get groups of tests, but for a guest, which is ours whole."""
        return mount == self.hierarchies.cpu.mount or Path("/run/results").is_dir()

    def _at(self, mount: Path | str, name: str) -> Path:
        return Path(mount) / self.top / name


@contextmanager
def knob_tree(pid: int) -> Iterator[KnobTree]:
    """A top group in every hierarchy; removed at the end with all that is below."""
    host = probe(try_bpf=lambda: None)
    hierarchies = Hierarchies.of(host)
    assert hierarchies
    tree = KnobTree(f"slackwater-knobs-{pid}", host, hierarchies)
    tree.make("")
    try:
        yield tree
    finally:
        tree.remove("")


def apply_one(executor: Executor, intent: Intent) -> Outcome:
    return executor.apply([intent])[0]


def quota(knobs: KnobTree, name: str, us: int | None) -> None:
    """As an owner sets it."""
    knobs.group(name).set_quota(us)


def quota_us(knobs: KnobTree, name: str) -> KnobValue:
    return knobs.table(Knob.QUOTA).parse(knobs.text(name, Knob.QUOTA).split()[0])


def results(outcomes: tuple[Outcome, ...]) -> list[Result]:
    return [outcome.result for outcome in outcomes]
