"""From a View to series: what each family holds at this moment, the same for all formats. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.metrics.family import (
    CULPRITS,
    GROUP_INFO,
    Family,
    GroupColumn,
    HostColumn,
    LabelColumn,
    Labels,
    Series,
    View,
)
from agent.records import Group
from agent.units import NS_PER_S

NOBODY_LABEL = "(nobody)"
OTHER_LABEL = "(other)"


@dataclass(frozen=True, slots=True)
class Points:
    """Values of one family. `rows` are rows of groups whose labels come first; None: no group.

    `labels` are those that follow: one for all values, or one per value.
    """

    values: Sequence[float]
    rows: Sequence[int] | None
    labels: Sequence[Labels]


@dataclass(frozen=True, slots=True)
class Shown:
    """The groups as a scrape names them. `unique` is false where a later group has the same name."""

    names: Sequence[str]
    labels: Sequence[Labels]
    unique: NDArray[np.bool_]


def label_text(path: str) -> str:
    """A path as UTF-8, which the formats demand: bytes that are none are written as \\xNN."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def show(groups: Sequence[Group]) -> Shown:
    """Two groups may have one name for a moment (a dying cgroup and its successor): only the last one is shown."""
    names = [label_text(group.path) for group in groups]
    last = {name: row for row, name in enumerate(names)}
    unique = np.zeros(len(groups), np.bool_)
    unique[list(last.values())] = True
    labels = [(("group", name), ("class", group.qos.value)) for name, group in zip(names, groups, strict=True)]
    return Shown(names, labels, unique)


def points_of(family: Family, view: View, shown: Shown) -> Iterator[Points]:
    """The values of every family that is no histogram; unknown ones are left out."""
    for column in family.columns:
        if isinstance(column, GroupColumn):
            values = column.read(view)
            rows = np.flatnonzero(np.isfinite(values) & shown.unique)
            yield Points(values[rows].tolist(), rows.tolist(), (column.labels,))
        elif isinstance(column, HostColumn):
            value = column.read(view)
            if value is not None and np.isfinite(value):
                yield Points((float(value),), None, (column.labels,))
        elif isinstance(column, LabelColumn):
            yield Points((1.0,), None, (column.read(view),))
        elif isinstance(column, Series):
            known = [(labels, value) for labels, value in column.read(view) if np.isfinite(value)]
            told = [tuple((name, label_text(text)) for name, text in labels) for labels, _ in known]
            yield Points([float(value) for _, value in known], None, told)
        elif column is GROUP_INFO:
            rows = np.flatnonzero(shown.unique)
            ids = [(("id", str(view.tick.groups[row].id)),) for row in rows]
            yield Points([1.0] * len(ids), rows.tolist(), ids)
        elif column is CULPRITS:
            yield _culprits(view, shown)


def _culprits(view: View, shown: Shown) -> Points:
    totals = view.totals.culprits
    names = [*shown.names, NOBODY_LABEL]
    sums: dict[tuple[int, str], float] = {}  # two culprits may have one name
    named = [column[totals.named].tolist() for column in (totals.victims, totals.culprits, totals.named_ns)]
    for row, culprit, wait_ns in zip(*named, strict=True):
        key = row, names[culprit]
        sums[key] = sums.get(key, 0.0) + wait_ns
    for row in np.flatnonzero(np.isfinite(totals.other_ns)).tolist():
        sums[row, OTHER_LABEL] = totals.other_ns[row]
    shown_sums = [(row, name, wait_ns) for (row, name), wait_ns in sums.items() if shown.unique[row]]
    return Points(
        [float(wait_ns) / NS_PER_S for _, _, wait_ns in shown_sums],
        [row for row, _, _ in shown_sums],
        [(("culprit", name),) for _, name, _ in shown_sums],
    )
