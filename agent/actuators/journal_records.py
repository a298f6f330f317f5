"""The records of the journal, one kind per thing that has an owner: a knob, a network device, resctrl. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.control import Knob
from agent.traffic import Part

KnobKey = tuple[int, Knob]
Key = KnobKey | int | str
"""Of a knob; of a device: its ifindex; of resctrl: its root."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A knob that is not (or perhaps not) as its owner left it. Texts as in agent.actuators.knobs."""

    group_id: int
    directory_id: int
    """Inode of the directory that has the file: on v1 that of another hierarchy has its own."""
    path: str
    knob: Knob
    base: str
    """As it was found."""
    wrote: tuple[str, ...]
    """All that may be there if nobody else wrote: what we put there before and what we are about to."""

    @property
    def key(self) -> KnobKey:
        return self.group_id, self.knob


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """A network device that is not (or perhaps not) as its owner left it."""

    ifindex: int
    namespace: int
    """Inode of its network namespace."""
    name: str
    base: tuple[Part, ...]
    """Its qdiscs, classes and filters as they were found, without those at the ingress."""
    takes_root: bool = False
    takes_ingress: bool = False
    """A filter of ours sends what comes in to an IFB of ours."""
    makes_ingress: bool = False
    """The ingress qdisc is ours, too."""
    is_returning: bool = False
    """It is being put back: what is there may be a part of it."""

    @property
    def key(self) -> int:
        return self.ifindex


@dataclass(frozen=True, slots=True)
class Cell:
    """One mask of the default group: of one cache of one line of its schemata."""

    base: int
    wrote: tuple[int, ...]
    """As `Entry.wrote`."""


@dataclass(frozen=True, slots=True)
class ResctrlEntry:
    """A resctrl that is not (or perhaps not) as it was without us."""

    root: str
    mounts: bool = False
    """It is ours: agent/mounts.py says which one is."""
    groups: tuple[str, ...] = ()
    """Names of control groups that are ours."""
    cells: Mapping[tuple[str, int], Cell] = field(default_factory=dict)
    """Of the default group, by resource and cache id."""

    @property
    def key(self) -> str:
        return self.root


AnyEntry = Entry | DeviceEntry | ResctrlEntry


@dataclass(frozen=True, slots=True)
class Contents:
    """A journal as it was found. `notes`: what is wrong with it, a sentence each."""

    entries: Mapping[KnobKey, Entry] = field(default_factory=dict)
    devices: Mapping[int, DeviceEntry] = field(default_factory=dict)
    resctrl: Mapping[str, ResctrlEntry] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_damaged: bool = False

    @property
    def all(self) -> tuple[AnyEntry, ...]:
        return (*self.entries.values(), *self.devices.values(), *self.resctrl.values())


def replayed(records: Iterable[Mapping[str, Any]]) -> dict[Key, AnyEntry]:
    """What counts after these records. Those of no known kind, such as a file's header, count for nothing."""
    live: dict[Key, AnyEntry] = {}
    for record in records:
        key = _key(record)
        if key is None:
            continue
        if "free" in record:
            live.pop(key, None)
        else:
            live[key] = _entry(record)
    return live


def contents(live: Mapping[Key, AnyEntry], notes: tuple[str, ...], *, is_damaged: bool) -> Contents:
    """Apart by kind."""
    entries = live.values()
    return Contents(
        {entry.key: entry for entry in entries if isinstance(entry, Entry)},
        {entry.key: entry for entry in entries if isinstance(entry, DeviceEntry)},
        {entry.key: entry for entry in entries if isinstance(entry, ResctrlEntry)},
        notes,
        is_damaged,
    )


def announcing(entry: AnyEntry) -> dict[str, Any]:
    """A record, as JSON has it."""
    match entry:
        case DeviceEntry():
            parts = [(p.what, p.kind, p.handle, p.parent, p.info, p.options.hex(), p.chain) for p in entry.base]
            flags = {name: getattr(entry, name) for name in _DEVICE_FLAGS}
            return {"device": entry.ifindex, "namespace": entry.namespace, "name": entry.name, "base": parts, **flags}
        case ResctrlEntry():
            cells = [(resource, id, cell.base, cell.wrote) for (resource, id), cell in entry.cells.items()]
            return {"resctrl": entry.root, "mounts": entry.mounts, "groups": entry.groups, "cells": cells}
    return {
        "group": entry.group_id,
        "directory": entry.directory_id,
        "path": entry.path,
        "knob": entry.knob,
        "base": entry.base,
        "wrote": entry.wrote,
    }


def freeing(key: Key) -> dict[str, Any]:
    """A record that says: nothing of ours is there any more."""
    match key:
        case int():
            return {"device": key, "free": True}
        case str():
            return {"resctrl": key, "free": True}
    return {"group": key[0], "knob": key[1], "free": True}


def _key(record: Mapping[str, Any]) -> Key | None:
    if "knob" in record:
        return record["group"], Knob(record["knob"])
    key: int | str | None = record.get("device", record.get("resctrl"))
    return key


_DEVICE_FLAGS = ("takes_root", "takes_ingress", "makes_ingress", "is_returning")


def _entry(record: Mapping[str, Any]) -> AnyEntry:
    if "device" in record:
        flags = {name: record[name] for name in _DEVICE_FLAGS}
        base = tuple(
            Part(what, kind, handle, parent, info, bytes.fromhex(options), chain)
            for what, kind, handle, parent, info, options, chain in record["base"]
        )
        return DeviceEntry(record["device"], record["namespace"], record["name"], base, **flags)
    if "resctrl" in record:
        cells = {(resource, id): Cell(base, tuple(wrote)) for resource, id, base, wrote in record["cells"]}
        return ResctrlEntry(record["resctrl"], record["mounts"], tuple(record["groups"]), cells)
    return Entry(
        group_id=record["group"],
        directory_id=record["directory"],
        path=record["path"],
        knob=Knob(record["knob"]),
        base=record["base"],
        wrote=tuple(record["wrote"]),
    )
