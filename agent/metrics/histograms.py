"""Wait histograms for Prometheus: exact merges of the agent's exponential buckets. Pure.

Bucket i at schema s holds (2^((i-1)/2^s), 2^(i/2^s)] seconds (native/sketch.h), as a Prometheus native histogram does.
So a classic bucket whose `le` is a power of two is a sum of whole buckets, and nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.metrics.rows import ABSENT, Rows, find_rows
from agent.records import WAIT_CLASSES, ZERO_BUCKET, Floats, HistogramSample, Ids
from agent.units import NS_PER_S

LE_FIRST_EXPONENT = -20
LE_LAST_EXPONENT = 4
LE_STEP_EXPONENTS = 2
LE_S: tuple[float, ...] = tuple(
    2.0**exponent for exponent in range(LE_FIRST_EXPONENT, LE_LAST_EXPONENT + 1, LE_STEP_EXPONENTS)
)
"""Upper bounds of the classic buckets: 0.95 us, 3.8 us, ... 4 s, 16 s; +Inf follows."""


@dataclass(frozen=True, slots=True)
class Histograms:
    """Column j of the first four is one (group, wait class); its buckets are first[j] .. first[j+1] - 1.

    `rows` are those of the groups, ascending buckets, counts without zeros. `count` is the sum of the buckets
    and of `zero_count`, so that a server never sees the two differ.
    """

    schema: int
    rows: Rows
    class_index: NDArray[np.int64]
    count: NDArray[np.int64]
    zero_count: NDArray[np.int64]
    sum_s: Floats
    first: NDArray[np.intp]
    bucket: NDArray[np.int64]
    bucket_count: NDArray[np.int64]


def arrange(sample: HistogramSample, group_ids: Ids) -> Histograms:
    """The histograms of the groups in `group_ids`, ordered by row and class."""
    classes = len(WAIT_CLASSES)
    total_rows = find_rows(group_ids, sample.total_ids)
    totals = np.flatnonzero(total_rows != ABSENT)
    total_keys = total_rows[totals] * classes + sample.total_class_index[totals]
    order = np.argsort(total_keys)
    keys, sum_ns = total_keys[order], sample.total_sum_ns[totals][order]

    rows = find_rows(group_ids, sample.ids)
    series = find_rows(keys.astype(np.uint64), (rows * classes + sample.class_index).astype(np.uint64))
    known = np.flatnonzero((rows != ABSENT) & (series != ABSENT) & (sample.count > 0))
    known = known[np.lexsort((sample.bucket[known], series[known]))]
    series, bucket, count = series[known], sample.bucket[known], sample.count[known].astype(np.int64)
    is_zero = bucket == ZERO_BUCKET
    return Histograms(
        schema=sample.schema,
        rows=keys // classes,
        class_index=keys % classes,
        count=_sum_by(series, count, len(keys)),
        zero_count=_sum_by(series[is_zero], count[is_zero], len(keys)),
        sum_s=sum_ns / NS_PER_S,
        first=np.searchsorted(series[~is_zero], np.arange(len(keys) + 1)),
        bucket=bucket[~is_zero].astype(np.int64),
        bucket_count=count[~is_zero],
    )


def classic(histograms: Histograms) -> NDArray[np.int64]:
    """Cumulative counts, one row per histogram, one column per bound of LE_S. schema >= 0."""
    per_octave = 1 << histograms.schema
    columns = len(LE_S) + 1  # the last one is beyond the last bound
    exponent = -(-histograms.bucket // per_octave)
    column = np.clip(-(-(exponent - LE_FIRST_EXPONENT) // LE_STEP_EXPONENTS), 0, columns - 1)
    series = np.repeat(np.arange(len(histograms.rows)), np.diff(histograms.first))
    counts = _sum_by(series * columns + column, histograms.bucket_count, len(histograms.rows) * columns)
    cumulative = counts.reshape(-1, columns).cumsum(axis=1) + histograms.zero_count[:, None]
    return cumulative[:, :-1]


def _sum_by(place: NDArray[np.intp], count: NDArray[np.int64], places: int) -> NDArray[np.int64]:
    """Sums of counts per place; exact up to 2**53."""
    return np.bincount(place, count, places).astype(np.int64)
