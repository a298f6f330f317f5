"""Numbers by which cgroup v1 marks what a group sends (net_cls.classid), on hosts without cgroup2.

Each group has one of its own with our major (51ac:), by which the classifier knows it; one that its owner has numbered
keeps its number. A new group begins with its parent's. What has our major was 0 before: so nothing has to be on record.
Source: Documentation/admin-guide/cgroup-v1/net_cls.rst; write_classid also reaches the sockets that are there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agent.actuators.report import Fate, Restored
from agent.control import Knob
from agent.host import Hierarchy, Host
from agent.records import Group
from agent.traffic import MAJOR

_FILE = "net_cls.classid"
_MINORS = range(1, 0x10000)


def hierarchy(host: Host) -> Hierarchy | None:
    """Where the numbers are; None: groups are known by cgroup2, or there are no numbers."""
    return None if host.unified else host.net_cls


class NetCls:
    """There is one, when what a predecessor left has been given back."""

    def __init__(self, place: Hierarchy) -> None:
        self._mount = Path(place.mount)
        self._minors: dict[int, int] = {}

    def numbers(self, groups: Sequence[Group]) -> Mapping[int, int]:
        """Of each group that has a directory there, by its id. The root has none: all others begin with its number."""
        alive = {group.id for group in groups}
        self._minors = {group_id: minor for group_id, minor in self._minors.items() if group_id in alive}
        taken = set(self._minors.values())
        free = (minor for minor in _MINORS if minor not in taken)
        found = {}
        for group in groups:
            if group.path != "/":
                with contextlib.suppress(OSError, ValueError, StopIteration):  # no directory, or no number left
                    found[group.id] = self._number(group, free)
        return found

    def _number(self, group: Group, free: Iterator[int]) -> int:
        file = self._mount / group.path.lstrip("/") / _FILE
        number = int(file.read_bytes())
        if number and not _is_ours(number):
            return number
        minor = self._minors.get(group.id)
        if minor is None:
            minor = self._minors[group.id] = next(free)
        wanted = MAJOR << 16 | minor
        if number != wanted:
            _write(file, wanted)
        return wanted


def give_back(place: Hierarchy) -> tuple[Restored, ...]:
    """All numbers that are ours, also those that new groups had from their parents."""
    done = []
    for folder, _, _ in os.walk(place.mount):
        told = Restored(0, folder[len(place.mount) :] or "/", Knob.SEND, Fate.RESTORED, "0:0")
        file = Path(folder) / _FILE
        try:
            number = int(file.read_bytes())
            if not _is_ours(number):
                continue
            told = replace(told, found=f"{number >> 16:x}:{number & 0xFFFF:x}")
            _write(file, 0)
        except FileNotFoundError:  # the group has gone
            continue
        except OSError as err:
            told = replace(told, fate=Fate.REFUSED, why=err.strerror)
        done.append(told)
    return tuple(done)


def _is_ours(number: int) -> bool:
    return number >> 16 == MAJOR


def _write(file: Path, number: int) -> None:
    """It is there already: no file is made."""
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d" % number)
    finally:
        os.close(fd)
