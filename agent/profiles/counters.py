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

    def per_s(self, ids: Ids, values: Floats, now_s: float) -> Floats:
        """Growth per second since each counter was last known, and remember `values`.

        `values` has one row per id and one column per counter, NaN where it is not available now; the result has
        the same shape, NaN where now or before is not known. Seconds are of any clock that rises between calls.
        """
        if not np.array_equal(ids, self._ids):
            self._align(ids)
        with np.errstate(invalid="ignore", divide="ignore"):
            growth = values - self._values
            fell = growth < 0
            rate = np.where(fell, np.nan, growth / (now_s - self._read_s))
        self.resets += int(np.count_nonzero(fell))
        known = ~np.isnan(values)
        self._values = np.where(known, values, self._values)
        self._read_s = np.where(known, now_s, self._read_s)
        return rate

    def _align(self, ids: Ids) -> None:
        """Put the rows into the order of `ids`; the gone are forgotten, the new are NaN."""
        rows = rows_of(self._ids, ids)
        new = (rows < 0)[:, None]
        if len(self._ids):
            self._values = np.where(new, np.nan, self._values[rows])
            self._read_s = np.where(new, np.nan, self._read_s[rows])
        else:
            self._values = np.full((len(ids), self._columns), np.nan)
            self._read_s = self._values
        self._ids = ids.copy()
