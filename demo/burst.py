"""Part 2: a service with a quota whose requests come in bursts: without and with CPU burst.

In some periods a burst needs more than the quota, on average it needs far less. Without burst the rest of it waits for
the next period although the CPUs are idle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.agent import start_agent
from demo.figure import draw_burst
from demo.groups import make_groups, path_of
from demo.measure import STEP_S, Run, Scene, Step, poisson, watch
from demo.programs import Programs
from demo.report import PERCENTILES, table
from tests.kernel.workloads import Group

WORK_MS = 1.0
THREADS = 2
QUOTA_CORES, PERIOD_US = 0.4, 100_000
BURST_EVERY_S, BURST_WITHIN_S = 0.53, 0.02
"""Not a multiple of the period: bursts begin anywhere in it."""
BURST_REQUESTS = 60
"""60 ms of work where a period has 40 ms."""
BACKGROUND_PER_S = 20
MEASURED_S = 16.0
BUDGET_WINDOW_S = 10.0


@dataclass(frozen=True)
class Phase:
    name: str
    settle_s: float
    """Before what is measured."""
    has_agent: bool


PHASES = (Phase("without burst", 2, has_agent=False), Phase("with burst", 5, has_agent=True))


def config(service: Group) -> str:
    """Of the agent."""
    return f"""
agent = {{tick_s = 0.5, window_s = 10}}
metrics = {{enabled = false}}
enforce = {{mode = "on"}}
suppress = {{enforce = "off"}}

[[class]]
match = "{path_of(service)}"
class = "LS"
"""


def schedule(phase: Phase) -> NDArray[np.float64]:
    """What is measured is the same in each phase, and begins with a burst."""
    end_s = phase.settle_s + MEASURED_S
    begins_s = np.arange(phase.settle_s % BURST_EVERY_S, end_s - BURST_WITHIN_S, BURST_EVERY_S)
    bursts = [begin_s + np.linspace(0, BURST_WITHIN_S, BURST_REQUESTS) for begin_s in begins_s]
    background = [
        poisson(0, BACKGROUND_PER_S, 0, phase.settle_s),
        poisson(1, BACKGROUND_PER_S, phase.settle_s, end_s),
    ]
    return np.sort(np.concatenate([*bursts, *background]))


def run_phase(phase: Phase, tree: Group, programs: Programs) -> Run:
    rounds = int(WORK_MS * programs.rounds_per_ms())
    groups = make_groups(tree)
    groups.service.set_quota(int(QUOTA_CORES * PERIOD_US), PERIOD_US)
    service = programs.service(groups.service, THREADS, rounds)
    agent = start_agent(programs, groups.agent, config(groups.service)) if phase.has_agent else None
    scene = Scene(groups, service, None, agent)
    load = programs.load(groups.load, service.port, schedule(phase))
    return watch(phase.name, scene, load, (phase.settle_s, phase.settle_s + MEASURED_S))


def draw(runs: Sequence[Run], path: Path) -> None:
    draw_burst(runs, path)


def summary(runs: Sequence[Run]) -> str:
    """What is measured, a row per phase, and the changes."""
    header = (
        *("phase", "p50 ms", "p95 ms", "p99 ms", "requests"),
        *("throttled", "of periods", "mean cores", "highest in 10 s", "actions"),
    )
    rows = [
        (
            run.name,
            *(run.measured_ms(percentile) for percentile in PERCENTILES),
            run.requests(*run.measured_s),
            throttled(run),
            run.measured.last.nr_periods - run.measured.first.nr_periods,
            run.measured.cores("service"),
            highest_mean_cores(run),
            len(run.actions),
        )
        for run in runs
    ]
    without, with_ = runs[0], runs[-1]
    changes = (
        f"throttled periods {_change(throttled(without), throttled(with_))}, "
        f"p99 {_change(without.measured_ms(99), with_.measured_ms(99))}, the service's quota: {QUOTA_CORES} cores"
    )
    return f"{table(header, rows)}\n\n{changes}"


def throttled(run: Run) -> int:
    """Periods, of those measured."""
    return run.measured.last.nr_throttled - run.measured.first.nr_throttled


def _change(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.0f} %" if before and math.isfinite(before) else "-"


def highest_mean_cores(run: Run) -> float:
    """The service's use of the CPU over the BUDGET_WINDOW_S in which it was highest."""
    steps = round(BUDGET_WINDOW_S / STEP_S)
    spans = [Step(*span) for span in zip(run.looks, run.looks[steps:], strict=False)]
    return max(span.cores("service") or 0.0 for span in spans)
