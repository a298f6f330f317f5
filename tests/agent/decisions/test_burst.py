"""Burst: more for a group whose quota runs out, while there is room and budget; and back to its owner's."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agent.control import Knob, KnobState, KnobValue, Result
from agent.records import Qos
from tests.agent.decisions.world import NAN, PERIOD_US, WEB, Look, World

ON = '[enforce]\nmode = "on"\nsettle_s = 0\n'
POD, CONTAINER, OTHER = 30, 31, 32
BUSY = Look(used_cores=0.5)


def burst_world(config: str = "", *, quota_us: int = 50_000, cpus: int = 4) -> World:
    """A service with a quota of half a core, after the ticks that the use of the share pool is the mean of."""
    world = World(ON + config, {WEB: ("/web", Qos.LS)}, cpus=cpus, owners={(WEB, Knob.QUOTA): quota_us})
    world.ticks(2, {WEB: BUSY})
    return world


def quota_us(world: World, group_id: int = WEB) -> int:
    value = world.value(group_id, Knob.QUOTA)
    assert isinstance(value, int)
    return value


def test_2326_static_burst_never_asks_for_more_than_the_quota() -> None:
    """Upstream kernels refuse it; the world's executor does too."""
    world = burst_world('[burst]\npolicy = "static"')
    assert world.value(WEB, Knob.BURST) == 50_000
    world = burst_world('[burst]\npolicy = "static"\nburst_pct = 40')
    assert world.value(WEB, Knob.BURST) == 20_000


def test_groups_of_other_classes_or_without_a_quota_are_none_of_its_business() -> None:
    groups = {10: ("/none", Qos.LS), 20: ("/batch", Qos.BE), 11: ("/own-cpus", Qos.LSR)}
    world = World(ON, groups, owners={(20, Knob.QUOTA): 50_000, (11, Knob.QUOTA): 50_000})
    world.ticks(3, dict.fromkeys(groups, BUSY))
    world.event(10, 11, 20)
    world.ticks(2, dict.fromkeys(groups, Look(0.5, throttled=3)))
    assert world.changes == []


def test_a_larger_burst_of_the_owner_stays() -> None:
    owners: dict[tuple[int, Knob], KnobValue] = {(WEB, Knob.QUOTA): 50_000, (WEB, Knob.BURST): 50_000}
    world = World(ON + "[burst]\nburst_pct = 10", {WEB: ("/web", Qos.LS)}, owners=owners)
    world.ticks(3, {WEB: BUSY})
    assert world.changes == []


def test_a_throttle_event_raises_the_quota_at_once() -> None:
    world = burst_world()
    verdict = world.event(WEB)
    assert quota_us(world) == 60_000
    (decision,) = verdict.accepted
    assert "50000 -> 60000 us" in decision.reason


def test_events_of_one_period_raise_once() -> None:
    """They come from every CPU on which the group ran."""
    world = burst_world()
    for _ in range(8):
        world.event(WEB, after_s=0.001)
    assert quota_us(world) == 60_000
    world.event(WEB, after_s=0.1)
    assert quota_us(world) == 72_000


def test_never_past_the_ceiling() -> None:
    world = burst_world("[burst]\nceil_pct = 150")
    asked = [decision.intents[0].value for _ in range(30) for decision in world.event(WEB).accepted]
    assert asked == [60_000, 72_000, 75_000]


def test_without_events_the_growth_of_nr_throttled_stands_for_them() -> None:
    world = burst_world()
    world.tick({WEB: Look(0.5, throttled=4)})
    assert quota_us(world) == 60_000


def test_throttling_that_an_event_has_told_is_not_answered_again_at_the_tick() -> None:
    world = burst_world()
    world.event(WEB)
    world.tick({WEB: Look(0.5, throttled=4)}, seconds=0.9)
    assert quota_us(world) == 60_000


def test_a_raise_is_taken_back_in_steps_when_it_was_not_throttled_for_decay_s() -> None:
    world = burst_world()
    for _ in range(9):
        world.event(WEB)
    raised = quota_us(world)
    assert raised == 150_000
    world.ticks(9, {WEB: Look(0.55)})
    assert quota_us(world) == raised
    seen = []
    for _ in range(8):
        world.tick({WEB: Look(0.55)})
        seen.append(quota_us(world))
    assert seen[:5] == [120_000, 96_000, 76_800, 61_440, 50_000]
    assert seen[-1] == 50_000


def test_a_group_that_is_throttled_all_the_time_comes_back_when_its_budget_is_used_up() -> None:
    """A raised quota never stays for ever: 10 s at three times the quota, with events all the time."""
    world = burst_world("[burst]\nbudget_s = 10")
    at_ceiling = 0
    for _ in range(40):
        used = quota_us(world) / PERIOD_US
        world.tick({WEB: Look(used, throttled=5)})
        world.event(WEB, after_s=0.001)
        at_ceiling += quota_us(world) == 150_000
    assert 0 < at_ceiling <= 12
    assert quota_us(world) == 50_000


@pytest.mark.parametrize(("node_used", "raised"), [(1.7, True), (1.85, False), (NAN, False)])
def test_nothing_is_raised_when_the_share_pool_is_nearly_full_or_not_known(node_used: float, *, raised: bool) -> None:
    world = World(ON, {WEB: ("/web", Qos.LS)}, owners={(WEB, Knob.QUOTA): 50_000})
    world.ticks(6, {WEB: BUSY}, node_used_cores=node_used)
    world.event(WEB)
    assert (quota_us(world) > 50_000) is raised


def many(count: int = 12) -> World:
    """Services, all raised to their ceiling."""
    groups = {id: (f"/web-{id}", Qos.LS) for id in range(100, 100 + count)}
    owners: dict[tuple[int, Knob], KnobValue] = {(id, Knob.QUOTA): 10_000 + 100 * id for id in groups}
    world = World(ON, groups, cpus=16, owners=owners)
    world.ticks(6, dict.fromkeys(groups, Look(0.1)))
    for _ in range(10):
        world.event(*groups)
    return world


def test_2164_under_overload_a_few_bursts_drop_at_a_time_and_do_not_come_back_at_once() -> None:
    """All together and up again is what swings. The most raised first; whoever was lowered stays low for decay_s."""
    world = many()
    ids = [group.id for group in world.groups]
    start = {id: quota_us(world, id) for id in ids}
    busy = dict.fromkeys(ids, Look(0.15, throttled=2))
    world.ticks(6, busy, node_used_cores=12)
    lowered = [
        {
            intent.group_id
            for at_ns, decision, _ in world.changes
            if decision.emergency
            for intent in decision.intents
            if at_ns == when
        }
        for when in sorted({at_ns for at_ns, decision, _ in world.changes if decision.emergency})
    ]
    assert lowered
    assert all(len(groups) <= 2 for groups in lowered)
    assert lowered[0] == set(sorted(ids, key=lambda id: start[id])[-2:])
    directions: dict[int, list[int]] = {id: [] for id in ids}
    before = {id: quota_us(world, id) for id in ids}
    for i in range(60):  # the pool swings around its threshold
        world.tick(busy, node_used_cores=12 if i // 6 % 2 else 4, events=ids)
        for id in ids:
            if quota_us(world, id) != before[id]:
                directions[id].append(1 if quota_us(world, id) > before[id] else -1)
            before[id] = quota_us(world, id)
    turns = [sum(a != b for a, b in pairwise(steps)) for steps in directions.values()]
    assert max(turns) <= 60 / 10
    for when in {at_ns for at_ns, *_ in world.changes}:
        assert sum(decision.emergency for at_ns, decision, _ in world.changes if at_ns == when) <= 2


def pod(owners_pod_us: int = 100_000) -> World:
    groups = {POD: ("/pod", Qos.LS), CONTAINER: ("/pod/app", Qos.LS), OTHER: ("/pod/side", Qos.LS)}
    owners: dict[tuple[int, Knob], KnobValue] = {
        (POD, Knob.QUOTA): owners_pod_us,
        (CONTAINER, Knob.QUOTA): 90_000,
        (OTHER, Knob.QUOTA): 10_000,
    }
    world = World(ON, groups, owners=owners)
    world.ticks(6, {POD: Look(0.5), CONTAINER: Look(0.4), OTHER: Look(0.05)})
    return world


def test_a_pod_is_raised_before_its_container() -> None:
    """A container cannot use, and on cgroup v1 not have, more than its pod."""
    world = pod()
    (decision,) = world.event(CONTAINER).accepted
    assert [(intent.group_id, intent.value) for intent in decision.intents] == [(POD, 108_000), (CONTAINER, 108_000)]


def test_2047_a_container_is_lowered_before_its_pod_and_never_above_it() -> None:
    world = pod()
    for _ in range(12):
        world.event(CONTAINER, POD)
        assert quota_us(world, CONTAINER) <= quota_us(world, POD)
    quiet = {POD: Look(0.55), CONTAINER: Look(0.55), OTHER: Look(0.05)}
    for _ in range(40):
        verdict = world.tick(quiet)
        order = [intent.group_id for decision in verdict.accepted for intent in decision.intents]
        assert order in ([], [CONTAINER], [POD], [CONTAINER, POD])
        assert quota_us(world, CONTAINER) <= quota_us(world, POD)
    assert (quota_us(world, POD), quota_us(world, CONTAINER)) == (100_000, 90_000)


def test_2047_a_pod_that_is_calm_stays_as_high_as_its_busy_container() -> None:
    world = pod()
    for _ in range(40):
        world.event(CONTAINER)
        world.tick({POD: Look(0.9), CONTAINER: Look(0.85), OTHER: Look(0.05)})
        assert quota_us(world, CONTAINER) <= quota_us(world, POD)
    assert quota_us(world, CONTAINER) == 270_000


def test_a_quota_that_runs_out_just_after_it_was_given_back_is_raised_from_its_owners() -> None:
    """The last tick still has what it was raised to."""
    world = burst_world()
    world.event(WEB)
    assert quota_us(world) == 60_000
    for _ in range(60):
        world.tick({WEB: Look(0.1)})
        if quota_us(world) == 50_000:
            break
    world.event(WEB)
    assert quota_us(world) == 60_000


def test_2591_what_somebody_else_sets_meanwhile_is_the_new_base() -> None:
    world = burst_world()
    world.event(WEB)
    world.foreign_write(WEB, Knob.QUOTA, 80_000)
    world.event(WEB)
    assert quota_us(world) == 80_000
    world.event(WEB)
    assert quota_us(world) == 96_000
    world.ticks(20, {WEB: Look(0.55)})
    assert quota_us(world) == 80_000


def test_2591_a_group_whose_owner_insists_is_left_alone() -> None:
    world = burst_world()
    world.event(WEB)
    world.knobs[WEB, Knob.QUOTA] = KnobState(55_000, 55_000, is_foreign=True)
    before = len(world.changes)
    world.event(WEB)
    world.ticks(20, {WEB: Look(0.5, throttled=1)})
    assert len(world.changes) == before


def test_a_refused_raise_is_not_asked_for_again_within_retry_s() -> None:
    world = burst_world("refused_writes = 1000")
    world.result = lambda intent: Result.REFUSED if intent.knob is Knob.QUOTA else Result.APPLIED
    before = len(world.changes)
    for _ in range(300):
        world.event(WEB)
    assert len(world.changes) == before + 1


def test_a_raise_is_taken_back_when_the_policy_has_become_static() -> None:
    world = burst_world()
    world.event(WEB)
    other = World(ON + '[burst]\npolicy = "static"', {WEB: ("/web", Qos.LS)})
    other.knobs, other.now_ns = world.knobs, world.now_ns
    other.ticks(3, {WEB: BUSY})
    assert quota_us(other) == 50_000


def test_the_static_policy_leaves_quotas_alone() -> None:
    world = burst_world('[burst]\npolicy = "static"')
    world.event(WEB)
    world.tick({WEB: Look(0.5, throttled=5)})
    assert quota_us(world) == 50_000


def test_2633_489_2767_a_quota_is_never_taken_away() -> None:
    world = many()
    ids = [group.id for group in world.groups]
    world.ticks(30, dict.fromkeys(ids, Look(0.1)))
    assert all(
        isinstance(intent.value, int)
        for _, decision, _ in world.changes
        for intent in decision.intents
        if intent.knob is Knob.QUOTA
    )
