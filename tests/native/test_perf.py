"""What native/perf.h says of events that have to share the counters of a PMU, which no software event does."""

from __future__ import annotations

import math

import pytest

from native._slackwater import ffi, lib


def summed(*cpus: tuple[int, int, list[int]]) -> list[float]:
    """Of (enabled, running, values) on each CPU."""
    growths = ffi.new("struct perf_growth[]", [{"enabled_ns": e, "running_ns": r, "values": v} for e, r, v in cpus])
    amounts = ffi.new("double[]", 2)
    lib.perf_sum(growths, len(cpus), 2, amounts)
    return list(amounts)


def test_what_was_counted_all_the_time_is_added_up_as_it_is() -> None:
    assert summed((10, 10, [7, 1]), (30, 30, [5, 2])) == [12, 3]


def test_what_was_counted_for_a_part_of_the_time_is_scaled_up_on_each_cpu() -> None:
    """A CPU whose turn was shorter weighs as much as its time says."""
    assert summed((10, 5, [7, 1]), (30, 10, [5, 2])) == [14 + 15, 2 + 6]


def test_a_cpu_whose_turn_never_came_is_taken_for_like_the_others() -> None:
    assert summed((10, 10, [8, 4]), (30, 0, [0, 0])) == [32, 16]


def test_a_cgroup_that_did_not_run_is_0_and_one_that_was_never_counted_is_not_known() -> None:
    assert summed((0, 0, [0, 0])) == [0, 0]
    assert all(map(math.isnan, summed((10, 0, [0, 0]), (0, 0, [0, 0]))))


@pytest.mark.parametrize("running_ns", [1, 999, 10**12])
def test_scaling_does_not_change_the_ratio_of_two_events(running_ns: int) -> None:
    """Cycles per instruction are as exact as the counters."""
    cycles, instructions = summed((10**12, running_ns, [3_000_000_007, 2_000_000_003]))
    assert cycles / instructions == pytest.approx(3_000_000_007 / 2_000_000_003, rel=1e-12)
