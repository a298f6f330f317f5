"""How often throttle events may wake the loop."""

from __future__ import annotations

from agent.units import NS_PER_MS, NS_PER_S
from agent.wakeups import WakeupBudget


def wakeups_in(seconds: float, budget: WakeupBudget, every_ns: int) -> int:
    """How often a loop is woken that events would wake every so often."""
    now_ns, listens_ns, woken = 0, 0, 0
    while now_ns < seconds * NS_PER_S:
        if now_ns >= listens_ns:
            listens_ns = budget.spend(now_ns)
            woken += 1
        now_ns += every_ns
    return woken


def test_lone_events_are_answered_at_once() -> None:
    """Each finds the loop listening."""
    assert wakeups_in(10, WakeupBudget(per_s=100, burst=50), every_ns=20 * NS_PER_MS) == 500


def test_a_storm_wakes_as_often_as_the_budget_says() -> None:
    """Events every 10 us: the burst, and then `per_s`."""
    woken = wakeups_in(10, WakeupBudget(per_s=100, burst=50), every_ns=10_000)
    assert 1000 <= woken <= 1060


def test_events_within_the_gap_are_answered_together() -> None:
    """The loop listens again after the gap, not before."""
    assert WakeupBudget(gap_ns=NS_PER_MS).spend(7) == 7 + NS_PER_MS


def test_a_quiet_time_fills_the_bucket_and_no_more() -> None:
    budget = WakeupBudget(per_s=10, burst=5)
    assert wakeups_in(1, budget, every_ns=NS_PER_MS) <= 15
    later_ns = 100 * NS_PER_S
    answered = [budget.spend(later_ns) == later_ns + budget.gap_ns for _ in range(7)]
    assert answered == [True] * 5 + [False] * 2
