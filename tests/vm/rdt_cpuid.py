"""The CPUID leaves of RDT, from a description of the machine. Pure.

Sources: Intel SDM volume 2, CPUID leaves 07H, 0FH, 10H; AMD APM volume 3, functions 8000_0008h and 8000_0020h; and
what Linux reads of them (arch/x86/kernel/cpu/resctrl/core.c, scattered.c).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.vm.machines import Cat, Rdt

ALL = 0xFFFFFFFF
MONITORING, ALLOCATION = 0xF, 0x10
AMD_BANDWIDTH = 0x80000020
AMD_BANDWIDTH_BITS = 11  # values up to 2048, in eighths of GB/s
MON_EVENTS = 0b111  # occupancy, bandwidth total, bandwidth local


@dataclass(frozen=True)
class Row:
    """(register & keep) | set, for EAX to EDX of a leaf; subleaf ALL: each."""

    leaf: int
    subleaf: int
    set: tuple[int, int, int, int]
    keep: tuple[int, int, int, int] = (0, 0, 0, 0)

    def packed(self) -> bytes:
        changes = [word for pair in zip(self.keep, self.set, strict=True) for word in pair]
        return struct.pack("<10I", self.leaf, self.subleaf, *changes)


KEEP_ALL = (ALL, ALL, ALL, ALL)
END = Row(ALL, 0, (0, 0, 0, 0))


def table(rdt: Rdt) -> bytes:
    """All rows, for the stub."""
    return b"".join(row.packed() for row in (*rows(rdt), END))


def rows(rdt: Rdt) -> list[Row]:
    intel_mba = rdt.mba is not None and not rdt.amd
    resources = (rdt.l3 is not None) << 1 | (rdt.l2 is not None) << 2 | intel_mba << 3
    allocation = resources != 0 or rdt.mba is not None
    found = [
        Row(7, 0, (0, (rdt.monitoring is not None) << 12 | allocation << 15, 0, 0), KEEP_ALL),
        Row(ALLOCATION, 0, (0, resources, 0, 0)),
    ]
    if rdt.monitoring is not None:
        highest = rdt.monitoring.rmids - 1
        found.append(Row(MONITORING, 0, (0, highest, 0, 1 << 1)))
        found.append(Row(MONITORING, 1, (0, rdt.monitoring.unit_bytes, highest, MON_EVENTS)))
    else:
        found.append(Row(MONITORING, ALL, (0, 0, 0, 0)))
    found += [Row(ALLOCATION, number, _cat(cat)) for number, cat in ((1, rdt.l3), (2, rdt.l2)) if cat]
    if rdt.mba is not None and rdt.amd:
        bandwidth = (AMD_BANDWIDTH_BITS, 0, 0, rdt.mba.closids - 1)
        found += [
            Row(0x80000008, ALL, (0, 1 << 6, 0, 0), KEEP_ALL),
            Row(AMD_BANDWIDTH, 0, (0, 1 << 1 | rdt.smba << 2, 0, 0)),
            Row(AMD_BANDWIDTH, 1, bandwidth),
            Row(AMD_BANDWIDTH, 2, bandwidth if rdt.smba else (0, 0, 0, 0)),
        ]
    elif rdt.mba is not None:
        linear = 1 << 2
        found.append(Row(ALLOCATION, 3, (100 - rdt.mba.step_pct - 1, 0, linear, rdt.mba.closids - 1)))
    return found


def _cat(cat: Cat) -> tuple[int, int, int, int]:
    return (cat.ways - 1, cat.shareable, cat.cdp << 2 | cat.sparse << 3, cat.closids - 1)
