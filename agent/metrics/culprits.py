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

from agent.metrics.rows import ABSENT, find_rows
from agent.records import NOBODY_ID, CulpritSample, Floats, Ids

RECENT_KEEP_RATIO = 0.98
"""What is left of the recent wait after each tick: half of it after 34 ticks."""
NAMED_ADVANTAGE_RATIO = 2.0
CANDIDATES_PER_NAME = 4
"""Pairs remembered per named one, so that a newcomer can build up its recent wait. Bounds the memory."""


@dataclass(frozen=True, slots=True)
class CulpritTotals:
    """One row per remembered (victim, culprit); `named_ns` is 0 where `named` is false.

    `other_ns` has one row per group of the tick; NaN: no wait was counted there yet.
    """

    victim_ids: Ids
    culprit_ids: Ids
    recent_ns: Floats
    named: NDArray[np.bool_]
    named_ns: Floats
    other_ns: Floats


def no_culprits() -> CulpritTotals:
    ids, floats = np.empty(0, np.uint64), np.empty(0)
    return CulpritTotals(ids, ids, floats, np.empty(0, np.bool_), floats, floats)


def add_culprits(
    totals: CulpritTotals, sample: CulpritSample, group_ids: Ids, other_ns: Floats, named_max: int
) -> CulpritTotals:
    """Totals after one tick. Pairs whose victim or culprit is no longer in `group_ids` are dropped.

    `other_ns` are the totals' own, already aligned with `group_ids`.
    """
    groups = len(group_ids)
    columns = groups + 1  # the last one is NOBODY
    old_keys, old_known = _keys(totals.victim_ids, totals.culprit_ids, group_ids)
    new_keys, new_known = _keys(sample.victim_ids, sample.culprit_ids, group_ids)
    olds = int(old_known.sum())
    keys, inverse = np.unique(np.concatenate([old_keys[old_known], new_keys[new_known]]), return_inverse=True)

    def old(values: Floats) -> Floats:
        return _sum_by(inverse[:olds], values[old_known], len(keys))

    delta_ns = _sum_by(inverse[olds:], sample.wait_ns[new_known], len(keys))
    recent_ns = old(totals.recent_ns) * RECENT_KEEP_RATIO + delta_ns
    was_named = old(totals.named.astype(np.float64)) > 0
    victims, culprits = np.divmod(keys, columns)
    rank = _rank_within(victims, np.where(was_named, recent_ns * NAMED_ADVANTAGE_RATIO, recent_ns))
    named = rank < named_max
    keep = rank < named_max * CANDIDATES_PER_NAME

    stranger = ~new_known
    unnamed_ns = _sum_by(victims, np.where(named, 0.0, delta_ns), groups)
    stranger_rows = find_rows(group_ids, sample.victim_ids[stranger])
    watched = stranger_rows != ABSENT
    unnamed_ns += _sum_by(stranger_rows[watched], sample.wait_ns[stranger][watched], groups)

    culprit_ids = np.append(group_ids, np.uint64(NOBODY_ID))
    return CulpritTotals(
        victim_ids=group_ids[victims[keep]],
        culprit_ids=culprit_ids[culprits[keep]],
        recent_ns=recent_ns[keep],
        named=named[keep],
        named_ns=np.where(named, old(totals.named_ns) + delta_ns, 0.0)[keep],
        other_ns=np.where(unnamed_ns > 0, np.nan_to_num(other_ns) + unnamed_ns, other_ns),
    )


def _keys(victim_ids: Ids, culprit_ids: Ids, group_ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """One number per pair (victim row * columns + culprit row), and which pairs have both ends in `group_ids`."""
    groups = len(group_ids)
    victims = find_rows(group_ids, victim_ids)
    culprits = np.where(culprit_ids == NOBODY_ID, groups, find_rows(group_ids, culprit_ids))
    return victims * (groups + 1) + culprits, (victims != ABSENT) & (culprits != ABSENT)


def _sum_by(place: NDArray[np.intp], values: Floats, places: int) -> Floats:
    return np.bincount(place, values, places).astype(np.float64, copy=False)


def _rank_within(victims: NDArray[np.int64], score: Floats) -> NDArray[np.int64]:
    """Rank of each pair among those of its victim, 0 for the highest score. `victims` is ascending."""
    order = np.lexsort((-score, victims))
    first = np.searchsorted(victims, victims)
    rank = np.empty(len(victims), np.int64)
    rank[order] = np.arange(len(victims)) - first
    return rank
