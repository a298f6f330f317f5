"""Waits, throttles and culprits of one tick from the probe, as records aligned with a list of groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.records import CulpritSample, Floats, HistogramSample, Ids, ThrottleSample, WaitSample
from native.probe import TOTAL_SCHEMA, ProbeTick


def aligned_rows(ids: Ids, row_ids: Ids) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """For each of `ids` its place in `row_ids`, and whether it is there at all (else the place means nothing)."""
    if not len(row_ids):
        return np.zeros(len(ids), np.intp), np.zeros(len(ids), np.bool_)
    order = np.argsort(row_ids)
    rows = order[np.minimum(np.searchsorted(row_ids, ids, sorter=order), len(row_ids) - 1)]
    return rows, row_ids[rows] == ids


def group_samples(ids: Ids, tick: ProbeTick) -> tuple[WaitSample, ThrottleSample]:
    """What each group waited, and the throttles of its own quota.

    A group that the probe did not see waited 0 times: that is known. Its percentiles are NaN.
    """
    rows, there = aligned_rows(ids, tick.groups["id"])
    place, groups = np.flatnonzero(there), tick.groups[rows[there]]

    def column(name: str, absent: float) -> Floats:
        result = np.full(len(ids), absent)
        result[place] = groups[name]
        return result

    wait = WaitSample(
        ids,
        column("wait_count", 0),
        column("wait_sum_ns", 0),
        column("contention_ns", 0),
        column("throttle_ns", 0),
        column("p50_ns", np.nan),
        column("p95_ns", np.nan),
        column("p99_ns", np.nan),
        column("max_ns", np.nan),
    )
    throttle = ThrottleSample(
        ids, column("throttle_events", 0), column("throttle_sum_ns", 0), column("throttle_p99_ns", np.nan)
    )
    return wait, throttle


def culprit_sample(tick: ProbeTick) -> CulpritSample:
    """The victim x culprit matrix, sparse."""
    pairs = tick.pairs
    return CulpritSample(
        np.ascontiguousarray(pairs["victim_id"]),
        np.ascontiguousarray(pairs["culprit_id"]),
        pairs["wait_ns"].astype(np.float64),
        pairs["count"].astype(np.float64),
    )


def histogram_sample(tick: ProbeTick, buckets: NDArray[np.void]) -> HistogramSample:
    """The cumulative histograms of all groups that the probe has seen."""
    counts, sums_ns = tick.groups["total_count"], tick.groups["total_sum_ns"]
    rows, classes = np.nonzero(counts)
    return HistogramSample(
        schema=TOTAL_SCHEMA,
        ids=np.ascontiguousarray(buckets["id"]),
        class_index=np.ascontiguousarray(buckets["wait_class"]),
        bucket=np.ascontiguousarray(buckets["bucket"]),
        count=buckets["count"].astype(np.float64),
        total_ids=tick.groups["id"][rows],
        total_class_index=classes.astype(np.int32),
        total_count=counts[rows, classes].astype(np.float64),
        total_sum_ns=sums_ns[rows, classes].astype(np.float64),
    )
