"""The metric families of services' own figures, which rules may be about; only with [[sli]]. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from agent.metrics.family import Family, Labels, Series, View, counter, gauge
from agent.units import NS_PER_S


def _values(view: View) -> Iterator[tuple[Labels, float]]:
    for sli in view.control.slis if view.control else ():
        if sli.value_ns is not None:
            yield (("sli", sli.name),), sli.value_ns / NS_PER_S


def _targets(view: View) -> Iterator[tuple[Labels, float]]:
    for sli in view.control.slis if view.control else ():
        yield (("sli", sli.name),), sli.target_ns / NS_PER_S


def _failed(view: View) -> Iterator[tuple[Labels, float]]:
    for sli in view.control.slis if view.control else ():
        for problem, count in sli.failed.items():
            yield (("sli", sli.name), ("problem", problem)), count


SLI_FAMILIES: tuple[Family, ...] = (
    gauge(
        "sli_seconds",
        "A service's own figure as it was last read; one that is stale is not known.",
        Series(_values, ("sli",)),
    ),
    gauge("sli_target_seconds", "What it is not to exceed, as configured.", Series(_targets, ("sli",))),
    counter(
        "sli_failed_reads_total",
        "Readings of it that gave no figure, and why.",
        Series(_failed, ("sli", "problem")),
    ),
)
