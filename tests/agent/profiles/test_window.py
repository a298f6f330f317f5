import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.profiles.window import Window
from agent.records import Ids

NAN = float("nan")
SAMPLES = st.lists(
    st.lists(st.just(NAN) | st.floats(0, 1e9, width=32), min_size=3, max_size=3), min_size=1, max_size=12
)
THREE = np.array([1, 2, 3], np.uint64)


def filled(samples: list[list[float]], ticks: int, ids: Ids = THREE) -> Window:
    window = Window(ticks)
    for now_s, values in enumerate(samples):
        window.push(ids, np.array(values), now_s)
    return window


def by_group(samples: list[list[float]], ticks: int) -> list[np.ndarray]:
    """The samples of each group in the window, with their seconds, without NaN."""
    table = np.array([[float(i), *values] for i, values in enumerate(samples)])[-ticks:]
    return [table[~np.isnan(table[:, column]), :][:, [0, column]] for column in (1, 2, 3)]


@given(SAMPLES, st.integers(1, 8), st.sampled_from([0, 5, 50, 95, 99, 100]))
def test_percentiles_are_those_of_the_samples_that_are_there(samples: list[list[float]], ticks: int, q: int) -> None:
    expected = [np.percentile(rows[:, 1], q) if len(rows) else NAN for rows in by_group(samples, ticks)]
    np.testing.assert_allclose(filled(samples, ticks).percentile(q), expected, rtol=1e-6)


@given(SAMPLES, st.integers(1, 8))
def test_max_and_mean_are_those_of_the_samples_that_are_there(samples: list[list[float]], ticks: int) -> None:
    groups = by_group(samples, ticks)
    window = filled(samples, ticks)
    np.testing.assert_allclose(window.max(), [rows[:, 1].max() if len(rows) else NAN for rows in groups])
    np.testing.assert_allclose(window.mean(), [rows[:, 1].mean() if len(rows) else NAN for rows in groups])


@given(SAMPLES, st.integers(1, 8))
def test_the_trend_is_the_slope_that_polyfit_finds(samples: list[list[float]], ticks: int) -> None:
    expected = [np.polyfit(rows[:, 0], rows[:, 1], 1)[0] if len(rows) > 1 else NAN for rows in by_group(samples, ticks)]
    np.testing.assert_allclose(filled(samples, ticks).trend_per_s(), expected, rtol=1e-6, atol=1e-3)


def test_the_trend_does_not_depend_on_how_long_the_agent_has_run() -> None:
    """Ten years of seconds before the first tick."""
    window = Window(4)
    for i in range(4):
        window.push(THREE, np.array([i * 7.0, 0, 5]), 3e8 + i)
    np.testing.assert_allclose(window.trend_per_s(), [7, 0, 0])


def test_samples_stay_with_their_group_when_rows_move() -> None:
    window = filled([[1, 2, 3]], ticks=4)
    window.push(np.array([3, 7, 1], np.uint64), np.array([30.0, 70, 10]), 1)
    assert window.mean().tolist() == [16.5, 70, 5.5]


def test_a_group_that_was_gone_starts_empty() -> None:
    window = filled([[1, 2, 3]], ticks=4)
    window.follow(np.array([1], np.uint64))
    window.follow(THREE)
    np.testing.assert_equal(window.max(), [1, NAN, NAN])


@pytest.mark.parametrize("result", ["max", "mean", "trend_per_s"])
def test_an_empty_window_knows_nothing(result: str) -> None:
    assert getattr(Window(3), result)().shape == (0,)
    window = Window(3)
    window.follow(THREE)
    np.testing.assert_equal(getattr(window, result)(), [NAN] * 3)
    np.testing.assert_equal(window.percentile(95), [NAN] * 3)
