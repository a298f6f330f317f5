"""Part 1: a service beside batch work: alone, unprotected, protected by priority first, protected by quota only.

In each phase the same service gets the same requests: a low load, then a high one, whose last MEASURED_S are compared.
The batch work has more threads than there are CPUs and would take all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.agent import start_agent
from demo.figure import draw_suppress
from demo.groups import Groups, make_groups, path_of
from demo.measure import STEP_S, Run, Scene, poisson, watch
from demo.programs import Programs
from demo.report import PERCENTILES, table
from tests.kernel.workloads import Group

CPUS = len(os.sched_getaffinity(0))
WORK_MS = 2.0
"""CPU time of a request, and of a unit of the batch work."""
LOW_PCT, HIGH_PCT = 10, 40
"""Of all CPUs that the requests need."""
LOW_S, MEASURED_S = 3.0, 8.0
TICK_S, WINDOW_S = 0.5, 2
"""Of the agent: quicker than its defaults, for this to fit into a minute."""
TARGET_MS = 10.0
"""For the service's p95."""


@dataclass(frozen=True)
class Phase:
    """`rungs`: what the agent may take from the batch work; None: there is no agent."""

    name: str
    settle_s: float
    """At high load, before what is measured."""
    has_batch: bool = True
    rungs: tuple[str, ...] | None = None


PHASES = (
    Phase("alone", 1, has_batch=False),
    Phase("unprotected", 1),
    Phase("protected", 8, rungs=("idle", "quota")),
    Phase("quota only", 16, rungs=("quota",)),
)


def config(groups: Groups, port: int, rungs: Sequence[str]) -> str:
    """Of the agent. It watches the service's own figure. All of the machine may be used (threshold_pct): what is taken
    is taken in steps, by what is seen; the priority is not given back within the minute that this lasts (calm_s).
    """
    service, batch = path_of(groups.service), path_of(groups.batch)
    return f"""
agent = {{tick_s = {TICK_S}, window_s = 10}}
metrics = {{enabled = false}}
enforce = {{mode = "on"}}
burst = {{enforce = "off"}}
suppress = {{rungs = {json.dumps(rungs)}, calm_s = 120, threshold_pct = 100}}

[[class]]
match = "{service}"
class = "LS"

[[class]]
match = "{batch}"
class = "BE"

[[sli]]
name = "demo"
url = "http://127.0.0.1:{port}/metrics"
metric = "demo_request_seconds"
quantile = 0.95
target = "{TARGET_MS:g}ms"
group = "{service}"
interval_s = {TICK_S}

[[rule]]
name = "service-is-slow"
match = "{service}"
signal = "sli:demo"
window_s = {WINDOW_S}
"""


def schedule(phase: Phase) -> NDArray[np.float64]:
    """When requests are due."""
    high_s = LOW_S + phase.settle_s
    low_per_s, high_per_s = (pct / 100 * CPUS / WORK_MS * 1e3 for pct in (LOW_PCT, HIGH_PCT))
    return np.concatenate(
        [
            poisson(0, low_per_s, 0, LOW_S),
            poisson(1, high_per_s, LOW_S, high_s),
            poisson(2, high_per_s, high_s, high_s + MEASURED_S),
        ]
    )


def run_phase(phase: Phase, tree: Group, programs: Programs) -> Run:
    rounds = int(WORK_MS * programs.rounds_per_ms())
    groups = make_groups(tree)
    service = programs.service(groups.service, CPUS, rounds)
    batch = programs.batch(groups.batch, CPUS * 2, rounds) if phase.has_batch else None
    agent = start_agent(programs, groups.agent, config(groups, service.port, phase.rungs)) if phase.rungs else None
    scene = Scene(groups, service, batch, agent)
    load = programs.load(groups.load, service.port, schedule(phase))
    begin_s = LOW_S + phase.settle_s
    return watch(phase.name, scene, load, (begin_s, begin_s + MEASURED_S))


def draw(runs: Sequence[Run], path: Path) -> None:
    draw_suppress(runs, TARGET_MS, CPUS, path)


def summary(runs: Sequence[Run]) -> str:
    """What is measured, a row per phase, and the ratios."""
    header = (
        *("phase", "p50 ms", "p95 ms", "p99 ms", "requests", "service cores"),
        *("batch cores", "of what is left", "batch units/s", "past target", "actions"),
    )
    rows = [
        (
            run.name,
            *(run.measured_ms(percentile) for percentile in PERCENTILES),
            run.requests(*run.measured_s),
            run.measured.cores("service"),
            run.measured.cores("batch"),
            f"{batch_share_pct(run):.0f} %" if run.measured.cores("batch") else None,
            run.measured.per_s(lambda look: look.batch_units),
            f"{past_target_s(run):g} of {run.measured_s[1] - LOW_S:g} s",
            len(run.actions),
        )
        for run in runs
    ]
    alone = runs[0]
    ratios = ", ".join(f"{run.name} {run.measured_ms(99) / alone.measured_ms(99):.2f}" for run in runs[1:])
    busy = (
        "\nAlone, too, it was past its target: this host is busy with something else." if past_target_s(alone) else ""
    )
    return f"{table(header, rows)}\n\np99 compared with alone: {ratios}{busy}"


def past_target_s(run: Run) -> float:
    """For how long of the high load the p95 was."""
    intervals_s = [interval_s for interval_s in run.intervals_s if interval_s[0] >= LOW_S]
    return STEP_S * sum(run.latency_ms(95, *interval_s) > TARGET_MS for interval_s in intervals_s)


def batch_share_pct(run: Run) -> float:
    """Of the CPU time that the service and the load leave."""
    used_cores = {name: run.measured.cores(name) or 0.0 for name in ("service", "load", "batch")}
    return 100 * used_cores["batch"] / (CPUS - used_cores["service"] - used_cores["load"])
