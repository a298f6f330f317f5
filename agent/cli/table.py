"""One tick as the lines of a terminal. Pure: nothing is printed here.

Columns are dropped, the least telling first, until the table fits the width; rows that do not fit the height are
counted below it. Plain strings, because the table is drawn every tick and counts as the agent's own cost: 45 rows
take 3.4 ms, as a table of the rich library 48 ms (2026-11-22, development machine).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agent.cli.text import ABSENT, bits_per_s, decimal, duration, fitted, percent, ratio, size
from agent.discovery.rules import glob_regex
from agent.records import Profile, Source, Tick
from agent.status_partitions import PartitionStatus
from agent.units import NS_PER_S

SortKey = Literal["wait", "cpu", "throttle", "name"]
SORT_KEYS: tuple[SortKey, ...] = ("wait", "cpu", "throttle", "name")
HEADER_LINES = 3
_PATH_WIDTH_MIN, _CULPRIT_WIDTH_MIN = 20, 12


@dataclass(frozen=True, slots=True)
class View:
    """What is shown, and how large: characters and lines of the terminal; None: as many lines as there are rows."""

    width: int
    height: int | None
    sort: SortKey = "wait"
    filter: str = ""
    """A glob on the path if it begins with "/", else a part of the path."""
    footer: str = ""
    notes: tuple[str, ...] = ()
    """A line for each network device that is shaped, and each partition of the caches; they stand below the header."""
    sends_bytes_per_s: Mapping[str, float] | None = None
    """Of groups, by path; None: the network is not looked at."""
    partitions: Mapping[str, PartitionStatus] | None = None
    """Of groups that have one alone, by path; None: there are no counters of caches."""


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    width: int
    rank: int
    """The column with the highest rank is dropped first; 0 stays."""
    cell: Callable[[Tick, Profile, int], str]
    is_known: Callable[[Profile], bool] = lambda profile: True
    """What nobody looks at has no column."""


def _main_share(profile: Profile, row: int) -> float:
    culprit = profile.main_culprit[row]
    return culprit.share_ratio if culprit else math.nan


def _cpi(profile: Profile, row: int) -> float:
    return float(profile.cpi.cycles_per_instruction[row]) if profile.cpi else math.nan


_COLUMNS = (
    _Column("class", 6, 2, lambda t, p, i: str(t.groups[i].qos)),
    _Column("cores", 6, 0, lambda t, p, i: decimal(float(p.cpu_used_cores[i]))),
    _Column("wait/s", 6, 5, lambda t, p, i: duration(ratio(float(t.wait.sum_ns[i]), t.interval_ns) * NS_PER_S)),
    _Column("p50", 6, 7, lambda t, p, i: duration(float(t.wait.p50_ns[i]))),
    _Column("p95", 6, 8, lambda t, p, i: duration(float(t.wait.p95_ns[i]))),
    _Column("p99", 6, 0, lambda t, p, i: duration(float(t.wait.p99_ns[i]))),
    _Column("max", 6, 6, lambda t, p, i: duration(float(t.wait.max_ns[i]))),
    _Column("cont", 4, 10, lambda t, p, i: percent(ratio(float(t.wait.contention_ns[i]), float(t.wait.sum_ns[i])))),
    _Column("thr", 4, 3, lambda t, p, i: percent(ratio(float(t.wait.throttle_ns[i]), float(t.wait.sum_ns[i])))),
    _Column("thr/s", 5, 4, lambda t, p, i: decimal(float(p.throttle_per_s[i]), 1)),
    _Column("thr p99", 7, 9, lambda t, p, i: duration(float(t.throttle.p99_ns[i]))),
    _Column("CPI", 5, 4, lambda t, p, i: decimal(_cpi(p, i)), lambda p: p.cpi is not None),
    _Column("share", 5, 1, lambda t, p, i: percent(_main_share(p, i))),
)


def table(tick: Tick, profile: Profile, view: View, previous: Tick | None = None) -> list[str]:
    """The lines of the whole screen: HEADER_LINES and the notes before the first row. `previous`, the tick
    before, tells the cost.
    """
    columns = _fitting(view, profile)
    spare = max(view.width - sum(column.width + 1 for column in columns) - 1, 10)
    rows = shown_rows(tick, profile, view)
    room = len(rows) if view.height is None else max(view.height - HEADER_LINES - len(view.notes) - 1, 1)
    longest = max((len(tick.groups[row].path) for row in rows[:room]), default=0)
    path_width = min(max(longest, len("group")), spare * 3 // 5)
    culprit_width = spare - path_width
    titles = " ".join(column.title.rjust(column.width) for column in columns)
    lines = [*header(tick, profile, previous), *view.notes, f"{'group':{path_width}} {titles} culprit"]
    for row in rows[:room]:
        cells = " ".join(column.cell(tick, profile, row).rjust(column.width) for column in columns)
        culprit = fitted(_culprit(tick, profile, row), culprit_width)
        lines.append(f"{fitted(tick.groups[row].path, path_width)} {cells} {culprit}")
    hidden = len(rows) - len(rows[:room])
    lines.append((f"{hidden} more groups  " if hidden else "") + view.footer)
    return [fitted(line, view.width).rstrip() for line in lines]


def header(tick: Tick, profile: Profile, previous: Tick | None) -> tuple[str, str]:
    """Two lines: the machine and where the figures come from; what is lost and what the agent costs."""
    agent, node = tick.agent, tick.node
    every = "every wait" if agent.sampling == 1 else f"1 wait in {agent.sampling}"
    source = f"source {tick.source}" + (f", {every}" if tick.source is Source.BPF else "")
    cost = f"agent {ABSENT if agent.rss_bytes is None else size(agent.rss_bytes)}"
    if previous and tick.time_ns > previous.time_ns:
        elapsed_ns = tick.time_ns - previous.time_ns
        cost += f", {(agent.cpu_ns - previous.agent.cpu_ns) / elapsed_ns * 100:.1f}% of a core"
        if agent.bpf_run_ns is not None and previous.agent.bpf_run_ns is not None:
            cost += f" + BPF {(agent.bpf_run_ns - previous.agent.bpf_run_ns) / elapsed_ns * 100:.1f}%"
    used = f"{decimal(profile.node_used_cores)} of {node.cpus} cores used"
    seconds = f"{tick.interval_ns / NS_PER_S:.3g} s"
    return (
        f"slackwater  {used}  {len(tick.groups)} groups  {seconds}",
        f"{source}  lost {agent.lost_samples}  {cost}",
    )


def shown_rows(tick: Tick, profile: Profile, view: View) -> list[int]:
    """Rows that pass the filter, in order: the largest first, what is not known last; names ascending."""
    paths = [group.path for group in tick.groups]
    keep = list(range(len(paths)))
    if view.filter:
        glob = view.filter if view.filter.startswith("/") else f"**{view.filter}**"
        matches = glob_regex(glob).fullmatch
        keep = [row for row in keep if matches(paths[row])]
    by_name = sorted(keep, key=paths.__getitem__)
    if view.sort == "name":
        return by_name
    first, second = {
        "wait": (tick.wait.p99_ns, tick.wait.sum_ns),
        "cpu": (profile.cpu_used_cores, tick.wait.sum_ns),
        "throttle": (profile.throttle_per_s, tick.throttle.sum_ns),
    }[view.sort]
    first, second = np.nan_to_num(first, nan=-1), np.nan_to_num(second, nan=-1)
    return sorted(by_name, key=lambda row: (-first[row], -second[row]))


def _culprit(tick: Tick, profile: Profile, row: int) -> str:
    culprit = profile.main_culprit[row]
    if culprit is None:
        return ABSENT
    return "(itself)" if culprit.id == tick.groups[row].id else culprit.path


def _of_partition(title: str, rank: int, partitions: Mapping[str, PartitionStatus], field: str) -> _Column:
    def cell(tick: Tick, _: Profile, row: int) -> str:
        value = getattr(partitions.get(tick.groups[row].path), field, None)
        return ABSENT if value is None else size(value)

    return _Column(title, 7, rank, cell)


def _fitting(view: View, profile: Profile) -> list[_Column]:
    """The columns that are known here, and leave room for the names."""
    columns = [column for column in _COLUMNS if column.is_known(profile)]
    if (sends := view.sends_bytes_per_s) is not None:
        columns.append(_Column("bit/s", 5, 1, lambda t, p, i: bits_per_s(sends.get(t.groups[i].path, math.nan))))
    if (partitions := view.partitions) is not None:
        columns += [
            _of_partition("llc", 11, partitions, "llc_bytes"),
            _of_partition("mem/s", 12, partitions, "total_bytes_per_s"),
        ]
    room = view.width - _PATH_WIDTH_MIN - _CULPRIT_WIDTH_MIN - 2
    while sum(column.width + 1 for column in columns) > room and any(column.rank for column in columns):
        columns.remove(max(columns, key=lambda column: column.rank))
    return columns
