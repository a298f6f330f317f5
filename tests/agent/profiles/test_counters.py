import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.profiles.counters import Counters, rows_of

NAN = float("nan")


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def rates(counters: Counters, group_ids: np.ndarray, values: np.ndarray, now_s: float) -> list[float]:
    return [float(rate) for rate in counters.per_s(group_ids, values, now_s)[:, 0]]


def test_growth_is_per_second() -> None:
    counters = Counters(1)
    assert np.isnan(rates(counters, ids(1, 2), column(10, 20), 0)).all()
    assert rates(counters, ids(1, 2), column(14, 20), 2) == [2, 0]


def test_rows_follow_the_ids_when_groups_come_go_and_change_places() -> None:
    counters = Counters(1)
    rates(counters, ids(1, 2, 3), column(10, 20, 30), 0)
    np.testing.assert_equal(rates(counters, ids(3, 9, 1), column(33, 5, 11), 1), [3, NAN, 1])


def test_a_counter_that_falls_was_reset_and_gives_no_rate() -> None:
    counters = Counters(1)
    rates(counters, ids(1, 2), column(100, 100), 0)
    np.testing.assert_equal(rates(counters, ids(1, 2), column(5, 101), 1), [NAN, 1])
    assert counters.resets == 1
    assert rates(counters, ids(1, 2), column(6, 102), 2) == [1, 1]


def test_an_id_that_was_away_for_a_tick_is_new() -> None:
    counters = Counters(1)
    rates(counters, ids(1, 2), column(10, 10), 0)
    rates(counters, ids(2), column(11), 1)
    np.testing.assert_equal(rates(counters, ids(1, 2), column(999, 12), 2), [NAN, 1])


def test_a_value_that_was_missing_is_spread_over_the_time_since_it_was_known() -> None:
    counters = Counters(1)
    rates(counters, ids(1), column(10), 0)
    assert np.isnan(rates(counters, ids(1), column(NAN), 1)).all()
    assert rates(counters, ids(1), column(30), 2) == [10]


def test_a_counter_that_was_not_read_again_keeps_its_rate() -> None:
    """Slow files are read in turns: each row has its own time."""
    counters = Counters(1)
    counters.per_s(ids(1, 2), column(0, 0), np.array([0.0, 1.0]))
    np.testing.assert_equal(counters.per_s(ids(1, 2), column(20, 0), np.array([2.0, 1.0]))[:, 0], [10, NAN])
    assert counters.per_s(ids(1, 2), column(20, 30), np.array([2.0, 4.0]))[:, 0].tolist() == [10, 10]


def test_a_clock_that_falls_gives_no_rate() -> None:
    counters = Counters(1)
    rates(counters, ids(1), column(0), 5)
    assert np.isnan(rates(counters, ids(1), column(10), 4)).all()


def test_no_groups_are_no_rates() -> None:
    counters = Counters(2)
    assert counters.per_s(ids(), np.empty((0, 2)), 0).shape == (0, 2)
    assert counters.per_s(ids(1), np.zeros((1, 2)), 1).shape == (1, 2)
    assert counters.per_s(ids(), np.empty((0, 2)), 2).shape == (0, 2)


def test_a_counter_that_began_in_the_tick_grew_from_zero() -> None:
    """Of who is known, or does not come, the birth says nothing."""
    counters = Counters(1)
    rates(counters, ids(1), column(100), 0)
    counters.begin(ids(1, 2, 9), 1)
    assert rates(counters, ids(2, 1), column(30, 110), 2) == [30, 5]


def test_ids_above_two_to_the_63_are_told_apart() -> None:
    """float64 cannot."""
    assert rows_of(ids(2**64 - 1, 2**64 - 2), ids(2**64 - 2, 7)).tolist() == [1, -1]


@given(
    st.lists(
        st.dictionaries(st.integers(1, 6), st.just(NAN) | st.integers(0, 2**53).map(float), max_size=6), max_size=6
    )
)
def test_whatever_the_values_a_rate_is_never_negative_and_never_more_than_grew(ticks: list[dict[int, float]]) -> None:
    """One second per tick; a group keeps its last known value as long as it is there."""
    counters = Counters(1)
    known: dict[int, tuple[float, int]] = {}
    for now_s, tick in enumerate(ticks):
        got = rates(counters, ids(*tick), column(*tick.values()), now_s)
        for (group_id, value), rate in zip(tick.items(), got, strict=True):
            last, last_s = known.get(group_id, (NAN, 0))
            expected = (value - last) / (now_s - last_s) if value >= last else NAN
            np.testing.assert_equal(rate, expected)
        known = {
            group_id: known.get(group_id, (NAN, 0)) if np.isnan(value) else (value, now_s)
            for group_id, value in tick.items()
        }
