"""Resident memory of the agent while 50 groups are created and removed per second.

Each group lives for about a second and has one short process in it. The agent is the real `slackwater run`, scraped
every 15 s. After a warm-up, which fills the profile's window and the classifier's cache, RSS must stay within 5 %.

    python -m benchmarks.agent_memory [--minutes 10]

Exit status 1: it grew, or groups were missed. Needs root, as agent_cost.py.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import deque
from pathlib import Path

from benchmarks.agent_process import Running, mib, running_agent, stop_cleanly_when_told
from tests.kernel.workloads import Group, own_tree

GROUPS_PER_S = 50
LIVES_S = 1.0
WORK_S = 0.001
WARM_UP_S, READ_S, PRINT_S, SCRAPE_S = 90, 5, 60, 15
FLAT_RATIO = 0.05


def short_process(group: Group) -> int:
    """A child in `group` that sleeps, works for a millisecond and ends."""
    pid = os.fork()
    if pid:
        return pid
    try:
        Path(group.path, "cgroup.procs").write_text("0")
        time.sleep(WORK_S)
        end_s = time.process_time() + WORK_S
        while time.process_time() < end_s:
            pass
    finally:
        os._exit(0)


class Churn:
    """Groups with ever new names; `stop` removes those that are left."""

    def __init__(self, tree: Group) -> None:
        self.made = 0
        self._tree = tree
        self._alive: deque[tuple[float, Group, int]] = deque()

    def step(self, now_s: float) -> None:
        """One more group, and away with those that have lived."""
        group = self._tree.child(f"churn-{self.made:06}.service")
        self.made += 1
        self._alive.append((now_s, group, short_process(group)))
        while self._alive[0][0] < now_s - LIVES_S:
            self._remove_oldest()

    def stop(self) -> None:
        while self._alive:
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        _, group, pid = self._alive.popleft()
        os.waitpid(pid, 0)
        group.remove()


def watch(agent: Running, churn: Churn, seconds: float) -> list[int]:
    """RSS in bytes, read every READ_S after the warm-up."""
    start_s = time.monotonic()
    read_s, print_s, scrape_s = start_s + WARM_UP_S, start_s, start_s
    resident: list[int] = []
    for number in range(int((seconds + WARM_UP_S) * GROUPS_PER_S)):
        now_s = time.monotonic()
        churn.step(now_s)
        if now_s >= scrape_s:
            agent.scrape()
            scrape_s += SCRAPE_S
        if now_s >= read_s:
            resident.append(agent.cost().rss_bytes)
            read_s += READ_S
        if now_s >= print_s:
            print(f"{now_s - start_s:6.0f} s {churn.made:7} groups {mib(agent.cost().rss_bytes):>10}", flush=True)
            print_s += PRINT_S
        time.sleep(max(0.0, start_s + (number + 1) / GROUPS_PER_S - time.monotonic()))
    return resident


def main() -> int:
    stop_cleanly_when_told()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10)
    seconds = 60 * parser.parse_args().minutes
    print(f"{time.strftime('%Y-%m-%d')}  {os.uname().release}, {os.cpu_count()} CPUs")
    with own_tree(os.getpid()) as tree, running_agent() as agent:
        churn = Churn(tree)
        start_s, start_cpu_s = time.monotonic(), agent.cost().cpu_s
        try:
            resident = watch(agent, churn, seconds)
        finally:
            churn.stop()
        cpu_pct = 100 * (agent.cost().cpu_s - start_cpu_s) / (time.monotonic() - start_s)
        lost = agent.metric("slackwater_agent_samples_lost_total")
        events_lost = agent.metric("slackwater_agent_events_lost_total")
    low, high = min(resident), max(resident)
    spread_ratio = (high - low) / low
    print(
        f"{churn.made} groups in {seconds + WARM_UP_S:.0f} s; RSS {mib(low)} to {mib(high)}, first {mib(resident[0])}, "
        f"last {mib(resident[-1])}: {100 * spread_ratio:.1f} %; CPU {cpu_pct:.2f} %; "
        f"lost: {lost:.0f} samples, {events_lost:.0f} events"
    )
    return 0 if spread_ratio <= FLAT_RATIO and not events_lost else 1


if __name__ == "__main__":
    raise SystemExit(main())
