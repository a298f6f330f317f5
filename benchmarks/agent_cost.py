"""CPU and memory of the agent itself, beside 150 and 1,000 groups that make 20,000 context switches a second.

The real `slackwater run`: no terminal, default configuration (tick of 1 s, /metrics on), scraped every 15 s. In each
group a pair of processes wakes now and then (agent_load.c). CPU time is that of the process, of all its threads.

    python -m benchmarks.agent_cost [--groups 150 1000] [--seconds 60]

Bounds: 1 % of a core and 64 MiB at 150 groups, 4 % and 96 MiB at 1,000, nothing lost. Exit status 1: not kept.
Needs root: the groups are made below one of its own in the cpu hierarchy and removed at the end.
"""

from __future__ import annotations

import argparse
import os
import time

from benchmarks.agent_process import Running, host_switches, loaded_groups, mib, running_agent, stop_cleanly_when_told
from tests.kernel.workloads import own_tree

SWITCHES_PER_S = 20_000
WARM_UP_S, SCRAPE_S = 10, 15
BOUNDS = {150: (1.0, 64), 1000: (4.0, 96)}
"""Groups: CPU in % of a core, RSS in MiB."""


def watch(agent: Running, seconds: float) -> tuple[float, float]:
    """(CPU in % of a core, context switches of the host per second), scraping meanwhile."""
    start_s, start_cpu_s, start_switches = time.monotonic(), agent.cost().cpu_s, host_switches()
    while (left_s := start_s + seconds - time.monotonic()) > 0:
        time.sleep(min(left_s, SCRAPE_S))
        agent.scrape()
    elapsed_s = time.monotonic() - start_s
    cpu_s = agent.cost().cpu_s - start_cpu_s
    return 100 * cpu_s / elapsed_s, (host_switches() - start_switches) / elapsed_s


def measure(count: int, seconds: float, settings: str) -> bool:
    """One row of the table; whether the bounds are kept."""
    with (
        own_tree(os.getpid()) as tree,
        loaded_groups(tree, count, SWITCHES_PER_S),
        running_agent(settings) as agent,
    ):
        time.sleep(WARM_UP_S)
        cpu_pct, switches_per_s = watch(agent, seconds)
        cost = agent.cost()
        lost = agent.metric("slackwater_agent_samples_lost_total")
        sampling = agent.metric("slackwater_agent_sampling_factor")
        seen = agent.scrape().count(b"slackwater_group_cpu_used_cores{")
    print(
        f"{count:6} {seen:6} {switches_per_s:10.0f} {cpu_pct:7.2f} {mib(cost.rss_bytes):>10} {mib(cost.pss_bytes):>10} "
        f"{lost:6.0f} {sampling:9.0f}",
        flush=True,
    )
    cpu_bound_pct, rss_bound_mib = BOUNDS.get(count, (float("inf"), float("inf")))
    return cpu_pct <= cpu_bound_pct and cost.rss_bytes <= rss_bound_mib * (1 << 20) and not lost and sampling == 1


def main() -> int:
    stop_cleanly_when_told()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--groups", type=int, nargs="+", default=list(BOUNDS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--settings", default="", help="TOML tables of the configuration")
    arguments = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}  {os.uname().release}, {os.cpu_count()} CPUs")
    print("groups  shown switches/s   CPU %        RSS        PSS   lost  sampling")
    kept = [measure(count, arguments.seconds, arguments.settings) for count in arguments.groups]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    raise SystemExit(main())
