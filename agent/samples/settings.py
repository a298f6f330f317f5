"""What the owners of BE groups have set that decisions want to know, and CPUs that BE and LSE groups may use.

A knob that the agent holds shows what the agent wrote: then its owner's value is the base that the executor keeps, and
its CPUs are its parent's. While a group is idle its weight is nothing (the kernel shows 0 or 1, as it likes).

Files: agent/actuators/knobs.py; cpuset.cpus.effective (Documentation/admin-guide/cgroup-v2.rst), and its twin on v1
(Documentation/admin-guide/cgroup-v1/cpusets.rst).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.actuators.knobs import knob_file, text_of
from agent.control import Knob, KnobState, KnobValue
from agent.host import Hierarchy, Host
from agent.records import Group, Qos, Tick
from agent.samples.files import read_file
from agent.units import parse_cpus

READ_EVERY_TICKS = 5
_KNOBS = (Knob.IDLE, Knob.WEIGHT, Knob.FREEZE)
"""In this order: whether a weight means anything depends on idle."""

Key = tuple[int, Knob]


@dataclass(frozen=True, slots=True)
class Settings:
    """What could not be read is not there."""

    owners: Mapping[Key, KnobValue] = field(default_factory=dict)
    """Idle, weight and freeze of BE groups, as their owners set them."""
    cpusets: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """By id of the group."""


class SettingsReader:
    """Reads when the groups change, and every few ticks; of a knob that is not held any more at once."""

    def __init__(self, host: Host) -> None:
        self._cpu, self._cpuset, self._freezer = host.cpu, host.cpuset, host.freezer
        self._groups: tuple[Group, ...] = ()
        self._read_at = 0
        self._held: frozenset[Key] = frozenset()
        self._settings = Settings()

    def read(self, tick: Tick, knobs: Mapping[Key, KnobState]) -> Settings:
        """`knobs`: those that are held, and those left to their owners, now."""
        freed = {group_id for group_id, _ in self._held - knobs.keys()}
        self._held = frozenset(knobs)
        if tick.groups is not self._groups or tick.number >= self._read_at + READ_EVERY_TICKS:
            self._groups, self._read_at = tick.groups, tick.number
            self._settings = self._read(tick.groups, knobs)
        elif freed:
            new = self._read([group for group in tick.groups if group.id in freed], knobs)
            last = self._settings
            self._settings = Settings({**last.owners, **new.owners}, {**last.cpusets, **new.cpusets})
        return self._settings

    def _read(self, groups: Iterable[Group], knobs: Mapping[Key, KnobState]) -> Settings:
        owners: dict[Key, KnobValue] = {}
        cpusets = {}
        for group in groups:
            if group.qos is Qos.BE:
                owners |= self._owners(group, knobs)
            if group.qos in (Qos.BE, Qos.LSE):
                is_held = (group.id, Knob.CPUSET) in knobs
                if cpus := self._cpus(_parent(group.path) if is_held else group.path):
                    cpusets[group.id] = cpus
        return Settings(owners, cpusets)

    def _owners(self, group: Group, knobs: Mapping[Key, KnobState]) -> dict[Key, KnobValue]:
        owners: dict[Key, KnobValue] = {}
        is_idle = False
        for knob in _KNOBS:
            key = group.id, knob
            state = knobs.get(key)
            if state:
                value = state.base
            elif knob is Knob.WEIGHT and is_idle:
                value = self._settings.owners.get(key)
            else:
                value = self._value(group.path, knob)
            if knob is Knob.IDLE:
                is_idle = (state.current if state else value) == 1
            if value is not None:
                owners[key] = value
        return owners

    def _value(self, path: str, knob: Knob) -> KnobValue:
        """None: there is no such file, or nothing that one could understand in it."""
        place = self._freezer if knob is Knob.FREEZE else self._cpu
        if place is None:
            return None
        file = knob_file(knob, place.version)
        try:
            return file.parse(text_of(_read(place, path, file.name)))
        except (OSError, ValueError):
            return None

    def _cpus(self, path: str) -> tuple[int, ...]:
        """On v2 a group without this file uses what the next one above it may. (): not known."""
        place = self._cpuset
        if place is None:
            return ()
        name = "cpuset.cpus.effective" if place.version == 2 else "cpuset.effective_cpus"
        try:
            return parse_cpus(_read(place, path, name).decode("ascii", "replace").strip())
        except FileNotFoundError:
            return self._cpus(_parent(path)) if place.version == 2 and path.strip("/") else ()
        except (OSError, ValueError):
            return ()


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _read(hierarchy: Hierarchy, path: str, name: str) -> bytes:
    """OSError."""
    return read_file(f"{hierarchy.mount}{path}/{name}")
