"""rdt/: solving a layout, and reading the counters of one tick from a tree of files; ms of CPU time.

64 classes on 16 caches, some exclusive, with bandwidth; 32 groups on 8 caches with three counters each (768 files, as
resctrl has them but on a file system in memory: the kernel's own cost of a counter is not in it).

    python -m benchmarks.rdt_layout [--rounds N]

Bounds: a layout <= 1 ms, a tick <= 5 ms, each the median. Exit status 1: not kept.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rdt import monitor
from rdt.group import Tree
from rdt.info import PERCENT, Bandwidth, Cache, Info
from rdt.layout import Class, Range, solve

CLASSES, CACHES, EXCLUSIVE = 64, 16, 6
GROUPS, DOMAINS = 32, 8
EVENTS = ("llc_occupancy", "mbm_total_bytes", "mbm_local_bytes")
SOLVE_MS, TICK_MS = 1.0, 5.0
IN_MEMORY = "/dev/shm"


def machine() -> Info:
    cache = Cache((1 << 20) - 1, 1, 128, shareable_bits=0xC0000, sparse_masks=False, io_alloc=None)
    bandwidth = Bandwidth(PERCENT, 10, 10, 128, 100, delay_linear=True, thread_throttle_mode="max")
    return Info({"L3": cache}, {"MB": bandwidth}, None, frozenset())


def classes() -> list[Class]:
    """A few with ways of their own from 0 to 60 %, the others on parts of the rest."""
    own = [Class(f"ls{n}", {"L3": Range(10 * n, 10 * n + 10, exclusive=True)}) for n in range(EXCLUSIVE)]
    rest = range(CLASSES - EXCLUSIVE)
    return own + [Class(f"be{n}", {"L3": Range(60, 61 + n % 40)}, {"MB": 10 + n}) for n in rest]


def make_tree(root: Path) -> Tree:
    (root / "info").mkdir()
    for group in range(GROUPS - 1):
        for domain in range(DOMAINS):
            for folder in (root, root / f"g{group}"):
                files = folder / "mon_data" / f"mon_L3_{domain:02}"
                files.mkdir(parents=True, exist_ok=True)
                for event in EVENTS:
                    (files / event).write_text(f"{31_234_000 + domain}\n")
    return Tree(root)


def median_ms(call: Callable[[], object], rounds: int) -> float:
    found = []
    for _ in range(rounds):
        before_ns = time.process_time_ns()
        call()
        found.append((time.process_time_ns() - before_ns) / 1e6)
    return statistics.median(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}  Linux {os.uname().release}  {os.uname().machine}")
    offered, wanted = machine(), classes()
    domains = dict.fromkeys(offered.resources, range(CACHES))
    solve_ms = median_ms(lambda: solve(offered, domains, wanted), options.rounds)
    print(f"layout of {CLASSES} classes on {CACHES} caches: {solve_ms:.2f} ms (bound {SOLVE_MS:g})")
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        tree = make_tree(Path(folder))
        tick_ms = median_ms(lambda: [monitor.read(group) for group in tree.groups()], options.rounds)
    print(f"counters of {GROUPS} groups on {DOMAINS} caches: {tick_ms:.2f} ms (bound {TICK_MS:g})")
    return 0 if solve_ms <= SOLVE_MS and tick_ms <= TICK_MS else 1


if __name__ == "__main__":
    sys.exit(main())
