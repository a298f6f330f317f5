"""The status of the agent as text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.cli.text import duration, fitted, size
from agent.cli.words import clock_time, counted, elapsed, knob_value, listed, zone
from agent.config_explain import one_line
from agent.control import Enforce
from agent.history.entries import Moment
from agent.quantity import RATE, format_quantity
from agent.status import (
    DecisionStatus,
    DeviceStatus,
    HistoryStatus,
    HoldStatus,
    KnobStatus,
    Life,
    SliStatus,
    Status,
)
from agent.status_partitions import PartitionStatus
from agent.units import NS_PER_S

_PATH_WIDTH = 64
_RESTORE = "`slackwater restore` puts back what is still so, and so does the next start"


def lines(status: Status | None, life: Life, now: Moment, path: Path, width: int) -> Iterator[str]:
    """What is true now first, what was true then after it."""
    if status is None:
        yield f"no agent is running ({path} does not exist)"
        return
    yield _life(status, life, now)
    if life is Life.DEAD:
        yield from _left_behind(status)
        return
    yield _enforce(status)
    for hold in status.holds:
        yield _hold(hold, now)
    if not status.holds and status.enforce is not Enforce.OFF:
        yield "nothing holds it"
    yield from _knobs(status)
    for device in status.devices:
        yield device_line(device)
    for partition in status.partitions:
        yield partition_now(partition)
    for sli in status.slis:
        yield _sli(sli)
    if status.history:
        yield _history(status.history)
    if status.decisions:
        yield "last decisions:"
        for decision in status.decisions:
            yield fitted(_decision(decision, now), width).rstrip()


def _life(status: Status, life: Life, now: Moment) -> str:
    pid, age_s = status.process.pid, (now.wall_ns - status.written_wall_ns) / NS_PER_S
    match life:
        case Life.DEAD:
            written = clock_time(status.written_wall_ns, now.wall_ns)
            return (
                f"no agent is running: the last one, pid {pid}, was killed or crashed after {written} "
                f"{zone(now.wall_ns)} ({elapsed(max(age_s, 0))} ago)"
            )
        case Life.SILENT:
            state = f"hangs: pid {pid} is alive, but has said nothing for {elapsed(age_s)}; what follows is as of then"
        case Life.RUNNING:
            state = f"runs: pid {pid}"
    since = f"since {clock_time(status.started_wall_ns, now.wall_ns)} {zone(now.wall_ns)}"
    long = elapsed(max(now.wall_ns - status.started_wall_ns, 0) / NS_PER_S)
    return f"slackwater {status.version} {state}, {since} ({long}), watches {counted(status.groups, 'group')}"


def _enforce(status: Status) -> str:
    meaning = {
        Enforce.OFF: "it only measures",
        Enforce.DRY_RUN: "it decides, and writes nothing",
        Enforce.ON: "it acts",
    }[status.enforce]
    of_each = listed(f"{name} {mode}" for name, mode in status.controllers.items())
    return f"enforce {status.enforce}: {meaning}" + (f" ({of_each})" if of_each else "")


def _hold(hold: HoldStatus, now: Moment) -> str:
    long = elapsed(max(now.wall_ns - hold.since_wall_ns, 0) / NS_PER_S)
    who = f"{hold.controller} does nothing" if hold.controller else "nothing is done"
    return f"{who}, for {long} now, because {one_line(hold.reason)}"


def settings_now(knobs: Sequence[KnobStatus]) -> str:
    """What of these settings is not as its owner set it, in one line."""
    return "; ".join(map(_setting, knobs)) or "all settings are as their owners set them"


def _setting(status: KnobStatus) -> str:
    path = fitted(status.path, min(len(status.path), _PATH_WIDTH)) if status.path else f"group {status.group_id} (gone)"
    if status.is_foreign:
        return f"{path}: {status.knob} is left alone, because others write it"
    now, owners = knob_value(status.knob, status.current), knob_value(status.knob, status.base)
    return f"{path}: {status.knob} is {now}, its owner's is {owners}"


def _knobs(status: Status) -> Iterator[str]:
    changed = sum(knob.current != knob.base for knob in status.knobs)
    yield f"{counted(changed, 'setting')} changed" + (":" if changed else ": all are as their owners set them")
    yield from (f"  {_setting(knob)}" for knob in status.knobs)


def _left_behind(status: Status) -> Iterator[str]:
    changed = [knob for knob in status.knobs if knob.current != knob.base]
    if changed:
        yield f"it had changed {counted(len(changed), 'setting')}; {_RESTORE}:"
        yield from (f"  {_setting(knob)}" for knob in changed)
    else:
        yield "it had changed no setting when it last wrote"


def device_line(device: DeviceStatus) -> str:
    """va: 1 Gbit/s; system 1.2 Mbit/s, LS 200 Mbit/s, BE 100 Mbit/s (12 dropped)"""
    link = "speed not known" if device.link_bytes_per_s is None else format_quantity(device.link_bytes_per_s, RATE)
    if not device.is_ours:
        return f"device {one_line(device.name)}: {link}, not shaped"
    classes = []
    for name, rate in device.class_bytes_per_s.items():
        dropped = device.class_dropped_packets.get(name)
        text = "-" if rate is None else format_quantity(rate, RATE)
        classes.append(f"{name} {text}" + (f" ({dropped} dropped)" if dropped else ""))
    return f"device {one_line(device.name)}: {link}; {', '.join(classes)}"


def partition_now(partition: PartitionStatus) -> str:
    """partition BE: 0-30 % of the ways, 20 % of the bandwidth; 3.1MiB in the cache, 640MiB/s of memory; 2 groups"""
    has, moves = [], []
    if partition.ways_pct is not None:
        has.append(f"{partition.ways_pct[0]}-{partition.ways_pct[1]} % of the ways")
    if partition.bandwidth is not None:
        has.append(f"{partition.bandwidth} {'MiB/s' if partition.is_mib_per_s else '%'} of the bandwidth")
    if partition.llc_bytes is not None:
        moves.append(f"{size(partition.llc_bytes)} in the cache")
    if partition.total_bytes_per_s is not None:
        moves.append(f"{size(partition.total_bytes_per_s)}/s of memory")
    parts = [", ".join(has) or ("" if partition.id is None else "no limit"), ", ".join(moves)]
    if partition.id is not None and partition.name not in partition.members:
        parts.append(counted(len(partition.members), "group"))
    return f"partition {one_line(partition.name)}: {'; '.join(filter(None, parts))}"


def _sli(sli: SliStatus) -> str:
    target = f"target {duration(sli.target_ns)}"
    if sli.value_ns is None:
        return f"sli {sli.name}: not known ({one_line(sli.error or 'not read yet')}), {target}"
    verdict = "past it" if sli.value_ns > sli.target_ns else "within"
    return f"sli {sli.name}: {duration(sli.value_ns)}, {target}: {verdict}"


def _history(history: HistoryStatus) -> str:
    text = f"history: {counted(history.written, 'entry', 'entries')} since the start"
    if history.dropped:
        text += f", {history.dropped} lost"
    return text + (f", not written now: {one_line(history.error)}" if history.error else "")


def _decision(decision: DecisionStatus, now: Moment) -> str:
    cause = f"{decision.cause}: " if decision.cause and not decision.gives_back else ""
    back = " gives back" if decision.gives_back else ""
    path = f" {one_line(decision.path)}" if decision.path else ""
    came_of_it = listed(decision.results)
    return (
        f"  {clock_time(decision.wall_ns, now.wall_ns)}  {decision.controller}{back}{path}: "
        f"{cause}{one_line(decision.reason)}" + (f" ({came_of_it})" if came_of_it else "")
    )
