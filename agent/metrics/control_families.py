"""The metric families of what the agent does, not sees: decisions and what came of them. Pure.

Without enforcement only those of the configuration are there.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.control import ControlReport, Result
from agent.metrics.family import Family, HostColumn, LabelColumn, Labels, View, counter, gauge, info
from agent.units import NS_PER_S

CONTROLLERS = ("burst", "suppress", "network", "cache")
OTHERS = "plugin"
"""All that other packages bring, added up."""
REACTION_QUANTILES = (0.5, 0.99, 1.0)


def _control(read: Callable[[ControlReport], float | None], labels: Labels = ()) -> HostColumn:
    return HostColumn(lambda view: None if view.control is None else read(view.control), labels)


def _outcomes(name: str, result: Result) -> HostColumn:
    def count(control: ControlReport) -> int:
        controllers = {controller for controller, _ in control.outcomes} - set(CONTROLLERS)
        names = controllers if name == OTHERS else {name}
        return sum(control.outcomes.get((each, result), 0) for each in names)

    return _control(count, (("controller", name), ("result", result.value)))


def _reaction(quantile: float) -> HostColumn:
    def seconds(control: ControlReport) -> float | None:
        ns = control.reaction_ns.get(quantile)
        return None if ns is None else ns / NS_PER_S

    return _control(seconds, (("quantile", f"{quantile:g}"),))


def _mode(view: View) -> Labels:
    return (("mode", view.control.mode.value if view.control else "off"),)


CONTROL_FAMILIES: tuple[Family, ...] = (
    info("enforce_info", "How far the agent goes: off, dry-run or on.", LabelColumn(_mode), labels=("mode",)),
    counter(
        "config_reloads_total",
        "Times that the configuration was read anew; refused: something was wrong with it, and the old one stayed.",
        HostColumn(lambda v: v.reloads.accepted_count, (("result", "accepted"),)),
        HostColumn(lambda v: v.reloads.refused_count, (("result", "refused"),)),
    ),
    gauge(
        "config_last_reload_refused",
        "1: the file on disk is not the configuration that is in force.",
        HostColumn(lambda v: int(v.reloads.last_was_refused)),
    ),
    gauge(
        "control_holds",
        "Reasons for which nothing is done now, by anybody or by one controller.",
        _control(lambda c: len(c.holds)),
    ),
    counter(
        "control_writes_total",
        "What became of the writes that were decided on.",
        *(_outcomes(name, result) for name in (*CONTROLLERS, OTHERS) for result in Result),
    ),
    counter("control_events_total", "What this node cannot cure, told upwards.", _control(lambda c: c.events)),
    gauge(
        "control_changed_settings",
        "Settings that are not as their owners set them.",
        _control(lambda c: c.changed_knobs),
    ),
    gauge(
        "control_foreign_settings",
        "Settings that are left alone because somebody else writes them too often.",
        _control(lambda c: c.foreign_knobs),
    ),
    counter(
        "control_foreign_writes_total",
        "Times that somebody else wrote what the agent had written: that is the base since.",
        _control(lambda c: c.foreign_writes),
    ),
    gauge(
        "control_reaction_seconds",
        "From a throttle in the kernel to its answer read back, quantiles of the last 1,000.",
        *map(_reaction, REACTION_QUANTILES),
    ),
    counter(
        "control_throttles_lost_total",
        "Throttles that came too fast to be answered.",
        _control(lambda c: c.throttles_lost),
    ),
    counter(
        "history_dropped_total",
        "Decisions that are not in the history.",
        _control(lambda c: c.history_dropped),
    ),
)
