"""The step as a whole: who is asked, how far each goes, and what it costs."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from agent.control import Enforce, Knob, KnobValue, ThrottleEvent
from agent.records import Qos
from tests.agent.decisions.world import BATCH, RULE, SLOW, WEB, Look, World

WAITING = {WEB: SLOW, BATCH: Look(3.0)}


@pytest.mark.parametrize(
    ("mode", "own", "together"),
    [
        ("on", "on", Enforce.ON),
        ("on", "dry-run", Enforce.DRY_RUN),
        ("dry-run", "on", Enforce.DRY_RUN),
        ("on", "off", Enforce.OFF),
        ("off", "on", Enforce.OFF),
    ],
)
def test_the_lesser_of_both_modes_holds(mode: str, own: str, together: Enforce) -> None:
    text = RULE.replace('"on"', f'"{mode}"') + f'[suppress]\nenforce = "{own}"'
    world = World(text)
    assert world.control.modes["suppress"] is together
    world.ticks(8, WAITING)
    assert bool(world.changes) is (together is not Enforce.OFF)


def test_a_tick_that_is_shown_twice_counts_once() -> None:
    """As when samples are late: the last tick is all there is."""
    world = World()
    world.tick(WAITING)
    assert world.situation
    for _ in range(5):
        world.state, verdict = world.control.decide(world.state, world.situation)
        assert verdict.findings == ()


def test_before_the_first_tick_an_event_does_nothing() -> None:
    world = World()
    other = World()
    other.tick()
    assert other.situation
    event = replace(other.situation, throttled=(ThrottleEvent(WEB, 0, 1),))
    assert world.control.decide_event(world.state, event)[1].accepted == ()


def test_an_event_among_a_thousand_groups_costs_what_it_costs_among_ten() -> None:
    """Counted in calls; benchmarks/reaction.py has the time."""
    assert calls_of_an_event(groups=1000) == calls_of_an_event(groups=10)


def calls_of_an_event(groups: int) -> int:
    """Python's and C's, while it is decided what to do after a throttle."""
    paths = {100 + i: (f"/web-{i}", Qos.LS) for i in range(groups)}
    owners: dict[tuple[int, Knob], KnobValue] = {(id, Knob.QUOTA): 10_000 for id in paths}
    world = World('enforce.mode = "on"', paths, cpus=4096, owners=owners)
    world.ticks(2, dict.fromkeys(paths, Look(0.05)))
    assert world.situation
    now_ns = world.now_ns + 1_000_000
    situation = replace(world.situation, now_ns=now_ns, throttled=(ThrottleEvent(101, 0, now_ns),))
    events: list[str] = []
    sys.setprofile(lambda frame, event, arg: events.append(event))
    try:
        _, verdict = world.control.decide_event(world.state, situation)
    finally:
        sys.setprofile(None)
    assert verdict.accepted
    return sum(event in ("call", "c_call") for event in events)


def test_a_rule_that_fires_speaks_of_its_group_also_when_the_groups_have_changed() -> None:
    """And the tick that shows it has no length: no rule is asked anew."""
    world = World()
    world.ticks(4, WAITING)
    world.groups = World.group_tuple({BATCH: ("/batch", Qos.BE)})
    (finding,) = world.tick(seconds=0).findings
    assert finding.path == "/web"
