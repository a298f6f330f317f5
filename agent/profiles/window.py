"""A sliding window over all groups: one row of samples per group, one column per tick. Pure.

NaN is "no sample in that tick"; a result is NaN where a row has too few. Samples are float32 (relative error
6e-8), 4 bytes per group and tick. Nothing is computed before it is asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.profiles.counters import rows_of, same
from agent.records import Floats, Ids


class Window:
    """The last `ticks` samples of each group. Rows follow the ids of the last push."""

    def __init__(self, ticks: int) -> None:
        self._ids: Ids = np.empty(0, np.uint64)
        self._samples: NDArray[np.float32] = np.empty((0, ticks), np.float32)
        self._time_s: Floats = np.full(ticks, np.nan)
        self._next = 0

    def push(self, ids: Ids, values: Floats, now_s: float) -> None:
        """Add one tick, in place of the oldest. A group that is not in `ids` is forgotten."""
        self.follow(ids)
        self._samples[:, self._next] = values
        self._time_s[self._next] = now_s
        self._next = (self._next + 1) % len(self._time_s)

    def follow(self, ids: Ids) -> None:
        """Put the rows into the order of `ids`; the gone are dropped, the new are empty."""
        if same(ids, self._ids):
            return
        rows = rows_of(self._ids, ids)
        samples = np.full((len(ids), len(self._time_s)), np.nan, np.float32)
        old = rows >= 0
        samples[old] = self._samples[rows[old]]
        self._samples, self._ids = samples, ids

    def max(self) -> Floats:
        """Largest sample per group."""
        largest: Floats = np.fmax.reduce(self._samples, axis=1).astype(np.float64)
        return largest

    def mean(self) -> Floats:
        """Mean of the samples per group."""
        count = np.count_nonzero(~np.isnan(self._samples), axis=1)
        total: Floats = np.nansum(self._samples, axis=1, dtype=np.float64)
        return _quotient(total, count, count > 0)

    def percentile(self, q: float) -> Floats:
        """Percentile per group, 0 <= q <= 100, linear between neighbours as numpy.nanpercentile."""
        ordered = np.sort(self._samples, axis=1)  # NaN last
        count = np.count_nonzero(~np.isnan(ordered), axis=1)
        rank = np.maximum(count - 1, 0) * (q / 100)
        low = rank.astype(np.intp)
        row = np.arange(len(ordered))
        below: Floats = ordered[row, low].astype(np.float64)
        above: NDArray[np.float32] = ordered[row, np.minimum(low + 1, np.maximum(count - 1, 0))]
        result: Floats = below + (above - below) * (rank - low)
        return result

    def trend_per_s(self) -> Floats:
        """Slope per second of the least-squares line through the samples per group; NaN below two samples."""
        filled = ~np.isnan(self._time_s)
        if not filled.any():
            return np.full(len(self._ids), np.nan)
        time_s = np.where(filled, self._time_s - self._time_s[filled].mean(), 0)
        known = ~np.isnan(self._samples)
        count = np.count_nonzero(known, axis=1)
        values = np.where(known, self._samples, 0).astype(np.float64)
        sum_t, sum_tt = np.einsum("ij,kj->ki", known.astype(np.float64), np.stack((time_s, time_s**2)))
        covariance = count * np.einsum("ij,j->i", values, time_s) - sum_t * values.sum(axis=1)
        variance = count * sum_tt - sum_t**2
        enough = (count >= 2) & (variance > 1e-9 * count * sum_tt)
        return _quotient(covariance, variance, enough)


def _quotient(above: Floats, below: NDArray[np.generic], known: NDArray[np.bool_]) -> Floats:
    """above / below where `known`, else NaN."""
    result = np.full(len(above), np.nan)
    np.divide(above, below, out=result, where=known)
    return result
