"""The figures, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from demo.measure import STEP_S, Run

SERVICE, BATCH, LIMIT, TARGET, GREY = "#1b6ca8", "#e0a63f", "#8c2d19", "#c0182b", "#5a5a5a"
WARM_UP, MEASURED = "#f2f2f0", "#e2ebe2"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "black",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.titleweight": "bold",
}
GAP_S = 1.0
"""Between two runs on the common axis."""
DPI = 100


def draw_suppress(runs: Sequence[Run], target_ms: float, cpus: int, path: Path) -> None:
    """Latency, who has the CPU, and load over time, one run beside the other."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(3, 1, figsize=(10, 6.8), sharex=True, height_ratios=(4, 3, 1), layout="constrained")
        latency, cpu, load = axes
        _logarithmic(latency, "latency, ms")
        latency.axhline(
            target_ms, color=TARGET, linestyle="--", linewidth=1, label=f"target of the p95: {target_ms:g} ms"
        )
        cpu.set(ylabel=f"CPU, cores of {cpus}", ylim=(0, cpus * 1.3))
        load.set(ylabel="requests/s", xlabel="seconds")
        for run, offset_s in _side_by_side(runs, axes):
            middles_s = [offset_s + step.middle_s for step in run.steps]
            _latencies(latency, run, offset_s)
            _cores(cpu, run, offset_s, middles_s, cpus)
            load.step(*_offered(run, offset_s), where="mid", color=GREY, linewidth=1.2)
        load.set(ylim=0)
        latency.set_ylim(top=latency.get_ylim()[1] * 1.6)  # for the legend
        _legends(latency, cpu)
        figure.suptitle("An HTTP service beside batch work: the same requests in each phase")
        figure.savefig(path, dpi=DPI)
        plt.close(figure)


def draw_burst(runs: Sequence[Run], path: Path) -> None:
    """Each request's latency, the service's CPU and its throttled periods over time."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            3, 1, figsize=(10, 6.2), sharex=True, height_ratios=(4, 2, 1.2), layout="constrained"
        )
        latency, cpu, throttled = axes
        _logarithmic(latency, "latency, ms")
        cpu.set(ylabel="CPU, cores")
        throttled.set(ylabel="throttled\nperiods/s", xlabel="seconds", ylim=(0, 10))
        for run, offset_s in _side_by_side(runs, axes):
            due_s, latencies_ms = run.latencies.due_s + offset_s, run.latencies.latency_s * 1e3
            latency.scatter(due_s, latencies_ms, s=4, color=SERVICE, linewidths=0, label="a request")
            middles_s = [offset_s + step.middle_s for step in run.steps]
            cpu.plot(middles_s, [step.cores("service") for step in run.steps], color=SERVICE, label="used")
            _line_of_looks(cpu, run, offset_s, [look.quota_cores for look in run.looks], linewidth=1.5, label="quota")
            rates = [step.per_s(lambda look: look.nr_throttled) for step in run.steps]
            throttled.bar(middles_s, rates, width=0.4, color=TARGET)
        cpu.set_ylim(0, max(look.quota_cores or 0 for run in runs for look in run.looks) * 1.4)
        latency.set_ylim(top=latency.get_ylim()[1] * 1.6)
        _legends(latency, cpu)
        figure.suptitle("A service whose bursts exceed its CPU quota in some periods: the same requests in both phases")
        figure.savefig(path, dpi=DPI)
        plt.close(figure)


def _side_by_side(runs: Sequence[Run], axes: Sequence[Axes]) -> list[tuple[Run, float]]:
    """Each run with where it begins on the common axis; its place is shaded, darker where it is measured."""
    placed, begin_s = [], 0.0
    for run in runs:
        end_s = begin_s + run.measured_s[1]
        for ax in axes:
            ax.axvspan(begin_s, end_s, color=WARM_UP, linewidth=0, zorder=-2)
            ax.axvspan(begin_s + run.measured_s[0], end_s, color=MEASURED, linewidth=0, zorder=-1)
        top = axes[0].get_xaxis_transform()
        words = f"{run.name}\np99 {run.measured_ms(99):.3g} ms"
        axes[0].text((begin_s + end_s) / 2, 1.02, words, transform=top, ha="center", fontweight="bold")
        placed.append((run, begin_s))
        begin_s = end_s + GAP_S
    axes[0].set_xlim(0, begin_s - GAP_S)
    return placed


def _latencies(ax: Axes, run: Run, offset_s: float) -> None:
    for percentile, width, alpha in ((50, 1, 0.5), (95, 1.8, 1)):
        values = [run.latency_ms(percentile, *interval_s) for interval_s in run.intervals_s]
        middles_s = [offset_s + begin_s + STEP_S / 2 for begin_s, _ in run.intervals_s]
        ax.plot(middles_s, values, color=SERVICE, linewidth=width, alpha=alpha, label=f"p{percentile} of half a second")


def _cores(ax: Axes, run: Run, offset_s: float, middles_s: Sequence[float], cpus: int) -> None:
    layers = [[step.cores(name) or 0.0 for step in run.steps] for name in ("service", "batch")]
    labels = ["service", "batch work"]
    ax.stackplot(middles_s, *layers, colors=[SERVICE, BATCH], alpha=0.8, linewidth=0, labels=labels)
    limits = [look.batch_limit_cores for look in run.looks]
    _line_of_looks(ax, run, offset_s, limits, linewidth=1.5, label="limit of the batch work")
    idle = [cpus * 1.05 if look.batch_is_idle else None for look in run.looks]
    _line_of_looks(ax, run, offset_s, idle, linewidth=4, label="batch work has idle priority")


def _line_of_looks(
    ax: Axes, run: Run, offset_s: float, values: Sequence[float | None], *, linewidth: float, label: str
) -> None:
    """A setting: it is what it is until the next look."""
    times_s = [offset_s + look.at_s for look in run.looks]
    known = [math.nan if value is None else value for value in values]
    ax.step(times_s, known, where="post", color=LIMIT, linewidth=linewidth, label=label)


def _offered(run: Run, offset_s: float) -> tuple[list[float], list[float]]:
    middles_s = [offset_s + begin_s + STEP_S / 2 for begin_s, _ in run.intervals_s]
    return middles_s, [run.requests(*interval_s) / STEP_S for interval_s in run.intervals_s]


def _logarithmic(ax: Axes, label: str) -> None:
    ax.set(yscale="log", ylabel=label)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _legends(*axes: Axes) -> None:
    """Each label once, though every run has drawn it."""
    for ax in axes:
        by_label = {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        ax.legend(by_label.values(), by_label, loc="upper left", ncols=len(by_label), borderaxespad=0)
