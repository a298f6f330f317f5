"""Who made a group wait, since the agent started: a bounded set of counters per victim. Pure.

Each nanosecond is added to exactly one counter: that of its culprit while the culprit is *named*, that of
OTHER_LABEL otherwise. Named are the `named_max` culprits of a victim with the most recent wait (an exponentially
decaying sum); to replace a named one a newcomer must have caused twice as much. A counter that loses its name ends,
and starts again from 0 with its name, as a counter does whose process restarted: increases stay exact, and no
counter goes backwards while its series lives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.metrics.rows import ABSENT, Rows, find_rows
from agent.records import NOBODY_ID, CulpritSample, Floats, Ids

RECENT_KEEP_RATIO = 0.98
"""What is left of the recent wait after each tick: half of it after 34 ticks."""
NAMED_ADVANTAGE_RATIO = 2.0
CANDIDATES_PER_NAME = 2
"""Pairs remembered per named one, so that a newcomer can build up its recent wait. Bounds the memory."""


@dataclass(frozen=True, slots=True)
class CulpritTotals:
    """One row per remembered (victim, culprit); `named_ns` is 0 where `named` is false.

    Victims and culprits are rows of the tick's groups; culprit `len(other_ns)` is NOBODY. `other_ns` has one row
    per group. NaN: no wait was counted there yet.
    """

    victims: Rows
    culprits: Rows
    recent_ns: Floats
    named: NDArray[np.bool_]
    named_ns: Floats
    other_ns: Floats


def no_culprits() -> CulpritTotals:
    rows, floats = np.empty(0, np.intp), np.empty(0)
    return CulpritTotals(rows, rows, floats, np.empty(0, np.bool_), floats, floats)


def move_culprits(totals: CulpritTotals, new_rows: Rows, other_ns: Floats) -> CulpritTotals:
    """The same after the groups changed: `new_rows` says where each old group stands now, ABSENT drops its pairs.

    `other_ns` is the totals' own in the new order.
    """
    moved = np.append(new_rows, len(other_ns))
    victims, culprits = moved[totals.victims], moved[totals.culprits]
    kept = np.flatnonzero((victims != ABSENT) & (culprits != ABSENT))
    return CulpritTotals(
        victims[kept],
        culprits[kept],
        totals.recent_ns[kept],
        totals.named[kept],
        totals.named_ns[kept],
        other_ns,
    )


def add_culprits(totals: CulpritTotals, sample: CulpritSample, ids: Ids, named_max: int) -> CulpritTotals:
    """Totals after one tick of the groups `ids`. Wait caused by a group that is not among them goes to OTHER_LABEL."""
    groups = len(ids)
    columns = groups + 1
    victims = find_rows(ids, sample.victim_ids)
    culprits = np.where(sample.culprit_ids == NOBODY_ID, groups, find_rows(ids, sample.culprit_ids))
    watched = victims != ABSENT
    known = watched & (culprits != ABSENT)
    stranger = watched & ~known
    unnamed_ns = _sum_by(victims[stranger], sample.wait_ns[stranger], groups)

    new_keys, place = np.unique(victims[known] * columns + culprits[known], return_inverse=True)
    keys, was_named, old_recent_ns, old_named_ns = _with_keys(totals, new_keys, columns)
    delta_ns = np.zeros(len(keys))
    delta_ns[np.searchsorted(keys, new_keys)] = _sum_by(place, sample.wait_ns[known], len(new_keys))
    recent_ns = old_recent_ns * RECENT_KEEP_RATIO + delta_ns
    victims, culprits = np.divmod(keys, columns)
    rank = _rank_within(victims, np.where(was_named, recent_ns * NAMED_ADVANTAGE_RATIO, recent_ns))
    named = rank < named_max
    kept = rank < named_max * CANDIDATES_PER_NAME

    unnamed_ns += _sum_by(victims, np.where(named, 0.0, delta_ns), groups)
    return CulpritTotals(
        victims=victims[kept],
        culprits=culprits[kept],
        recent_ns=recent_ns[kept],
        named=named[kept],
        named_ns=np.where(named, old_named_ns + delta_ns, 0.0)[kept],
        other_ns=np.where(unnamed_ns > 0, np.fmax(totals.other_ns, 0.0) + unnamed_ns, totals.other_ns),
    )


def _with_keys(
    totals: CulpritTotals, new_keys: NDArray[np.intp], columns: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_], Floats, Floats]:
    """The remembered and the new pairs (victim * columns + culprit), ascending; their named, recent_ns, named_ns."""
    old_keys = totals.victims * columns + totals.culprits
    fresh = new_keys[~np.isin(new_keys, old_keys, assume_unique=True)]
    keys = np.concatenate([old_keys, fresh])
    order = np.argsort(keys, kind="stable")
    none = np.zeros(len(fresh))
    return (
        keys[order],
        np.concatenate([totals.named, none > 0])[order],
        np.concatenate([totals.recent_ns, none])[order],
        np.concatenate([totals.named_ns, none])[order],
    )


def _rank_within(victims: Rows, score: Floats) -> NDArray[np.intp]:
    """Rank of each pair among those of its victim, 0 for the highest score. `victims` is ascending."""
    order = np.argsort(victims - score / (2.0 * score.max(initial=1.0)))  # one key sorts faster than two
    rank = np.empty(len(victims), np.intp)
    counts = np.bincount(victims)
    rank[order] = np.arange(len(victims)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def _sum_by(place: Rows, values: Floats, places: int) -> Floats:
    return np.bincount(place, values, places).astype(np.float64, copy=False)
