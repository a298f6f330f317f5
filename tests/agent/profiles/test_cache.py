"""Rates of the caches: a sum that is not whole is not known."""

from __future__ import annotations

import math

import pytest

from agent.profiles.cache import CacheProfiler
from agent.records import CacheProfile, CacheSample, PartitionProfile, PartitionSample
from agent.units import NS_PER_S

BATCH = -4


def partition(total: dict[int, int], llc: dict[int, int] | None = None) -> PartitionSample:
    return PartitionSample(dict.fromkeys(total, 10) if llc is None else llc, total, {})


def profiles(*samples: PartitionSample | None, rest: PartitionSample | None = None) -> list[CacheProfile]:
    """Of samples 2 s apart; None: the partition is not there."""
    profiler = CacheProfiler()
    return [
        profiler.update(CacheSample(i * 2 * NS_PER_S, {} if each is None else {BATCH: each}, rest))
        for i, each in enumerate(samples)
    ]


def last(*samples: PartitionSample | None) -> PartitionProfile:
    return profiles(*samples)[-1].partitions[BATCH]


def test_rates_are_sums_over_caches() -> None:
    assert last(partition({0: 100, 1: 50}), partition({0: 300, 1: 60})).total_bytes_per_s == 105


def test_the_first_sample_has_no_rates_but_what_is_in_the_cache() -> None:
    first = last(partition({0: 100, 1: 50}))
    assert math.isnan(first.total_bytes_per_s)
    assert first.llc_bytes == 20


def test_a_counter_that_wraps_goes_on() -> None:
    assert last(partition({0: (1 << 64) - 50}), partition({0: 50})).total_bytes_per_s == 50


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({0: 100}, {0: 40}),  # it began anew
        ({0: 100}, {0: 200, 1: 5}),  # a cache came on-line
        ({0: 100, 1: 5}, {0: 200}),  # a cache went off-line
        ({}, {0: 100}),  # it had no value
        ({0: 100}, {}),  # it has none now
    ],
)
def test_a_sum_that_is_not_whole_is_not_known_for_a_tick(before: dict[int, int], now: dict[int, int]) -> None:
    assert math.isnan(last(partition(before), partition(now)).total_bytes_per_s)
    then = {domain: value + 20 for domain, value in now.items()}
    after = last(partition(before), partition(now), partition(then)).total_bytes_per_s
    assert after == 10 * len(now) if now else math.isnan(after)


def test_a_partition_that_was_made_anew_has_no_rate_yet() -> None:
    assert math.isnan(last(partition({0: 100}), None, partition({0: 200})).total_bytes_per_s)


def test_a_counter_that_the_machine_has_not_is_not_known() -> None:
    assert math.isnan(last(partition({0: 1}), partition({0: 2})).local_bytes_per_s)


def test_what_is_in_one_cache_of_two_is_not_what_is_in_both() -> None:
    assert math.isnan(last(partition({0: 1, 1: 1}, llc={0: 10})).llc_bytes)


def test_what_lies_in_no_partition_is_told_too() -> None:
    (profile,) = profiles(None, rest=partition({0: 1}))
    assert profile.rest
    assert profile.rest.llc_bytes == 10
    (without,) = profiles(None)
    assert without.rest is None


def test_two_samples_of_the_same_moment_have_no_rate() -> None:
    profiler = CacheProfiler()
    for _ in range(2):
        profile = profiler.update(CacheSample(5, {BATCH: partition({0: 1})}, None))
    assert math.isnan(profile.partitions[BATCH].total_bytes_per_s)
