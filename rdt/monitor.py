"""Counters of a group: cache occupancy and memory bandwidth, per L3 cache.

    mon_data/mon_L3_00/llc_occupancy       bytes in the cache now
    mon_data/mon_L3_00/mbm_total_bytes     bytes to and from memory since the group exists, mbm_local_bytes of this node
    mon_data/mon_L3_00/mon_sub_L3_00/...   the same per node, with sub-NUMA clusters; the files above are their sums

A file may say instead of a number why there is none; that is a value here, not 0 and not an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from rdt.errors import GONE, Refused, Unreadable
from rdt.group import Group

PREFIX = "mon_L3_"
COUNTER_MODULUS = 1 << 64
FILE_BYTES = 64


class Absent(Enum):
    """Why a counter has no value."""

    UNAVAILABLE = "Unavailable"  # for now: the hardware has no counter for it at this moment
    ERROR = "Error"  # the kernel's read of it failed
    UNASSIGNED = "Unassigned"  # counters are assigned by hand, and none is to this group


Value = int | Absent
Counters = Mapping[str, Value]
"""Event (llc_occupancy, mbm_total_bytes, mbm_local_bytes) -> bytes."""

_ABSENT = {absent.value.encode(): absent for absent in Absent}


def read(group: Group) -> dict[int, Counters]:
    """Cache id -> counters, of the caches that are there now. Raises Gone, NotMounted, Unreadable.

    A cache whose last CPU goes off-line during the call is left out.
    """
    base = os.path.join(group.path, "mon_data")
    try:
        folders = os.listdir(base)
    except OSError as error:
        raise group.tree.lost(error, Path(base)) from error
    domains = [name for name in folders if name.startswith(PREFIX)]
    found = {int(name[len(PREFIX) :]): _events(f"{base}/{name}") for name in domains}
    return {domain: events for domain, events in sorted(found.items()) if events}


def growth(before: Value | None, now: Value | None) -> int | None:
    """Bytes that were added between two readings of a bandwidth counter; None: not known.

    The kernel makes 64 bits of the hardware's 24 to 44 and sees to their wrap. A value below the one before is a wrap
    of the 64 bits where it went from their upper half to the lower, else the counter has begun anew: the group was
    made again, its cache was off-line, or what it counts was changed.
    """
    if not isinstance(before, int) or not isinstance(now, int):
        return None
    if now >= before:
        return now - before
    return (now - before) % COUNTER_MODULUS if before - now > COUNTER_MODULUS // 2 else None


def parse(text: bytes) -> Value:
    """The content of a counter's file. Raises Unreadable."""
    word = text.strip()
    if word.isdigit():
        return int(word)
    if word in _ABSENT:
        return _ABSENT[word]
    raise Unreadable("neither a number nor a word for why there is none", value=text.decode(errors="replace"))


def _events(folder: str) -> dict[str, Value]:
    """Event -> value of one cache; empty: it has gone."""
    try:
        return {name: parse(_content(f"{folder}/{name}")) for name in os.listdir(folder) if name[:4] != "mon_"}
    except OSError as error:
        if error.errno in GONE:
            return {}
        raise Refused.of(error, folder) from error


def _content(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, FILE_BYTES)
    finally:
        os.close(file)
