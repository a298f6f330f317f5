"""A node that is ill stays as it is, and that is said once."""

from __future__ import annotations

from typing import Any

import pytest

from agent.control import Hold, Knob, Result
from agent.records import Qos
from tests.agent.decisions.world import BATCH, RULE, SLOW, WEB, Look, World

WAITING = {WEB: SLOW, BATCH: Look(3.0)}


def ill(world: World, **signs: Any) -> tuple[list[str], int]:
    """Ticks with these signs and ten more: what is said, and how many changes were made meanwhile."""
    before = len(world.changes)
    verdicts = [world.tick(WAITING, **signs), *(world.tick(WAITING) for _ in range(9))]
    assert all(
        Hold(None, world.state.health.reason) in verdict.holds for verdict in verdicts[:9] if world.state.health.reason
    )
    return [line for verdict in verdicts for line in verdict.news], len(world.changes) - before


@pytest.mark.parametrize(
    ("signs", "why"),
    [
        ({"clock_jumps": 1}, "the clock jumped"),
        ({"age_s": 3.5}, "samples are 3.5 s old, more than 3 ticks"),
        ({"dropped": 2}, "of the samples are lost"),
        ({"root_is_read_only": True}, "the root file system is read-only"),
    ],
)
def test_nothing_is_changed_for_ill_s_after_a_sign_and_it_is_said_once(signs: dict[str, Any], why: str) -> None:
    world = World()
    world.ticks(2, WAITING)
    assert len(world.changes) == 1
    news, changes = ill(world, **signs)
    assert changes == 0
    assert len(news) == 1
    assert why in news[0]
    (end,) = [line for _ in range(3) for line in world.tick(WAITING).news]
    assert end.startswith("things may be changed again")
    world.ticks(4, WAITING)
    assert len(world.changes) > 1


def test_signs_that_follow_one_another_are_one_illness() -> None:
    """Also when the words would differ, as the age of samples does in every tick."""
    world = World()
    world.ticks(2, WAITING)
    ages = [line for age_s in (4.0, 5.0, 6.0) for line in world.tick(WAITING, age_s=age_s).news]
    assert ages == ["nothing is changed: samples are 4.0 s old, more than 3 ticks"]


def test_without_signs_it_is_well() -> None:
    world = World()
    assert [line for verdict in world.ticks(20, WAITING) for line in verdict.news] == []
    world = World()
    world.ticks(2, WAITING, age_s=2.9)
    assert world.state.health.reason is None


def test_own_writes_that_are_refused_one_after_the_other_are_a_sign() -> None:
    world = World(RULE.replace("[enforce]", "[enforce]\nrefused_writes = 2\nretry_s = 1\nsettle_s = 0"))
    world.result = lambda _: Result.REFUSED
    world.ticks(10, WAITING)
    assert world.state.health.reason == "the last 2 writes were refused"


def test_between_two_ticks_nothing_is_changed_either() -> None:
    world = World('enforce.mode = "on"', {WEB: ("/web", Qos.LS)}, owners={(WEB, Knob.QUOTA): 50_000})
    world.ticks(6, {WEB: Look(0.4)})
    world.tick({WEB: Look(0.4)}, root_is_read_only=True)
    verdict = world.event(WEB)
    assert verdict.accepted == ()
    assert verdict.holds[0].reason == "the root file system is read-only"


def test_an_event_long_after_the_last_tick_changes_nothing() -> None:
    """Ticks fail or are late while the kernel goes on telling of throttles: what is known is too old to act by it."""
    world = World('enforce.mode = "on"', {WEB: ("/web", Qos.LS)}, owners={(WEB, Knob.QUOTA): 50_000})
    world.ticks(6, {WEB: Look(0.4)})
    verdict = world.event(WEB, after_s=3.5)
    assert verdict.accepted == ()
    assert verdict.holds == (Hold(None, "samples are 3.5 s old, more than 3 ticks"),)
    world.tick({WEB: Look(0.4)})
    assert world.event(WEB, after_s=2.9).accepted


def test_a_raise_is_not_taken_back_either_however_busy_the_cpus_are() -> None:
    """It is an emergency that waits for no other resource; but only the end of a freeze cannot wait for health."""
    world = World('[enforce]\nmode = "on"\nill_s = 2', {WEB: ("/web", Qos.LS)}, owners={(WEB, Knob.QUOTA): 50_000})
    world.ticks(6, {WEB: Look(0.4)})
    world.event(WEB)
    raised = world.value(WEB, Knob.QUOTA)
    assert raised > 50_000  # type: ignore[operator]
    world.ticks(6, {WEB: Look(3.9)}, root_is_read_only=True)
    assert world.value(WEB, Knob.QUOTA) == raised
    world.ticks(3, {WEB: Look(3.9)})
    assert world.value(WEB, Knob.QUOTA) < raised  # type: ignore[operator]


def test_samples_lost_before_the_agent_looked_are_no_sign() -> None:
    world = World()
    world.tick(WAITING, dropped=1_000)
    world.tick(WAITING, dropped=1_000)
    assert world.state.health.reason is None
