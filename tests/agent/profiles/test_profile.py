import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from agent.profiles.profile import Profiler
from agent.records import NOBODY_ID, Culprit, Profile, Tick
from tests.agent.ticks import S_NS, groups_of, tick_of

AB = groups_of({1: "/a", 2: "/b"})
NAN = float("nan")


def profiles(*ticks: Tick, window_ticks: int = 60) -> list[Profile]:
    profiler = Profiler(window_ticks)
    return [profiler.update(tick) for tick in ticks]


def test_cores_used_are_the_growth_over_the_true_length_of_the_tick() -> None:
    first, second = profiles(
        tick_of(AB, time_ns=0, cpu_usage_ns=[0, 100], node_used_ns=0),
        tick_of(AB, time_ns=2 * S_NS, interval_ns=2 * S_NS, cpu_usage_ns=[S_NS, 100], node_used_ns=3 * S_NS),
    )
    assert np.isnan([*first.cpu_used_cores, first.node_used_cores]).all()
    assert second.cpu_used_cores.tolist() == [0.5, 0]
    assert second.node_used_cores == 1.5


def test_a_first_reading_of_no_length_is_the_base_of_the_next() -> None:
    """This is how one long tick can have rates."""
    base, profile = profiles(
        tick_of(AB, time_ns=5, interval_ns=0, cpu_usage_ns=[S_NS, 0], contention_ns=[9, 9], p99_ns=[9, 9]),
        tick_of(AB, time_ns=5 + S_NS, cpu_usage_ns=[2 * S_NS, 0], contention_ns=[1, 1], p99_ns=[1, NAN]),
    )
    assert np.isnan(base.throttle_per_s).all()
    assert profile.cpu_used_cores.tolist() == [1, 0]
    np.testing.assert_equal(profile.wait_p99_window_ns, [1, NAN])


def test_cores_of_a_group_born_in_the_tick_are_spread_over_its_length() -> None:
    """Of a group that is only found in it the counter may have grown before."""
    later = groups_of({1: "/a", 2: "/born", 3: "/found"})
    _, profile = profiles(
        tick_of(AB[:1], interval_ns=0, cpu_usage_ns=[S_NS]),
        replace(tick_of(later, time_ns=S_NS, cpu_usage_ns=[S_NS, S_NS // 2, 7]), born_ids=frozenset({2})),
    )
    np.testing.assert_equal(profile.cpu_used_cores, [0, 0.5, NAN])


@pytest.mark.parametrize(
    ("time_ns", "interval_ns"),
    [(2 * S_NS, 0), (2 * S_NS, -S_NS), (0, S_NS), (9 * S_NS, S_NS), (2 * S_NS, 9 * S_NS), (10**15, 10**15 - S_NS)],
)
def test_a_clock_that_jumps_gives_no_rates_and_spoils_no_window(time_ns: int, interval_ns: int) -> None:
    quiet = partial(tick_of, AB, throttle_events=[1, 1], p99_ns=[5, 5])
    usage_ns = S_NS // 2
    start = quiet(time_ns=S_NS, cpu_usage_ns=[0, 0])
    jump = tick_of(
        AB, time_ns=time_ns, interval_ns=interval_ns, cpu_usage_ns=[usage_ns] * 2, node_used_ns=7, p99_ns=[1e9, 1e9]
    )
    after = quiet(time_ns=time_ns + S_NS, cpu_usage_ns=[2 * usage_ns] * 2)
    profiler = Profiler(60)
    profiler.update(start)
    profile = profiler.update(jump)
    assert np.isnan([*profile.cpu_used_cores, *profile.throttle_per_s, profile.node_used_cores]).all()
    profile = profiler.update(after)
    assert profile.cpu_used_cores.tolist() == [0.5, 0.5]
    assert profile.wait_p99_window_ns.tolist() == [5, 5]
    assert profiler.clock_jumps == 1


def test_more_cores_than_the_machine_has_are_not_believed() -> None:
    """An id that was used again between two ticks."""
    _, profile = profiles(
        tick_of(AB, time_ns=0, cpu_usage_ns=[0, 0]),
        tick_of(AB, time_ns=S_NS, cpu_usage_ns=[10**15, S_NS]),
    )
    np.testing.assert_equal(profile.cpu_used_cores, [NAN, 1])


def test_a_reset_is_counted_and_gives_no_rate() -> None:
    profiler = Profiler(60)
    profiler.update(tick_of(AB, time_ns=0, io_read_bytes=[100, 100], io_write_bytes=[0, 0]))
    profile = profiler.update(tick_of(AB, time_ns=S_NS, io_read_bytes=[1, 150], io_write_bytes=[0, 8]))
    np.testing.assert_equal(profile.io_read_bytes_per_s, [NAN, 50])
    np.testing.assert_equal(profile.io_write_bytes_per_s, [0, 8])
    assert profiler.counter_resets == 1


def test_io_is_per_second_of_the_time_between_its_readings() -> None:
    """Its files are read less often than every tick; between two readings the rate stands."""
    ticks = [tick_of(AB, time_ns=i * S_NS, io_read_bytes=[[0, 0, 300][i], 0], io_write_bytes=[0, 0]) for i in range(3)]
    read_ns = [[0.0, 0.0], [0.0, S_NS], [1.5 * S_NS, S_NS]]
    ticks = [
        replace(tick, cgroup=replace(tick.cgroup, slow_time_ns=np.array(at_ns)))
        for tick, at_ns in zip(ticks, read_ns, strict=True)
    ]
    _, between, after = profiles(*ticks)
    np.testing.assert_equal(between.io_read_bytes_per_s, [NAN, 0])
    np.testing.assert_equal(after.io_read_bytes_per_s, [200, 0])


def test_throttle_events_are_per_second() -> None:
    (profile,) = profiles(tick_of(AB, interval_ns=2 * S_NS, throttle_events=[10, NAN]))
    np.testing.assert_equal(profile.throttle_per_s, [5, NAN])


def test_the_window_gives_the_largest_p99_the_trend_and_the_p95_of_cores() -> None:
    ticks = [
        tick_of(
            AB,
            time_ns=i * S_NS,
            p99_ns=[[5.0, 9.0, 7.0][i], NAN],
            contention_ns=[1000.0 * i, 50],
            cpu_usage_ns=[i * S_NS, 0],
        )
        for i in range(3)
    ]
    profile = profiles(*ticks)[-1]
    np.testing.assert_equal(profile.wait_p99_window_ns, [9, NAN])
    np.testing.assert_allclose(profile.wait_trend_ns_per_s, [1000, 0])
    np.testing.assert_equal(profile.cpu_p95_window_cores, [1, 0])


def test_the_main_culprit_has_the_largest_share_of_the_contention_wait() -> None:
    (profile,) = profiles(
        tick_of(AB, contention_ns=[100, 40], pairs=[(1, 1, 20), (1, 2, 70), (2, 1, 40), (1, NOBODY_ID, 10)])
    )
    assert profile.main_culprit == (Culprit(2, "/b", 0.7), Culprit(1, "/a", 1.0))


def test_a_culprit_that_is_idle_or_gone_says_so() -> None:
    (profile,) = profiles(tick_of(AB, contention_ns=[10, 10], pairs=[(1, NOBODY_ID, 9), (2, 77, 10)]))
    assert [culprit.path for culprit in profile.main_culprit if culprit] == ["(idle)", "(gone)"]


def test_without_contention_there_is_no_culprit() -> None:
    (profile,) = profiles(tick_of(AB, contention_ns=[0, NAN], pairs=[(1, 2, 0), (2, 1, 5), (99, 1, 5)]))
    assert profile.main_culprit == (None, None)


def test_no_groups_at_all_are_an_empty_profile() -> None:
    (profile,) = profiles(tick_of((), pairs=[(1, 2, 3)]))
    assert (profile.main_culprit, len(profile.cpu_used_cores), len(profile.wait_trend_ns_per_s)) == ((), 0, 0)


def test_groups_that_come_and_go_keep_their_own_figures() -> None:
    bc = groups_of({3: "/c", 2: "/b"})
    first = tick_of(AB, time_ns=0, cpu_usage_ns=[0, 0], p99_ns=[1, 2])
    second = tick_of(
        bc, time_ns=S_NS, cpu_usage_ns=[S_NS, S_NS], p99_ns=[NAN, 1], contention_ns=[0, 9], pairs=[(2, 3, 9)]
    )
    profile = profiles(first, second)[-1]
    np.testing.assert_equal(profile.cpu_used_cores, [NAN, 1])
    np.testing.assert_equal(profile.wait_p99_window_ns, [NAN, 2])
    assert profile.main_culprit == (None, Culprit(3, "/c", 1.0))
    assert profile.groups is second.groups


@pytest.mark.parametrize(("count", "limit_ms"), [(150, 1), (1000, 4)])
def test_an_update_keeps_to_its_budget(count: int, limit_ms: float) -> None:
    """The best of some ticks with a full window, so that a busy test machine does not decide. Thread CPU time."""
    groups = groups_of({i: f"/g/{i}" for i in range(1, count + 1)})
    rng = np.random.default_rng(1)
    pairs = [(victim, int(culprit), 1e6) for victim in range(1, count + 1) for culprit in rng.integers(1, count, 5)]
    base = tick_of(
        groups, pairs=pairs, p99_ns=rng.random(count), contention_ns=rng.random(count) + 1e7, cpu_usage_ns=[0.0] * count
    )
    profiler = Profiler(60)
    spent_ns = []
    for i in range(80):
        tick = replace(
            base, time_ns=i * S_NS, cgroup=replace(base.cgroup, cpu_usage_ns=rng.random(count) * 1e6 + i * 1e7)
        )
        start_ns = time.thread_time_ns()
        profiler.update(tick)
        spent_ns.append(time.thread_time_ns() - start_ns)
    assert min(spent_ns[60:]) < limit_ms * 1e6
