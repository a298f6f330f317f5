"""Cycles per instruction, and what is usual for a group."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from agent.profiles.cpi import CpiProfiler
from agent.records import CpiProfile, CpiSample

AFTER = 20
"""Ticks until what is usual is known."""
HALF_LIFE_S = 100.0
NAN = math.nan


def sample_of(cpis: dict[int, float], instructions: float = 1e9, misses: float = 2e6) -> CpiSample:
    ids = np.array(list(cpis), np.uint64)
    per_instruction = np.array(list(cpis.values()))
    amount = np.where(np.isnan(per_instruction), NAN, instructions)
    return CpiSample(ids, per_instruction * amount, amount, np.where(np.isnan(amount), NAN, misses))


def profiler() -> CpiProfiler:
    return CpiProfiler(
        min_instructions_per_s=1e6, usual_half_life_s=HALF_LIFE_S, usual_after_ticks=AFTER, recent_ticks=5
    )


def after(profiler: CpiProfiler, cpis: list[float]) -> CpiProfile:
    """The profile of the last of these ticks of group 1, a second each."""
    for cpi in cpis:
        profile = profiler.update(sample_of({1: cpi}), 1.0)
    return profile


def noisy(mean: float, deviation: float, ticks: int) -> list[float]:
    return list(np.random.default_rng(1).normal(mean, deviation, ticks))


def test_ratios_are_of_the_tick() -> None:
    profile = profiler().update(sample_of({1: 1.5, 2: NAN}, instructions=1e9, misses=2e6), 1.0)
    assert_allclose(profile.cycles_per_instruction, [1.5, NAN])
    assert_allclose(profile.llc_misses_per_1000_instructions, [2.0, NAN])


@pytest.mark.parametrize(("instructions", "interval_s"), [(0, 1.0), (9e5, 1.0), (1.5e6, 2.0), (1e9, None)])
def test_of_too_few_instructions_or_a_tick_of_unknown_length_nothing_is_known(
    instructions: float, interval_s: float | None
) -> None:
    profile = profiler().update(sample_of({1: 1.5}, instructions), interval_s)
    assert_allclose(profile.cycles_per_instruction, [NAN])
    assert_allclose(profile.llc_misses_per_1000_instructions, [NAN])


def test_what_most_of_the_last_ticks_were_past_is_told_while_the_group_runs() -> None:
    """A spike is not, nor is anything of a tick that says nothing."""
    of = profiler()
    assert after(of, [1.0, 2.0, 1.0, 2.0, 1.0]).low_cycles_per_instruction[0] == pytest.approx(1.0)
    assert after(of, [2.0, 2.0, 2.0]).low_cycles_per_instruction[0] == pytest.approx(1.8)
    assert after(of, [2.0, 2.0]).low_cycles_per_instruction[0] == pytest.approx(2.0)
    assert math.isnan(after(of, [NAN]).low_cycles_per_instruction[0])


def test_what_is_usual_is_known_after_so_many_ticks_that_say_something() -> None:
    of = profiler()
    values = noisy(1.2, 0.2, AFTER)
    assert math.isnan(after(of, [*values[:-1], NAN]).usual_cycles_per_instruction[0])
    after(of, values[-1:])
    profile = after(of, [9.9])
    assert_allclose(profile.usual_cycles_per_instruction, np.mean(values))
    assert_allclose(profile.deviation_cycles_per_instruction, np.std(values))


def test_the_older_the_less_it_counts() -> None:
    """Half after the half-life, when the change is one that could be called usual."""
    of = profiler()
    after(of, [1.0, 1.1] * 500)
    profile = after(of, [1.1] * (int(HALF_LIFE_S) + 1))
    assert profile.usual_cycles_per_instruction[0] == pytest.approx(1.075, abs=0.002)


def test_a_bad_time_does_not_become_usual() -> None:
    """A tenth of the half-life at three times as much: still suspect, by far. The mean would have gone up by 0.14."""
    of = profiler()
    after(of, noisy(1.0, 0.1, 1000))
    profile = after(of, [3.0] * 10)
    usual, deviation = profile.usual_cycles_per_instruction[0], profile.deviation_cycles_per_instruction[0]
    assert usual == pytest.approx(1.0, abs=0.05)
    assert usual + 10 * deviation < 3.0


def test_what_stays_different_becomes_usual() -> None:
    """Another release of the service: after some half-lives it is nothing to be suspected."""
    of = profiler()
    after(of, noisy(1.0, 0.1, 1000))
    profile = after(of, noisy(1.5, 0.1, int(5 * HALF_LIFE_S)))
    assert profile.usual_cycles_per_instruction[0] == pytest.approx(1.5, rel=0.05)


def test_a_load_that_never_varied_can_still_become_another() -> None:
    of = profiler()
    after(of, [1.0] * 1000)
    profile = after(of, [1.2] * int(20 * HALF_LIFE_S))
    assert profile.deviation_cycles_per_instruction[0] >= 0.05
    assert profile.usual_cycles_per_instruction[0] == pytest.approx(1.2, rel=0.02)


def test_groups_keep_what_is_theirs_when_others_come_and_go() -> None:
    of = profiler()
    for _ in range(AFTER):
        of.update(sample_of({1: 1.0, 2: 2.0}), 1.0)
    assert_allclose(of.update(sample_of({3: 3.0, 2: 2.0}), 1.0).usual_cycles_per_instruction, [NAN, 2.0])
    assert_allclose(of.update(sample_of({1: 1.0, 2: 2.0}), 1.0).usual_cycles_per_instruction, [NAN, 2.0])
