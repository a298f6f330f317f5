"""Exact merges of exponential buckets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agent.metrics.histograms import LE_S, arrange, classic
from agent.records import ZERO_BUCKET, HistogramSample
from tests.agent.metrics_samples import groups_of, histogram_of

IDS = np.array([group.id for group in groups_of(3)], np.uint64)


def one(schema: int, buckets: dict[int, int]) -> HistogramSample:
    """The contention waits of the first group."""
    count = len(buckets)
    return HistogramSample(
        schema=schema,
        ids=np.full(count, IDS[0]),
        class_index=np.zeros(count, np.int32),
        bucket=np.array(list(buckets), np.int32),
        count=np.array(list(buckets.values()), np.float64),
        total_ids=IDS[:1],
        total_class_index=np.zeros(1, np.int32),
        total_count=np.array([sum(buckets.values())], np.float64),
        total_sum_ns=np.array([2.5e9]),
    )


@pytest.mark.parametrize("schema", range(7))
def test_classic_buckets_are_the_sums_of_the_buckets_below_each_bound(schema: int) -> None:
    sample = histogram_of(IDS, schema=schema, buckets=20)
    histograms = arrange(sample, IDS)
    for j, cumulative in enumerate(classic(histograms)):
        mine = (sample.ids == IDS[histograms.rows[j]]) & (sample.class_index == histograms.class_index[j])
        bucket, count = sample.bucket[mine], sample.count[mine]
        upper_s = np.where(bucket == ZERO_BUCKET, 0.0, np.exp2(bucket / 2.0**schema))
        assert_array_equal(cumulative, [count[upper_s <= bound * (1 + 1e-9)].sum() for bound in LE_S])


@pytest.mark.parametrize("schema", range(7))
def test_the_upper_bound_is_inclusive(schema: int) -> None:
    per_octave = 1 << schema
    at_one_second = LE_S.index(1.0)
    cumulative = classic(arrange(one(schema, {0: 5, 1: 7, -2 * per_octave: 11}), IDS))[0]
    assert_array_equal(cumulative[at_one_second - 1 : at_one_second + 2], [11, 16, 23])


def test_values_outside_the_bounds_are_in_the_first_bucket_and_in_infinity() -> None:
    histograms = arrange(one(6, {ZERO_BUCKET: 1, -1913: 2, 10_000: 4}), IDS)
    assert_array_equal(classic(histograms)[0], [3] * len(LE_S))
    assert_array_equal(histograms.count, [7])
    assert_array_equal(histograms.zero_count, [1])
    assert_array_equal(histograms.sum_s, [2.5])


def test_buckets_come_in_order_whatever_the_order_of_the_rows() -> None:
    sample = histogram_of(IDS)
    shuffle = np.random.default_rng(2).permutation(len(sample.ids))
    mixed = replace(
        sample,
        ids=sample.ids[shuffle],
        class_index=sample.class_index[shuffle],
        bucket=sample.bucket[shuffle],
        count=sample.count[shuffle],
    )
    want, got = arrange(sample, IDS), arrange(mixed, IDS)
    assert_array_equal(got.bucket, want.bucket)
    assert_array_equal(got.bucket_count, want.bucket_count)
    assert all((np.diff(want.bucket[a:b]) > 0).all() for a, b in zip(want.first, want.first[1:], strict=False))


def test_groups_that_are_not_in_the_tick_are_left_out() -> None:
    some = arrange(histogram_of(IDS), IDS[1:])
    assert_array_equal(some.rows, [0, 0, 1, 1])
    assert len(arrange(histogram_of(IDS), IDS[:0]).rows) == 0
    assert len(arrange(histogram_of(IDS[:0]), IDS).rows) == 0
