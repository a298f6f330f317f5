"""Growth of rising counters of all groups at once. Pure.

A counter that falls was reset: its growth is not known (NaN), never negative. A group that was not there in the
last tick is new, whatever its id was before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.records import Floats, Ids


def rows_of(ids: Ids, wanted: Ids) -> NDArray[np.intp]:
    """The row in `ids` (distinct, any order) of each of `wanted`; -1 where it is not there."""
    if not len(ids):
        return np.full(len(wanted), -1, np.intp)
    order = np.argsort(ids)
    place = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    rows = order[place]
    return np.where(ids[rows] == wanted, rows, -1)


def same(ids: Ids, other_ids: Ids) -> bool:
    """Most ticks have the groups of the tick before: then it is even the same array."""
    return ids is other_ids or np.array_equal(ids, other_ids)


class Counters:
    """The last known value of `columns` counters per group, and when it was read."""

    def __init__(self, columns: int) -> None:
        self.resets = 0
        """Counters seen to fall, since the start."""
        self._columns = columns
        self.forget()

    def forget(self) -> None:
        """Begin anew: the next growth is not known."""
        self._ids: Ids = np.empty(0, np.uint64)
        self._values: Floats = np.empty((0, self._columns))
        self._read_s: Floats = np.empty((0, self._columns))
        self._per_s: Floats = np.empty((0, self._columns))

    def begin(self, ids: Ids, at_s: float) -> None:
        """These groups are born: their counters were 0 at `at_s`. Of a group that is known this says nothing."""
        new = np.setdiff1d(ids, self._ids)
        self._align(np.concatenate((self._ids, new)))
        self._values[len(self._ids) - len(new) :] = 0
        self._read_s[len(self._ids) - len(new) :] = at_s

    def per_s(self, ids: Ids, values: Floats, read_s: Floats | float) -> Floats:
        """Growth per second since each counter was last known, and remember `values`.

        `values` has one row per id and one column per counter, NaN where it is not available now. `read_s` is when
        they were read: one time, or one per row; a counter that was not read since keeps the rate it had. The result
        has the shape of `values`, NaN where now or before is not known.
        """
        if not same(ids, self._ids):
            self._align(ids)
        read = np.broadcast_to(np.reshape(read_s, (-1, 1)), values.shape)
        fell = values < self._values
        self.resets += int(np.count_nonzero(fell))
        elapsed_s = read - self._read_s
        rates = np.full(values.shape, np.nan)
        np.divide(values - self._values, elapsed_s, out=rates, where=(elapsed_s > 0) & ~fell)
        self._per_s = np.where(elapsed_s == 0, self._per_s, rates)
        known = ~np.isnan(values)
        self._values = np.where(known, values, self._values)
        self._read_s = np.where(known, read, self._read_s)
        return self._per_s

    def _align(self, ids: Ids) -> None:
        """Put the rows into the order of `ids`; the gone are forgotten, the new are NaN."""
        rows = rows_of(self._ids, ids)
        old = rows >= 0

        def moved(table: Floats) -> Floats:
            result = np.full((len(ids), self._columns), np.nan)
            result[old] = table[rows[old]]
            return result

        self._values, self._read_s, self._per_s = map(moved, (self._values, self._read_s, self._per_s))
        self._ids = ids
