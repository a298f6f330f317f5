"""The sampling factor: up at once, down slowly, within its limits."""

from __future__ import annotations

import pytest

from agent.decisions.sampling import CALM_TICKS, SamplingLimits, SamplingState, decide_sampling

LIMITS = SamplingLimits(max_factor=8, cpu_budget_pct=4.0)


def run(state: SamplingState, ticks: int, *, dropped: int = 0, drain_cpu_pct: float = 0.0) -> SamplingState:
    for _ in range(ticks):
        state, _ = decide_sampling(state, LIMITS, dropped=dropped, drain_cpu_pct=drain_cpu_pct)
    return state


@pytest.mark.parametrize(("dropped", "drain_cpu_pct"), [(1, 0.0), (0, 4.1)])
def test_overload_doubles_the_factor_and_says_why(dropped: int, drain_cpu_pct: float) -> None:
    state, why = decide_sampling(SamplingState(2, 5), LIMITS, dropped=dropped, drain_cpu_pct=drain_cpu_pct)
    assert state == SamplingState(4, 0)
    assert why


def test_factor_stops_at_its_limit_without_a_word() -> None:
    state, why = decide_sampling(SamplingState(8), LIMITS, dropped=7, drain_cpu_pct=0)
    assert (state.factor, why) == (8, None)


def test_factor_halves_only_after_calm_ticks_in_a_row() -> None:
    assert run(SamplingState(4), CALM_TICKS - 1).factor == 4
    assert run(SamplingState(4), CALM_TICKS).factor == 2
    restless = run(run(SamplingState(4), CALM_TICKS - 1), 1, drain_cpu_pct=3.0)
    assert run(restless, CALM_TICKS - 1).factor == 4


def test_factor_one_stays() -> None:
    assert run(SamplingState(), 3 * CALM_TICKS) == SamplingState()
