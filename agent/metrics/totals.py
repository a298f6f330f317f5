"""Counters made of what ticks say: the sum of the per-tick samples of each living group. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.metrics.culprits import CulpritTotals, add_culprits, no_culprits
from agent.metrics.rows import ABSENT, Rows, find_rows
from agent.records import Floats, Ids, Tick


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums since the agent first saw each group; rows are those of the tick's groups. NaN: never known."""

    ids: Ids
    waits: Floats
    waited_ns: Floats
    contention_ns: Floats
    throttle_wait_ns: Floats
    throttle_events: Floats
    throttle_ns: Floats
    culprits: CulpritTotals


def no_totals() -> Totals:
    none = np.empty(0)
    return Totals(np.empty(0, np.uint64), none, none, none, none, none, none, no_culprits())


def add_tick(totals: Totals, tick: Tick, culprits_per_group: int) -> Totals:
    """Totals after one more tick: groups that are gone are dropped, new ones start from their first figures."""
    ids = tick.wait.ids
    rows = None if totals.ids is ids or np.array_equal(totals.ids, ids) else find_rows(totals.ids, ids)
    other_ns = _carry(totals.culprits.other_ns, rows)
    return Totals(
        ids=ids,
        waits=_add(_carry(totals.waits, rows), tick.wait.count),
        waited_ns=_add(_carry(totals.waited_ns, rows), tick.wait.sum_ns),
        contention_ns=_add(_carry(totals.contention_ns, rows), tick.wait.contention_ns),
        throttle_wait_ns=_add(_carry(totals.throttle_wait_ns, rows), tick.wait.throttle_ns),
        throttle_events=_add(_carry(totals.throttle_events, rows), tick.throttle.events),
        throttle_ns=_add(_carry(totals.throttle_ns, rows), tick.throttle.sum_ns),
        culprits=add_culprits(totals.culprits, tick.culprits, ids, other_ns, culprits_per_group),
    )


def _carry(values: Floats, rows: Rows | None) -> Floats:
    """The old totals in the new order of the groups (None: the same order), NaN for groups that are new."""
    if rows is None:
        return values
    if len(values) == 0:
        return np.full(len(rows), np.nan)
    return np.where(rows == ABSENT, np.nan, values[rows])


def _add(total: Floats, delta: Floats) -> Floats:
    """A tick that knows nothing (NaN) leaves the total as it was."""
    return np.where(np.isnan(delta), total, np.nan_to_num(total) + delta)
