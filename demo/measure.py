"""One run of the load and what the harness sees meanwhile, twice a second; percentiles, sums and series of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.agent import Action, Agent
from demo.groups import Groups, cpu_stat, is_idle, quota_cores
from demo.programs import Batch, Latencies, Load, Program, Service

STEP_S = 0.5
SEED = 4


@dataclass(frozen=True)
class Look:
    """At one moment. Sums since each program's start; knobs as their files have them."""

    at_s: float
    """After the load's first moment."""
    cpu_s: Mapping[str, float]
    """By program."""
    batch_units: int
    batch_limit_cores: float | None
    batch_is_idle: bool
    quota_cores: float | None
    """Of the service."""
    nr_periods: int
    nr_throttled: int
    """Of the service."""


@dataclass(frozen=True)
class Step:
    """From one look to a later one."""

    first: Look
    last: Look

    @property
    def middle_s(self) -> float:
        return (self.first.at_s + self.last.at_s) / 2

    def per_s(self, what: Callable[[Look], float]) -> float:
        """The change of a sum."""
        return (what(self.last) - what(self.first)) / (self.last.at_s - self.first.at_s)

    def cores(self, program: str) -> float | None:
        """None: it did not take part."""
        return self.per_s(lambda look: look.cpu_s[program]) if program in self.first.cpu_s else None


@dataclass(frozen=True)
class Run:
    """`measured_s`: begin and end of what is reported; before it is warm-up."""

    name: str
    latencies: Latencies
    looks: tuple[Look, ...]
    actions: tuple[Action, ...]
    measured_s: tuple[float, float]

    @property
    def measured(self) -> Step:
        begin, end = (min(self.looks, key=lambda look: abs(look.at_s - at_s)) for at_s in self.measured_s)
        return Step(begin, end)

    @property
    def steps(self) -> list[Step]:
        """From look to look."""
        return [Step(first, last) for first, last in itertools.pairwise(self.looks)]

    @property
    def intervals_s(self) -> list[tuple[float, float]]:
        """Of STEP_S each, from the load's first moment to the end of what is measured."""
        return [(number * STEP_S, (number + 1) * STEP_S) for number in range(round(self.measured_s[1] / STEP_S))]

    def latency_ms(self, percentile: float, begin_s: float, end_s: float) -> float:
        """Of the requests due in this interval; NaN: there are none."""
        chosen = self.latencies.latency_s[self._due(begin_s, end_s)]
        return float(np.percentile(chosen, percentile, method="higher")) * 1e3 if len(chosen) else float("nan")

    def measured_ms(self, percentile: float) -> float:
        return self.latency_ms(percentile, *self.measured_s)

    def requests(self, begin_s: float, end_s: float) -> int:
        """Due in this interval."""
        return int(self._due(begin_s, end_s).sum())

    def _due(self, begin_s: float, end_s: float) -> NDArray[np.bool_]:
        return (self.latencies.due_s >= begin_s) & (self.latencies.due_s < end_s)


@dataclass(frozen=True)
class Scene:
    """Who takes part. Without batch work or agent: None."""

    groups: Groups
    service: Service
    batch: Batch | None
    agent: Agent | None

    @property
    def programs(self) -> dict[str, Program]:
        everybody = {"service": self.service, "batch": self.batch, "agent": self.agent}
        return {name: program for name, program in everybody.items() if program}

    def look(self, load: Load) -> Look:
        stat = cpu_stat(self.groups.service)
        return Look(
            time.monotonic() - load.start_s,
            {name: program.cpu_s() for name, program in {**self.programs, "load": load}.items()},
            self.batch.units() if self.batch else 0,
            quota_cores(self.groups.batch),
            is_idle(self.groups.batch),
            quota_cores(self.groups.service),
            stat["nr_periods"],
            stat["nr_throttled"],
        )


def watch(name: str, scene: Scene, load: Load, measured_s: tuple[float, float]) -> Run:
    """Look every STEP_S until the end of what is measured; the load's end is waited for. All others live until then."""
    looks = []
    for number in range(round(measured_s[1] / STEP_S) + 1):
        time.sleep(max(0.0, load.start_s + number * STEP_S - time.monotonic()))
        looks.append(scene.look(load))
        for who, program in scene.programs.items():
            if program.has_ended():
                raise SystemExit(f"the {who} has ended, status {program.popen.wait()}")
    load.popen.wait()
    actions = scene.agent.actions(load.start_s) if scene.agent else ()
    return Run(name, load.latencies(), tuple(looks), actions, measured_s)


def poisson(seed: int, rate_per_s: float, begin_s: float, end_s: float) -> NDArray[np.float64]:
    """Times of arrivals that know nothing of one another; the same for the same seed and length, wherever it begins."""
    random = np.random.default_rng((SEED, seed))
    count = random.poisson(rate_per_s * (end_s - begin_s))
    return begin_s + np.sort(random.uniform(0, end_s - begin_s, count))
