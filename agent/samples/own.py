"""What the agent itself costs: CPU time and memory of this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.samples.files import read_file


@dataclass(frozen=True, slots=True)
class OwnCost:
    """CPU time of all threads since the process began, and resident memory now; None: cannot be read."""

    cpu_ns: int
    rss_bytes: int | None


# 765 393 365 5 0 123 0
def parse_statm(data: bytes, page_bytes: int) -> int | None:
    """/proc/PID/statm, field 2 (resident pages), in bytes."""
    fields = data.split()
    return int(fields[1]) * page_bytes if len(fields) > 1 and fields[1].isdigit() and len(fields[1]) < 20 else None


def read_own_cost(
    proc: Path = Path("/proc"),
    cpu_clock_ns: Callable[[], int] = time.process_time_ns,
    page_bytes: int = os.sysconf("SC_PAGE_SIZE"),
) -> OwnCost:
    """Now. The kernel keeps statm per CPU in batches since 6.2 (f1a7941243c1, mm: convert mm's rss stats into
    percpu_counter): it may be off by some dozen pages per CPU.
    """
    try:
        statm = read_file(f"{proc}/self/statm")
    except OSError:
        statm = b""
    return OwnCost(cpu_clock_ns(), parse_statm(statm, page_bytes))
