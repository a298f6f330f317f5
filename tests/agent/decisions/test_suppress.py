"""The ladder: priority, CPUs, CPU time, freezing; up while services wait because of batch work, and back down."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agent.control import Hold, Intent, Knob, Result
from agent.decisions.suppress_ladder import Stand
from agent.records import Qos
from tests.agent.decisions.world import BATCH, CALM, NAN, PERIOD_US, RULE, SLOW, WEB, Look, World

HOG = Look(used_cores=3.0)
WAITING, QUIET = {WEB: SLOW, BATCH: HOG}, {WEB: CALM, BATCH: HOG}


def quota_cores(world: World, group_id: int = BATCH) -> float | None:
    value = world.value(group_id, Knob.QUOTA)
    return value / PERIOD_US if isinstance(value, int) else None


def with_rungs(*rungs: str, extra: str = "") -> str:
    return f"{RULE}\n[suppress]\nrungs = {list(rungs)}\n{extra}"


def test_priority_comes_first_and_cpu_time_one_settling_time_later() -> None:
    world = World()
    world.ticks(2, WAITING)
    assert (world.value(BATCH, Knob.IDLE), quota_cores(world)) == (1, None)
    world.ticks(2, WAITING)
    assert quota_cores(world) is None
    world.ticks(1, WAITING)
    assert quota_cores(world) is not None


def test_the_next_step_waits_while_the_last_sample_is_good() -> None:
    """The window still holds what was before the last step: that is no reason for another one."""
    world = World(RULE.replace("window_s = 4", "window_s = 10"))
    world.ticks(5, WAITING)
    assert world.ticks(7, QUIET)[-1].findings
    assert (world.value(BATCH, Knob.IDLE), quota_cores(world)) == (1, None)
    world.ticks(1, WAITING)
    assert quota_cores(world) is not None


def test_a_limit_goes_down_in_steps_while_services_wait_and_never_below_its_floor() -> None:
    world = World()
    seen: list[float] = []
    for _ in range(60):
        world.tick(WAITING)
        cores = quota_cores(world)
        if cores is not None and cores not in seen:
            seen.append(cores)
    assert len(seen) > 5
    assert all(after == pytest.approx(before * 0.7, rel=1e-3) for before, after in pairwise(seen[:-1]))
    assert seen[-1] == 0.02 * 4
    assert world.state.controllers["suppress"].stand.by_wait_cores == {"quota": 0.02 * 4}


def test_the_first_limit_is_below_what_batch_work_uses() -> None:
    """A limit above it would not be felt, and a settling time would be lost."""
    world = World(with_rungs("quota"))
    world.ticks(2, {WEB: SLOW, BATCH: Look(1.0)})
    assert quota_cores(world) == pytest.approx(0.7)


def test_when_no_rule_fires_everything_goes_back_in_steps_of_at_most_a_tenth_of_the_machine() -> None:
    world = World()
    world.ticks(30, WAITING)
    before = quota_cores(world)
    for _ in range(120):
        world.tick(QUIET)
        now = quota_cores(world)
        assert before is None or (now or world.cpus) <= before + 0.1 * world.cpus + 1e-6
        before = now
    assert world.value(BATCH, Knob.QUOTA) is None
    assert world.value(BATCH, Knob.IDLE) == 0


def test_priority_is_given_back_only_after_calm_s() -> None:
    world = World(with_rungs("idle"))
    world.ticks(4, WAITING)
    assert world.value(BATCH, Knob.IDLE) == 1
    given_back = next(i for i in range(60) if not (world.tick(QUIET), world.value(BATCH, Knob.IDLE))[1])
    assert 10 <= given_back <= 10 + 5


def test_a_service_that_is_slow_by_itself_costs_batch_work_nothing() -> None:
    """Contention whose culprits are services, and waits by its own quota: other causes, other cures."""
    world = World(groups={WEB: ("/web", Qos.LS), 11: ("/shop", Qos.LS), BATCH: ("/batch", Qos.BE)})
    world.ticks(20, {WEB: Look(0.4, 9, 0.5, culprits={11: 0.8, BATCH: 0.2}), BATCH: HOG})
    world.ticks(20, {WEB: Look(0.4, 9, 0.1, throttle_s=0.9, culprits={BATCH: 1}), BATCH: HOG})
    assert world.changes == []


def test_a_rule_for_other_controllers_does_not_suppress() -> None:
    world = World(RULE + 'controllers = ["burst"]')
    world.ticks(20, WAITING)
    assert world.changes == []


def test_a_host_without_cpu_idle_takes_weight() -> None:
    world = World()
    world.result = lambda intent: Result.UNSUPPORTED if intent.knob is Knob.IDLE else Result.APPLIED
    world.ticks(4, WAITING)
    assert world.value(BATCH, Knob.WEIGHT) == 1
    world.ticks(80, QUIET)
    assert world.value(BATCH, Knob.WEIGHT) == 100


@pytest.mark.parametrize("result", [Result.UNSUPPORTED, Result.REFUSED])
def test_a_rung_that_is_not_to_be_had_is_skipped(result: Result) -> None:
    world = World(RULE.replace("[enforce]", "[enforce]\nrefused_writes = 100"))
    world.result = lambda intent: result if intent.knob in (Knob.IDLE, Knob.WEIGHT) else Result.APPLIED
    world.ticks(4, WAITING)
    assert quota_cores(world) is not None


def test_what_was_refused_is_not_tried_again_at_every_tick() -> None:
    world = World(with_rungs("idle"))
    world.result = lambda _: Result.REFUSED
    world.ticks(30, WAITING)
    assert len(world.changes) == 2  # cpu.idle, then the weight


def test_the_ladder_limited_to_quota_leaves_priority_alone() -> None:
    world = World(with_rungs("quota"))
    world.ticks(20, WAITING)
    assert quota_cores(world) is not None
    assert world.value(BATCH, Knob.IDLE) == 0


def test_freezing_is_bounded_and_longer_when_repeated() -> None:
    """10, 20, 30, 30 s: it thaws though the service still waits."""
    world = World(with_rungs("freeze"))
    frozen, runs = 0, []
    for _ in range(140):
        world.tick(WAITING)
        if world.value(BATCH, Knob.FREEZE):
            frozen += 1
        elif frozen:
            runs.append(frozen)
            frozen = 0
    assert runs[:4] == [10, 20, 30, 30]


def test_freezing_ends_also_while_the_node_is_ill() -> None:
    world = World(with_rungs("freeze"))
    world.ticks(3, WAITING)
    assert world.value(BATCH, Knob.FREEZE) == 1
    world.ticks(12, WAITING, root_is_read_only=True)
    assert world.value(BATCH, Knob.FREEZE) == 0


def test_a_cpuset_keeps_two_cpus_and_gives_all_back() -> None:
    """395: containers that start in a narrowed set fail. So it has min_cpus at least, and is not kept."""
    world = World(with_rungs("cpuset"), cpus=8)
    sets = set()
    for _ in range(60):
        world.tick({WEB: SLOW, BATCH: Look(7.0)})
        sets.add(world.value(BATCH, Knob.CPUSET))
    assert {len(cpus) for cpus in sets if cpus} >= {2, 3}  # type: ignore[arg-type]
    assert min(len(cpus) for cpus in sets if cpus) == 2  # type: ignore[arg-type]
    world.ticks(90, {WEB: CALM, BATCH: Look(2.0)})
    assert world.value(BATCH, Knob.CPUSET) == ()


def test_395_by_default_no_cpuset_is_narrowed() -> None:
    world = World(cpus=8)
    world.ticks(60, WAITING)
    assert all(intent.knob is not Knob.CPUSET for _, decision, _ in world.changes for intent in decision.intents)


def test_a_cpuset_without_knowing_the_cpus_of_lse_groups_is_left_alone() -> None:
    groups = {WEB: ("/web", Qos.LS), 12: ("/pinned", Qos.LSE), BATCH: ("/batch", Qos.BE)}
    world = World(with_rungs("cpuset"), groups, cpus=8)
    verdicts = world.ticks(20, WAITING)
    assert world.changes == []
    assert world.state.controllers["suppress"].stand == Stand()
    why = "which CPUs /pinned may use is not known: batch work keeps all of its own"
    assert Hold("suppress", why) in verdicts[-1].holds
    world.cpusets[12] = (6, 7)
    world.ticks(20, WAITING)
    cpus = world.value(BATCH, Knob.CPUSET)
    assert isinstance(cpus, tuple)
    assert cpus
    assert not {6, 7} & set(cpus)


def test_a_cpuset_without_knowing_the_cpus_of_lse_groups_is_passed_over() -> None:
    groups = {WEB: ("/web", Qos.LS), 12: ("/pinned", Qos.LSE), BATCH: ("/batch", Qos.BE)}
    world = World(with_rungs("cpuset", "quota"), groups, cpus=8)
    world.ticks(4, WAITING)
    assert quota_cores(world) is not None


def test_1218_696_a_batch_group_never_gets_a_quota_of_1000_us() -> None:
    """Not by many groups that share the least room, nor by use of the whole machine by services."""
    groups = {WEB: ("/web", Qos.LS), **{id: (f"/batch-{id}", Qos.BE) for id in range(20, 40)}}
    world = World("suppress.always = true\n" + RULE, groups, cpus=2)
    looks = {WEB: Look(1.9, 9, 0.5, culprits={20: 1}), **{id: Look(0.005) for id in range(20, 40)}}
    world.ticks(80, looks)
    quotas = [world.value(id, Knob.QUOTA) for id in range(20, 40)]
    assert all(isinstance(quota, int) and quota >= 0.02 * PERIOD_US for quota in quotas)
    assert sum(quotas) >= 0.02 * 2 * PERIOD_US  # type: ignore[arg-type]


def test_2723_a_childs_own_quota_does_not_defeat_the_parents() -> None:
    """The topmost batch group is limited, which holds for all in it; a child's own, larger quota stays."""
    groups = {WEB: ("/web", Qos.LS), BATCH: ("/batch", Qos.BE), 21: ("/batch/job", Qos.BE)}
    world = World(groups=groups, owners={(21, Knob.QUOTA): 10 * PERIOD_US})
    world.ticks(20, {WEB: Look(0.4, 9, 0.5, culprits={21: 1}), BATCH: HOG, 21: HOG})
    cores = quota_cores(world)
    assert cores is not None
    assert cores < 3
    assert world.value(21, Knob.QUOTA) == 10 * PERIOD_US


@pytest.mark.parametrize("weights", [{}, {20: 300, 21: 100}])
def test_2633_489_2767_no_batch_group_is_left_without_a_limit_to_starve_its_siblings(weights: dict[int, int]) -> None:
    """Groups without a common parent share the room by weight, each with a knob of its own."""
    groups = {WEB: ("/web", Qos.LS), 20: ("/batch-a", Qos.BE), 21: ("/batch-b", Qos.BE)}
    world = World(groups=groups, owners={(id, Knob.WEIGHT): weight for id, weight in weights.items()})
    world.ticks(9, {WEB: Look(0.4, 9, 0.5, culprits={20: 1}), 20: Look(1.5), 21: Look(1.5)})
    one, other = quota_cores(world, 20), quota_cores(world, 21)
    assert one is not None
    assert other is not None
    assert one / other == pytest.approx(weights.get(20, 100) / weights.get(21, 100), rel=0.02)


def test_a_group_that_cannot_use_its_share_leaves_it_to_the_others() -> None:
    groups = {WEB: ("/web", Qos.LS), 20: ("/batch-a", Qos.BE), 21: ("/batch-b", Qos.BE)}
    world = World("suppress.always = true\n[enforce]\nmode = 'on'", groups)
    world.ticks(40, {WEB: CALM, 20: Look(0.1), 21: Look(2.0)})
    small, large = quota_cores(world, 20), quota_cores(world, 21)
    assert small is not None
    assert large is not None
    assert small < 0.2
    assert small + large == pytest.approx(0.65 * 4 - 0.4 - 0.1, abs=0.05)


def test_capacity_protection_follows_the_services_use() -> None:
    """Down at once, up by at most a tenth of the machine per tick; no rule is needed."""
    world = World("suppress.always = true\n[enforce]\nmode = 'on'", cpus=10)
    world.ticks(3, {WEB: Look(1.0), BATCH: Look(5.0)})
    assert quota_cores(world) == pytest.approx(6.5 - 1.0 - 0.1, abs=0.01)
    world.tick({WEB: Look(4.0), BATCH: Look(5.0)})
    assert quota_cores(world) == pytest.approx(6.5 - 4.0 - 0.1, abs=0.01)
    world.tick({WEB: Look(1.0), BATCH: Look(2.0)})
    assert quota_cores(world) == pytest.approx(6.5 - 4.0 - 0.1 + 1.0, abs=0.01)


def test_a_change_of_less_than_a_hundredth_of_the_machine_is_not_made() -> None:
    world = World("suppress.always = true\n[enforce]\nmode = 'on'", cpus=10)
    world.ticks(3, {WEB: Look(1.0), BATCH: Look(5.0)})
    before = len(world.changes)
    world.ticks(5, {WEB: Look(1.05), BATCH: Look(5.0)})
    assert len(world.changes) == before


def test_many_batch_groups_together_are_off_by_the_dead_band_at_most() -> None:
    """A change that is small for each of 40 groups is not small for the machine."""
    groups = {WEB: ("/web", Qos.LS), **{id: (f"/batch-{id}", Qos.BE) for id in range(20, 60)}}
    world = World("suppress.always = true\n[enforce]\nmode = 'on'", groups, cpus=40)
    batch = {id: Look(1.0) for id in range(20, 60)}
    world.ticks(3, {WEB: Look(1.0), **batch})
    world.tick({WEB: Look(9.0), **batch})
    limits = [quota_cores(world, id) or 0 for id in range(20, 60)]
    assert sum(limits) == pytest.approx(0.65 * 40 - 9 - 0.1, abs=0.4)


def test_a_limit_that_rises_by_less_than_the_dead_band_per_step_still_comes_back() -> None:
    world = World(with_rungs("quota", extra="up_pct = 0.5"))
    world.ticks(20, WAITING)
    for _ in range(1000):
        world.tick(QUIET)
        if quota_cores(world) is None:
            return
    pytest.fail(f"still {quota_cores(world)} cores")


def test_a_batch_group_that_appears_later_gets_what_the_others_have() -> None:
    world = World(with_rungs("idle"))
    world.ticks(4, WAITING)
    world.groups = World.group_tuple({WEB: ("/web", Qos.LS), BATCH: ("/batch", Qos.BE), 21: ("/late", Qos.BE)})
    world.ticks(2, WAITING)
    assert world.value(21, Knob.IDLE) == 1


def test_a_batch_group_that_holds_a_service_is_not_touched_but_what_is_in_it_is() -> None:
    groups = {WEB: ("/mixed/web", Qos.LS), BATCH: ("/mixed/job", Qos.BE), 30: ("/mixed", Qos.BE)}
    world = World(groups=groups)
    world.ticks(10, {WEB: SLOW, BATCH: HOG, 30: HOG})
    assert {intent.group_id for _, decision, _ in world.changes for intent in decision.intents} == {BATCH}


def test_a_batch_group_that_a_service_comes_into_gets_everything_back() -> None:
    world = World()
    world.ticks(8, WAITING)
    assert (world.value(BATCH, Knob.IDLE), quota_cores(world) is None) == (1, False)
    inside = {WEB: ("/web", Qos.LS), BATCH: ("/batch", Qos.BE), 21: ("/batch/db", Qos.LS)}
    world.groups = World.group_tuple(inside)
    world.ticks(2, WAITING)
    assert (world.value(BATCH, Knob.IDLE), quota_cores(world)) == (0, None)


@pytest.mark.parametrize(
    ("rung", "knob", "owners"), [("idle", Knob.IDLE, 1), ("freeze", Knob.FREEZE, 1), ("idle", Knob.WEIGHT, 50)]
)
def test_what_an_owner_set_himself_is_not_taken_away_in_the_end(rung: str, knob: Knob, owners: int) -> None:
    """It is as low already, and stays so; a weight comes back as it was."""
    world = World(with_rungs(rung), owners={(BATCH, knob): owners})
    world.result = lambda intent: (
        Result.UNSUPPORTED if knob is Knob.WEIGHT and intent.knob is Knob.IDLE else Result.APPLIED
    )
    world.ticks(12, WAITING)
    assert world.value(BATCH, knob) == 1
    world.ticks(60, QUIET)
    assert world.value(BATCH, knob) == owners
    assert sum(intent.knob is knob for _, decision, _ in world.changes for intent in decision.intents) in (0, 2)


def test_what_an_owner_takes_away_is_set_again_while_the_rung_is_in_use() -> None:
    world = World(with_rungs("idle"))
    world.ticks(4, WAITING)
    world.foreign_write(BATCH, Knob.IDLE, 0)
    world.ticks(2, WAITING)
    assert world.value(BATCH, Knob.IDLE) == 1


def test_a_weight_that_idle_hides_is_not_taken_for_ours() -> None:
    """The kernel shows the lowest one of an idle group."""
    world = World(with_rungs("idle"), owners={(BATCH, Knob.WEIGHT): 300})
    world.ticks(20, WAITING)
    assert world.value(BATCH, Knob.IDLE) == 1
    assert len(world.changes) == 1


def test_an_owners_lower_quota_is_kept() -> None:
    world = World(owners={(BATCH, Knob.QUOTA): 20_000})
    world.ticks(8, WAITING)
    assert world.value(BATCH, Knob.QUOTA) == 20_000
    assert all(intent.knob is Knob.IDLE for _, decision, _ in world.changes for intent in decision.intents)


@pytest.mark.parametrize(
    "looks",
    [
        {WEB: SLOW, BATCH: Look(NAN)},
        {WEB: Look(0.4, NAN, 0.5, culprits={BATCH: 1}), BATCH: HOG},
        {WEB: Look(0.4, 9, NAN), BATCH: HOG},
    ],
)
def test_what_is_not_known_makes_it_hold(looks: dict[int, Look]) -> None:
    """The use of batch work, the signal itself, or what tells its cause: no further step; and it says so."""
    world = World(with_rungs("quota"))
    world.ticks(6, WAITING)
    before = len(world.changes)
    verdicts = world.ticks(3, looks)
    assert len(world.changes) == before
    assert any(hold.controller == "suppress" for verdict in verdicts for hold in verdict.holds)


def test_a_dry_run_climbs_and_comes_back_like_a_real_one_and_says_each_step_once() -> None:
    real, dry = World(), World()
    dry.result = lambda _: Result.DRY_RUN
    for looks, count in ((WAITING, 20), (QUIET, 150)):
        real.ticks(count, looks)
        dry.ticks(count, looks)
    said: list[tuple[Intent, ...]] = [decision.intents for _, decision, _ in dry.changes]
    assert said == [decision.intents for _, decision, _ in real.changes]
    assert dry.knobs == {}
