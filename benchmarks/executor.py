"""CPU from an intent to the quota written and read back, and of a look at all that is held.

A container five levels deep beside 149 others, its quota raised and given back; journal in memory. Thread CPU time.

    python -m benchmarks.executor

Bound: a median of 300 us for an intent of one quota. Exit status 1: not kept. Needs root: the groups are its own.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agent.actuators.executor import Executor
from agent.control import Knob
from tests.kernel.knob_files import KnobTree, knob_tree

ROUNDS = 2_000
OTHERS = 149
PODS = ("pods", "pods/burstable", "pods/burstable/pod")
BOUND_US = 300


def measured(what: str, actions: tuple[Callable[[], object], ...], rounds: int = ROUNDS) -> float:
    """Median CPU of one action in us; they are done by turns."""
    times_us = []
    for action in itertools.islice(itertools.cycle(actions), rounds):
        begin_ns = time.thread_time_ns()
        action()
        times_us.append((time.thread_time_ns() - begin_ns) / 1000)
    middle_us = statistics.median(times_us)
    print(
        f"{what:<48} median {middle_us:6.1f} us   p99 {statistics.quantiles(times_us, n=100)[98]:6.1f} us", flush=True
    )
    return middle_us


def run(tree: KnobTree, executor: Executor) -> bool:
    """Whether the bound is kept."""
    name = f"{PODS[-1]}/c0"
    tree.group(name).set_quota(50_000)

    def to(us: int) -> Callable[[], object]:
        intent = tree.intent(name, Knob.QUOTA, us)
        return lambda: executor.apply([intent])

    base, low, high = to(50_000), to(60_000), to(72_000)
    kept = [measured("raise from the base, or give back", (low, base))]
    low()
    kept.append(measured("raise or lower what is held", (high, low)))
    executor.apply([tree.intent(f"{PODS[-1]}/c{number}", Knob.QUOTA, 70_000) for number in range(1, OTHERS + 1)])
    kept.append(measured(f"the same while {OTHERS} others are held", (high, low)))
    measured(f"look at {OTHERS + 1} held knobs, once a tick", (executor.watch,), rounds=200)
    return max(kept) <= BOUND_US


def main() -> int:
    with knob_tree(os.getpid()) as tree, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        print(f"{time.strftime('%Y-%m-%d')}  {os.uname().release}, cgroup v{tree.has(Knob.QUOTA)}")
        for name in (*PODS, *(f"{PODS[-1]}/c{number}" for number in range(OTHERS + 1))):
            tree.make(name)
        tree.group(PODS[-1]).set_quota(20_000_000)
        with Executor.open(tree.host, Path(folder) / "journal") as executor:
            kept = run(tree, executor)
            executor.restore()
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
