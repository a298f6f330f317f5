"""Counters made of what ticks say: the sum of the per-tick samples of each living group. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.metrics.culprits import CulpritTotals, add_culprits, move_culprits, no_culprits
from agent.metrics.rows import find_rows
from agent.records import CpiSample, Floats, Ids, Tick


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
    cycles: Floats
    instructions: Floats
    llc_misses: Floats
    culprits: CulpritTotals


def no_totals() -> Totals:
    none = np.empty(0)
    return Totals(np.empty(0, np.uint64), none, none, none, none, none, none, none, none, none, no_culprits())


def add_tick(totals: Totals, tick: Tick, culprits_per_group: int) -> Totals:
    """Totals after one more tick: groups that are gone are dropped, new ones start from their first figures."""
    ids, wait, throttle = tick.wait.ids, tick.wait, tick.throttle
    if not np.array_equal(totals.ids, ids):
        totals = _move(totals, ids)
    cpi = tick.cpi or _not_counted(ids)
    return Totals(
        ids=ids,
        waits=_add(totals.waits, wait.count),
        waited_ns=_add(totals.waited_ns, wait.sum_ns),
        contention_ns=_add(totals.contention_ns, wait.contention_ns),
        throttle_wait_ns=_add(totals.throttle_wait_ns, wait.throttle_ns),
        throttle_events=_add(totals.throttle_events, throttle.events),
        throttle_ns=_add(totals.throttle_ns, throttle.sum_ns),
        cycles=_add(totals.cycles, cpi.cycles),
        instructions=_add(totals.instructions, cpi.instructions),
        llc_misses=_add(totals.llc_misses, cpi.llc_misses),
        culprits=add_culprits(totals.culprits, tick.culprits, ids, culprits_per_group),
    )


def _move(totals: Totals, ids: Ids) -> Totals:
    """The same totals in the rows of `ids`: NaN for a group that is new."""
    old_rows = find_rows(totals.ids, ids)

    def moved(values: Floats) -> Floats:
        return np.append(values, np.nan)[old_rows]  # ABSENT is -1: the NaN

    return Totals(
        ids=ids,
        waits=moved(totals.waits),
        waited_ns=moved(totals.waited_ns),
        contention_ns=moved(totals.contention_ns),
        throttle_wait_ns=moved(totals.throttle_wait_ns),
        throttle_events=moved(totals.throttle_events),
        throttle_ns=moved(totals.throttle_ns),
        cycles=moved(totals.cycles),
        instructions=moved(totals.instructions),
        llc_misses=moved(totals.llc_misses),
        culprits=move_culprits(totals.culprits, find_rows(ids, totals.ids), moved(totals.culprits.other_ns)),
    )


def _not_counted(ids: Ids) -> CpiSample:
    nothing = np.full(len(ids), np.nan)
    return CpiSample(ids, nothing, nothing, nothing)


def _add(total: Floats, delta: Floats) -> Floats:
    """A tick that knows nothing (NaN) leaves the total as it was; the first one that does starts it."""
    return np.where(np.isnan(delta), total, np.fmax(total, 0.0) + delta)
