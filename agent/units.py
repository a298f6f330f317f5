"""Conversions between the units of kernel files and ours. Values of a file keep the file's unit until one of these."""

from __future__ import annotations

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
BYTES_PER_KIB = 1024


def ticks_to_ns(ticks: int, ticks_per_s: int) -> int:
    """USER_HZ ticks (proc(5), /proc/stat) to ns. `ticks_per_s` is sysconf(_SC_CLK_TCK), 100 nearly everywhere."""
    return ticks * NS_PER_S // ticks_per_s


CPU_MAX = 8_191
"""No machine has more CPUs (NR_CPUS)."""


# 0-3,6
def parse_cpus(text: str) -> tuple[int, ...]:
    """A kernel's list of CPUs (Documentation/admin-guide/cputopology.rst), ascending. ValueError: it is none."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit() and int(last or first) <= CPU_MAX):
            raise ValueError(f"{text!r} is no list of CPUs")
        cpus.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(cpus))
