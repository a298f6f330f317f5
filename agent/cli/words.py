"""Settings, inputs, outcomes and times in words. Pure."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from agent.cli.text import duration, size
from agent.control import CACHE_KNOBS, DEVICE_KNOBS, NETWORK_KNOBS, Knob, KnobValue, Outcome, Result
from agent.quantity import RATE, format_quantity
from agent.units import NS_PER_MS, NS_PER_S, NS_PER_US

_ON_OFF = {0: "off", 1: "on"}
_TIME_UNITS = {"ns": 1, "us": NS_PER_US, "ms": NS_PER_MS, "s": NS_PER_S}


def knob_value(knob: Knob, value: KnobValue) -> str:
    """As its owner would say it. us per period become ms, CPUs ranges."""
    if value is None and knob in DEVICE_KNOBS:
        return "its owner's qdiscs"
    if value is None and knob in CACHE_KNOBS:
        return "no partition"
    if knob is Knob.CACHE_WAYS and isinstance(value, tuple):
        return f"{value[0]}-{value[1]} %"
    if knob in NETWORK_KNOBS and isinstance(value, int):
        return format_quantity(value, RATE)
    if knob is Knob.CPUSET:
        return cpu_ranges(value) if isinstance(value, tuple) and value else "as its parent"
    if value is None:
        return "no limit"
    if isinstance(value, tuple):
        return str(value)
    if knob in (Knob.QUOTA, Knob.BURST):
        return duration(value * NS_PER_US)
    if knob in (Knob.IDLE, Knob.FREEZE):
        return _ON_OFF.get(value, str(value))
    return str(value)


def cpu_ranges(cpus: Sequence[int]) -> str:
    """0-3,6"""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][-1] == cpu - 1:
            parts[-1][1:] = [cpu]
        else:
            parts.append([cpu])
    return ",".join("-".join(map(str, part)) for part in parts)


def change(outcome: Outcome) -> str:
    """What was turned from what to what, and what came of it: `quota 50ms -> 60ms: applied`."""
    knob = outcome.intent.knob
    wanted, before = knob_value(knob, outcome.intent.value), knob_value(knob, outcome.before)
    turned = f"{knob} {before} -> {wanted}"
    match outcome.result:
        case Result.APPLIED if outcome.after != outcome.intent.value:
            return f"{turned}: applied, reads back as {knob_value(knob, outcome.after)}"
        case Result.REFUSED:
            return f"{turned}: refused{_by_kernel(outcome)}"
        case Result.UNCHANGED:
            return f"{knob} {wanted}: was so already"
        case Result.DRY_RUN:
            return f"{knob} -> {wanted}: not written, dry run"
        case Result.FOREIGN:
            return f"{knob} -> {wanted}: not written, somebody else has set it to {before}"
        case Result.GONE:
            return f"{knob} -> {wanted}: the group is gone"
        case Result.UNSUPPORTED:
            return f"{knob} -> {wanted}: this host has no such setting{_by_kernel(outcome)}"
        case _:
            return f"{turned}: {outcome.result}"


def _by_kernel(outcome: Outcome) -> str:
    code = f" [{errno.errorcode.get(outcome.errno, outcome.errno)}]" if outcome.errno is not None else ""
    return code + (f", the kernel says: {outcome.kernel_text}" if outcome.kernel_text else "")


def inputs_in_words(inputs: Mapping[str, float | str]) -> str:
    """`wait_p95_ns` = 4.1e6 becomes `wait_p95 4.1ms`."""
    return ", ".join(_input(name, value) for name, value in inputs.items())


def _input(name: str, value: float | str) -> str:
    if isinstance(value, str):
        return f"{name} {value}"
    if math.isnan(value):
        return f"{name} not known"
    if name.endswith("_pct_s"):
        return f"{name.removesuffix('_pct_s')} {value:.3g} % x s"
    if name.endswith("_bytes_per_s"):
        return f"{name.removesuffix('_bytes_per_s')} {size(value)}/s"
    if name.endswith("_per_s"):
        return f"{name.removesuffix('_per_s')} {value:.3g}/s"
    stem, _, unit = name.rpartition("_")
    if stem and unit in _TIME_UNITS:
        seconds = value * _TIME_UNITS[unit] / NS_PER_S
        return f"{stem} {elapsed(seconds) if seconds >= 60 else duration(value * _TIME_UNITS[unit])}"
    match unit if stem else "":
        case "bytes":
            return f"{stem} {size(value)}"
        case "pct":
            return f"{stem} {value:.3g}%"
        case "ratio":
            return f"{stem} {value * 100:.3g}%"
        case "cores":
            return f"{stem} {value:.2f} cores"
        case _:
            return f"{name} {value:g}"


def elapsed(seconds: float) -> str:
    """In the two largest units: 3min 20s; below a minute one: 4.2s."""
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    if (whole_s := round(seconds)) < 60:
        return f"{whole_s}s"
    if whole_s < 3600:
        return _two(whole_s, 60, "min", "s")
    if (minutes := round(seconds / 60)) < 24 * 60:
        return _two(minutes, 60, "h", "min")
    return _two(round(seconds / 3600), 24, "d", "h")


def _two(count: int, per_large: int, large: str, small: str) -> str:
    whole, rest = divmod(count, per_large)
    return f"{whole}{large}" + (f" {rest}{small}" if rest else "")


def clock_time(wall_ns: int, now_wall_ns: int) -> str:
    """Local time; with the day if it is not today's."""
    time, today = _local(wall_ns), _local(now_wall_ns)
    return f"{time:%H:%M:%S}" if time.date() == today.date() else f"{time:%Y-%m-%d %H:%M:%S}"


def _local(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns // NS_PER_S).astimezone()


def zone(wall_ns: int) -> str:
    """Name of the local time zone at that time."""
    return f"{_local(wall_ns):%Z}"


def listed(words: Iterable[str]) -> str:
    """a, b and c"""
    *most, last = [*words] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def counted(count: int, noun: str, plural: str = "") -> str:
    """1 step, 2 steps"""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
