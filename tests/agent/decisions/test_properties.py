"""What holds for the laws whatever happens: random histories of a node, of its owners' writes and of refusals.

SLACKWATER_EXAMPLES: how many histories each property is tried on (default 200).
"""

from __future__ import annotations

import math
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from agent.control import Decision, Knob, Resource, Result
from agent.decisions.suppress import SuppressState
from agent.records import Qos
from tests.agent.decisions.histories import (
    APP,
    BATCH,
    BATCH_A,
    BATCH_B,
    FLOOR_CORES,
    GROUPS,
    JOB,
    POD,
    RUNGS,
    SERVICES,
    SETTLE_S,
    SHOP,
    SLOW,
    Moment,
    live,
    moments,
    world_of,
)
from tests.agent.decisions.world import CALM, NAN, PERIOD_US, Look, World

EXAMPLES = settings(
    max_examples=int(os.environ.get("SLACKWATER_EXAMPLES", "200")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
HISTORIES = st.lists(moments(), max_size=25)


def check_bounds(world: World, decision: Decision) -> None:
    """Independent of agent/decisions/bounds.py: what a decision asks for is within what the control laws allow."""
    quotas = {group.id: world.value(group.id, Knob.QUOTA) for group in world.groups}
    for intent in decision.intents:
        qos = GROUPS[intent.group_id][1]
        base = world.knobs[intent.group_id, intent.knob].base if (intent.group_id, intent.knob) in world.knobs else None
        if base is None:
            base = world.owner(intent.group_id, intent.knob)
        if intent.knob is Knob.QUOTA:
            quotas[intent.group_id] = intent.value
        if intent.value == base:
            continue
        assert qos is not Qos.LSE
        match intent.knob:
            case Knob.QUOTA if qos is Qos.LS:
                assert isinstance(base, int)
                assert isinstance(intent.value, int)
                assert base <= intent.value <= 3 * base
            case Knob.QUOTA:
                assert isinstance(intent.value, int)
                assert intent.value >= 0.02 * PERIOD_US
                assert base is None or intent.value <= base  # type: ignore[operator]
            case Knob.BURST:
                assert intent.value <= quotas[intent.group_id]  # type: ignore[operator]
            case Knob.CPUSET:
                assert qos is Qos.BE
                assert isinstance(intent.value, tuple)
                assert 2 <= len(set(intent.value) & {0, 1, 2}) == len(intent.value)
            case _:
                assert qos is Qos.BE
    if any(intent.knob is Knob.QUOTA and GROUPS[intent.group_id][1] is Qos.BE for intent in decision.intents):
        left = 0.0
        for id in BATCH:
            quota_us = quotas[id]
            left += (quota_us + 1) / PERIOD_US if isinstance(quota_us, int) else math.inf
        assert left >= min(FLOOR_CORES, *(owner_cores(world, id) for id in BATCH))


def owner_cores(world: World, group_id: int) -> float:
    value = world.owner(group_id, Knob.QUOTA)
    return value / PERIOD_US if isinstance(value, int) else math.inf


@EXAMPLES
@given(HISTORIES, st.sampled_from(RUNGS), st.booleans())
def test_never_past_floor_or_ceiling(history: list[Moment], rungs: list[str], always: bool) -> None:
    world = world_of(rungs, always=always)
    for moment in history:
        live(world, moment)
    for _, decision, _ in world.changes:
        assert decision.intents
    event(f"{min(len(world.changes), 9)} changes")


@EXAMPLES
@given(HISTORIES, st.sampled_from(RUNGS), st.booleans())
def test_never_two_resources_in_one_settle_window(history: list[Moment], rungs: list[str], always: bool) -> None:
    world = world_of(rungs, always=always)
    for moment in history:
        live(world, moment)
    done = [
        (at_ns, decision)
        for at_ns, decision, outcomes in world.changes
        if any(outcome.result is Result.APPLIED for outcome in outcomes)
    ]
    for i, (at_ns, decision) in enumerate(done):
        for later_ns, later in done[i + 1 :]:
            if later_ns - at_ns >= SETTLE_S * 1e9 or later.emergency:
                continue
            assert later.resource == decision.resource
    event(f"{len({decision.resource for _, decision in done})} resources")


MISSING = ("node", "batch", "signal", "cause", "stale")


@EXAMPLES
@given(HISTORIES, st.sampled_from(RUNGS), st.sampled_from(MISSING))
def test_holds_on_any_missing_input(history: list[Moment], rungs: list[str], missing: str) -> None:
    """Nothing more is taken from batch work and no quota is raised by a law that lacks something."""
    world = world_of(rungs)
    for moment in history:
        live(world, replace(moment, is_ill=False))
    world.result = lambda _: Result.APPLIED
    before = len(world.changes), suppressed(world)
    service, batch = SLOW, Look(1.5)
    if missing == "signal":
        service = replace(SLOW, p99_ms=NAN)
    if missing == "cause":
        service = replace(SLOW, contention_s=NAN)
    if missing == "batch":
        batch = Look(NAN)
    world.tick(
        {SHOP: service, POD: service, APP: service, BATCH_A: batch, BATCH_B: batch, JOB: batch},
        node_used_cores=NAN if missing == "node" else None,
        age_s=9 if missing == "stale" else 0,
        events=(SHOP, APP),
        seconds=9 if missing == "stale" else 1,
    )
    after = suppressed(world)
    new = [decision for _, decision, _ in world.changes[before[0] :]]
    if missing == "stale":
        assert all(decision.emergency and decision.resource is Resource.SUPPRESS for decision in new)
    elif missing in ("signal", "cause"):
        assert after.stand.level <= before[1].stand.level
        assert not lower(after, before[1])
    else:
        for decision in new:
            for intent in decision.intents:
                state = world.knobs.get((intent.group_id, intent.knob))
                owners = state.base if state else intent.value  # not there: it is at its base
                raised = intent.group_id in SERVICES and intent.knob is Knob.QUOTA and not decision.gives_back
                limited = (
                    intent.group_id in BATCH and intent.knob in (Knob.QUOTA, Knob.CPUSET) and intent.value != owners
                )
                assert not raised
                assert not limited
    event(missing)


def suppressed(world: World) -> SuppressState:
    state = world.state.controllers["suppress"]
    assert isinstance(state, SuppressState)
    return state


def lower(after: SuppressState, before: SuppressState) -> bool:
    """The feedback has taken something more than was taken by whatever limit."""
    limits, was = before.stand.by_wait_cores, before.stand.set_cores
    return any(
        cores < min(limits.get(rung, math.inf), was.get(rung, math.inf))
        for rung, cores in after.stand.by_wait_cores.items()
    )


QUICK = (
    "up_pct = 20\nrise_pct = 20\ncalm_s = 1\nfreeze_s = 2\nfreeze_step_s = 1\nfreeze_max_s = 4\n[burst]\ndecay_s = 2"
)


@EXAMPLES
@given(st.lists(moments(always_works=True), max_size=25), st.sampled_from(RUNGS))
def test_returns_to_base_when_calm(history: list[Moment], rungs: list[str]) -> None:
    """Every knob but the burst that is saved up; and then nothing moves any more."""
    world = world_of(rungs, settle_s=1, more=QUICK)
    for moment in history:
        live(world, moment)
    calm = {SHOP: CALM, POD: CALM, APP: CALM, BATCH_A: Look(0.5), BATCH_B: Look(0.5), JOB: Look(0.5)}
    for _ in range(60):
        findings = world.tick(calm).findings
        left = [key for key, state in world.knobs.items() if state.current != state.base and key[1] is not Knob.BURST]
        if not findings and not left:
            break
    assert not left
    changes = len(world.changes)
    world.ticks(8, calm)
    new = [decision for _, decision, _ in world.changes[changes:]]
    assert all(intent.knob is Knob.BURST for decision in new for intent in decision.intents)
    event(f"{min(changes, 9)} changes")


@pytest.fixture(autouse=True)
def _every_decision_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    write = World._write

    def checked(world: World, verdict: object) -> None:
        for decision in verdict.accepted:  # type: ignore[attr-defined]
            check_bounds(world, decision)
        write(world, verdict)  # type: ignore[arg-type]

    monkeypatch.setattr(World, "_write", checked)
