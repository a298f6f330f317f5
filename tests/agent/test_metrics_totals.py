"""Counters made of ticks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from agent.metrics.culprits import CANDIDATES_PER_NAME
from agent.metrics.totals import Totals, add_tick, no_totals
from agent.records import NOBODY_ID, CpiSample, CulpritSample, Tick
from tests.agent.metrics_samples import groups_of, tick_of

GROUPS = groups_of(3)
A, B, C = (group.id for group in GROUPS)


def blames(*pairs: tuple[int, int, float]) -> CulpritSample:
    victims, culprits, waits = zip(*pairs, strict=True)
    return CulpritSample(
        np.array(victims, np.uint64), np.array(culprits, np.uint64), np.array(waits, float), np.ones(len(pairs))
    )


def named(totals: Totals, tick: Tick) -> dict[tuple[int, int], float]:
    ids = [*(group.id for group in tick.groups), NOBODY_ID]
    rows = totals.culprits
    columns = (rows.victims[rows.named], rows.culprits[rows.named], rows.named_ns[rows.named])
    return {(ids[v], ids[c]): float(ns) for v, c, ns in zip(*columns, strict=True)}


def test_totals_are_the_sum_of_the_ticks() -> None:
    tick, totals = tick_of(GROUPS), no_totals()
    for _ in range(3):
        totals = add_tick(totals, tick, 5)
    assert_array_equal(totals.waits, 3 * tick.wait.count)
    assert_array_equal(totals.contention_ns, 3 * tick.wait.contention_ns)
    assert_array_equal(totals.throttle_ns, 3 * tick.throttle.sum_ns)


def test_what_was_counted_adds_up_over_the_ticks_that_know_it() -> None:
    """In a tick that does not, the total stays; a group that was never counted has none."""
    tick, totals = replace(tick_of(GROUPS), cpi=None), no_totals()
    totals, ids = add_tick(totals, tick, 5), tick.wait.ids
    assert np.isnan([totals.cycles, totals.instructions, totals.llc_misses]).all()
    known, unknown = np.array([4e9, 0, np.nan]), np.full(3, np.nan)
    for cycles in (known, unknown, known):
        totals = add_tick(totals, replace(tick, cpi=CpiSample(ids, cycles, cycles / 2, cycles / 1000)), 5)
    assert_allclose(totals.cycles, [8e9, 0, np.nan])
    assert_allclose(totals.instructions, [4e9, 0, np.nan])
    assert_allclose(totals.llc_misses, [8e6, 0, np.nan])


def test_a_tick_that_does_not_know_leaves_the_total_and_a_total_never_known_stays_unknown() -> None:
    tick = tick_of(GROUPS)
    unknown = replace(tick, wait=replace(tick.wait, contention_ns=np.full(3, np.nan)))
    first = add_tick(no_totals(), unknown, 5)
    assert np.isnan(first.contention_ns).all()
    second = add_tick(first, tick, 5)
    assert_array_equal(add_tick(second, unknown, 5).contention_ns, tick.wait.contention_ns)


def test_totals_follow_the_id_when_groups_come_go_and_change_their_row() -> None:
    before = add_tick(
        no_totals(), tick_of(GROUPS, culprits=blames((A, C, 10.0), (A, NOBODY_ID, 4.0), (C, A, 20.0), (C, B, 1.0))), 5
    )
    new = replace(GROUPS[1], id=77)
    tick = tick_of((GROUPS[2], new, GROUPS[0]), culprits=blames((C, A, 5.0)))
    after = add_tick(before, tick, 5)
    assert_array_equal(after.waits, tick.wait.count + np.array([3.0, 0.0, 1.0]))
    assert named(after, tick) == {(A, C): 10.0, (A, NOBODY_ID): 4.0, (C, A): 25.0}


def test_the_culprits_with_the_most_recent_wait_are_named_and_the_rest_is_other() -> None:
    tick = tick_of(GROUPS, culprits=blames((A, B, 30.0), (A, C, 20.0), (A, NOBODY_ID, 10.0), (A, 999, 4.0)))
    totals = add_tick(no_totals(), tick, 2)
    assert named(totals, tick) == {(A, B): 30.0, (A, C): 20.0}
    assert_array_equal(totals.culprits.other_ns, [14.0, np.nan, np.nan])


def test_a_new_main_culprit_gets_its_name_and_starts_from_its_own_tick() -> None:
    old = tick_of(GROUPS, culprits=blames((A, B, 100.0)))
    new = tick_of(GROUPS, culprits=blames((A, C, 50.0)))
    totals = no_totals()
    for _ in range(5):
        totals = add_tick(totals, old, 1)
    for _ in range(200):
        totals = add_tick(totals, new, 1)
    blamed = named(totals, new)
    assert list(blamed) == [(A, C)]
    assert blamed[A, C] + totals.culprits.other_ns[0] == 200 * 50.0


def test_a_culprit_is_replaced_only_by_one_with_twice_its_recent_wait() -> None:
    totals = add_tick(no_totals(), tick_of(GROUPS, culprits=blames((A, B, 100.0))), 1)
    for wait_ns, culprit in ((190.0, B), (20.0, C)):
        tick = tick_of(GROUPS, culprits=blames((A, C, wait_ns)))
        totals = add_tick(totals, tick, 1)
        assert list(named(totals, tick)) == [(A, culprit)]


def test_every_wait_is_counted_once_and_no_counter_goes_backwards_while_it_is_named() -> None:
    groups = groups_of(20)
    totals, counted, waited = no_totals(), 0.0, 0.0
    previous: dict[tuple[int, int], float] = {}
    other = np.zeros(20)
    for number in range(1, 60):
        tick = tick_of(groups, number=number)
        totals = add_tick(totals, tick, 3)
        now, now_other = named(totals, tick), np.nan_to_num(totals.culprits.other_ns)
        for pair in now.keys() & previous.keys():
            assert now[pair] >= previous[pair]
        assert (now_other >= other).all()
        counted += sum(ns - previous.get(pair, 0.0) for pair, ns in now.items()) + (now_other - other).sum()
        previous, other = now, now_other
        waited += tick.culprits.wait_ns.sum()
        assert_allclose(counted, waited)


def test_the_memory_of_culprits_is_bounded_per_group() -> None:
    groups = groups_of(40)
    totals = no_totals()
    for number in range(1, 100):
        totals = add_tick(totals, tick_of(groups, number=number), 3)
    per_victim = np.bincount(totals.culprits.victims)
    assert per_victim.max() == 3 * CANDIDATES_PER_NAME
    assert np.bincount(totals.culprits.victims[totals.culprits.named]).max() == 3


def test_without_named_culprits_and_without_groups_nothing_breaks() -> None:
    tick = tick_of(GROUPS, culprits=blames((A, B, 30.0)))
    assert add_tick(no_totals(), tick, 0).culprits.other_ns[0] == 30.0
    assert len(add_tick(add_tick(no_totals(), tick, 5), tick_of(()), 5).waits) == 0
