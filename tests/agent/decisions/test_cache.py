"""The law of the caches: every partition has its part, batch work's gives way and comes back."""

from __future__ import annotations

import errno
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.control import Cause, Intent, Knob, KnobState, KnobValue, Resource, Result, SliValue, partition_id
from agent.decisions.cache import Cache, CacheState
from agent.decisions.control import Verdict
from agent.records import CacheOffer, CacheProfile, CacheSample, PartitionProfile, PartitionSample, Qos
from tests.agent.decisions.world import BATCH, CALM, NAN, WEB, Look, World

BE, LS = partition_id(Qos.BE), partition_id(Qos.LS)
SETTLE_S = 3
HUNDRED = CacheOffer(100, 1.0)
"""A machine on which a point is a way, and a step of bandwidth."""
CONFIG = f"""
[enforce]
mode = "on"
settle_s = {SETTLE_S}
[suppress]
enforce = "off"
[cache]
enforce = "on"
[[sli]]
name = "shop"
url = "http://127.0.0.1:1/metrics"
metric = "m"
target = "100ms"
group = "/web"
[[rule]]
name = "slow"
signal = "sli:shop"
window_s = 2
"""
LOOKS = {WEB: CALM, BATCH: Look(used_cores=1.0)}


def cache(offer: CacheOffer = HUNDRED, *, llc_bytes: float = NAN, bytes_per_s: float = NAN) -> CacheProfile:
    nothing = PartitionSample({}, {}, {})
    batch = PartitionProfile(nothing, llc_bytes, bytes_per_s, NAN)
    return CacheProfile(CacheSample(0, {BE: nothing}, None, offer), {BE: batch}, None)


def world(more: str = "", offer: CacheOffer = HUNDRED) -> World:
    """After its first tick, in which the partitions were made."""
    made = World(CONFIG + more)
    made.cache = cache(offer)
    tick(made)
    return made


def tick(made: World, slow: bool | None = False) -> Verdict:
    """A second. `slow` None: the service does not tell."""
    made.slis = {}
    if slow is not None:
        made.slis["shop"] = SliValue("shop", "/web", 2e8 if slow else 1e6, 1e8, made.now_ns)
    return made.tick(LOOKS)


def ticks(made: World, count: int, slow: bool | None = False) -> None:
    for _ in range(count):
        tick(made, slow)


def has(made: World) -> tuple[KnobValue, KnobValue]:
    """What batch work may use."""
    return made.value(BE, Knob.CACHE_WAYS), made.value(BE, Knob.MEMORY_BANDWIDTH)


def steps(made: World) -> list[tuple[KnobValue, KnobValue]]:
    """What batch work might use, one after the other."""
    found: list[tuple[KnobValue, KnobValue]] = []
    ways: KnobValue = None
    bandwidth: KnobValue = None
    for _, decision, _ in made.changes:
        for intent in decision.intents:
            if intent.group_id == BE:
                ways = intent.value if intent.knob is Knob.CACHE_WAYS else ways
                bandwidth = intent.value if intent.knob is Knob.MEMORY_BANDWIDTH else bandwidth
        found.append((ways, bandwidth))
    return found


def test_partitions_are_made_as_they_are_configured() -> None:
    made = world('[[partition]]\nclass = "LS"\nways = "50-100%"\nexclusive = true\nbandwidth = "90%"')
    (change,) = made.changes
    assert change[1].intents == (
        Intent(LS, "partition LS", Knob.CACHE_WAYS, (50, 100)),
        Intent(LS, "partition LS", Knob.MEMORY_BANDWIDTH, 90),
        Intent(BE, "partition BE", Knob.CACHE_WAYS, (0, 50)),
        Intent(BE, "partition BE", Knob.MEMORY_BANDWIDTH, 50),
    )
    assert change[1].resource is Resource.CACHE
    assert change[1].reason == (
        "LS may use 50-100 % of the L3 alone and 90 % of memory bandwidth; "
        "batch work may use 0-50 % of the L3 and 50 % of memory bandwidth"
    )
    assert not change[1].gives_back


def test_what_is_so_is_not_asked_for_again() -> None:
    made = world()
    ticks(made, 10)
    assert len(made.changes) == 1


def test_a_workload_of_its_own_has_a_partition_while_it_is_there() -> None:
    made = world('[[partition]]\nmatch = "/db"\nways = "60-100%"')
    made.groups = World.group_tuple({WEB: ("/web", Qos.LS), BATCH: ("/batch", Qos.BE), 30: ("/db", Qos.LS)})
    made.tick(LOOKS)
    assert made.value(30, Knob.CACHE_WAYS) == (60, 100)
    made.groups = World.group_tuple({WEB: ("/web", Qos.LS), BATCH: ("/batch", Qos.BE)})
    assert made.tick(LOOKS).accepted == ()


def test_under_pressure_it_falls_by_half_per_settling_time_to_the_floor_and_rises_by_five_points_when_clear() -> None:
    """Steps, floors and recovery as the law says."""
    made = world()
    ticks(made, 40, slow=True)
    down = [50, 30, 20, 15, 12, 11, 10]
    assert steps(made) == [((0, each), each) for each in down]
    ticks(made, 40)
    up = [15, 20, 25, 30, 35, 40, 45, 50]
    assert steps(made)[len(down) :] == [((0, each), each) for each in up]
    times_s = [at_ns / 1e9 for at_ns, _, _ in made.changes]
    gaps_s = [after - before for before, after in pairwise(times_s)]
    assert min(gaps_s) >= SETTLE_S
    assert sorted(gaps_s)[-2] == SETTLE_S  # but for the time until the rule cleared


def test_each_step_says_why_with_numbers() -> None:
    made = world()
    made.cache = cache(llc_bytes=5e6, bytes_per_s=2e9)
    ticks(made, 4, slow=True)
    decision = made.changes[-1][1]
    assert decision.reason.startswith("/web: rule slow: sli:shop was past 100 ms")
    assert decision.reason.endswith(
        "; batch work may use 0-30 % of the L3 (was 0-50 %) and 30 % of memory bandwidth (was 50 %)"
    )
    assert (decision.cause, decision.group_id, decision.gives_back) == (Cause.CACHE, WEB, False)
    assert decision.inputs == {"be_cache_bytes": 5_000_000, "be_memory_bytes_per_s": 2_000_000_000}
    changes = len(made.changes)
    ticks(made, 8)
    decision = made.changes[changes][1]
    assert decision.reason == (
        "no rule fires: batch work may use 0-35 % of the L3 (was 0-30 %) and 35 % of memory bandwidth (was 30 %)"
    )
    assert decision.gives_back


def test_at_the_floor_it_holds() -> None:
    made = world()
    ticks(made, 40, slow=True)
    assert "nothing more to give" in tick(made, slow=True).holds[0].reason


def test_static_partitions_stay() -> None:
    made = World(CONFIG.replace('[cache]\nenforce = "on"', '[cache]\nenforce = "on"\npolicy = "static"'))
    made.cache = cache()
    ticks(made, 20, slow=True)
    assert has(made) == ((0, 50), 50)


def test_while_the_signal_is_absent_it_stays() -> None:
    made = world()
    ticks(made, 4, slow=True)
    before = has(made)
    holds = [hold.reason for _ in range(20) for hold in tick(made, slow=None).holds]
    assert has(made) == before
    assert "sli:shop of /web is absent" in holds[0]


def test_while_the_last_sample_is_good_it_stays() -> None:
    """The window still holds what was before the last step."""
    made = World(CONFIG.replace("window_s = 2", "window_s = 10"))
    made.cache = cache()
    ticks(made, 6, slow=True)
    before = has(made)
    ticks(made, 6)
    assert tick(made).findings
    assert has(made) == before != ((0, 50), 50)


def test_while_another_cause_is_at_work_it_stays() -> None:
    made = world()
    ticks(made, 4, slow=True)
    before = has(made)
    waits = Look(used_cores=0.4, p99_ms=9, contention_s=0.5, culprits={BATCH: 1})
    for _ in range(20):
        made.slis = {"shop": SliValue("shop", "/web", 2e8, 1e8, made.now_ns)}
        verdict = made.tick({WEB: waits, BATCH: Look(1.0)})
    assert verdict.findings[0].cause is Cause.BATCH_ON_CPU
    assert has(made) == before


def test_a_rule_for_other_controllers_is_none_of_its() -> None:
    made = World(CONFIG + 'controllers = ["burst"]')
    made.cache = cache()
    ticks(made, 20, slow=True)
    assert has(made) == ((0, 50), 50)


def test_without_batch_work_nothing_is_taken() -> None:
    made = World(CONFIG, {WEB: ("/web", Qos.LS)})
    made.cache = cache()
    for _ in range(10):
        made.slis = {"shop": SliValue("shop", "/web", 2e8, 1e8, made.now_ns)}
        verdict = made.tick({WEB: CALM})
    assert has(made) == ((0, 50), 50)
    assert "no batch work" in verdict.holds[0].reason


@pytest.mark.parametrize(
    ("offer", "floor"),
    [
        (CacheOffer(12, None), ((0, 10), None)),
        (CacheOffer(None, 10.0), (None, 10)),
        (CacheOffer(12, 10.0), ((0, 10), 10)),
    ],
)
def test_a_machine_that_has_one_of_both_gives_way_by_that(
    offer: CacheOffer, floor: tuple[KnobValue, KnobValue]
) -> None:
    made = world(offer=offer)
    ticks(made, 30, slow=True)
    assert has(made) == floor


MBPS = """
[[partition]]
class = "BE"
ways = "0-50%"
bandwidth = "8000 MiB/s"
"""


def world_mbps(offer: CacheOffer) -> World:
    made = World(CONFIG.replace("[cache]\n", "[cache]\nmount = true\nmba_mbps = true\n") + MBPS)
    made.cache = cache(offer)
    ticks(made, 1)
    return made


def test_in_mib_per_s_the_law_is_the_same() -> None:
    made = world_mbps(CacheOffer(None, 1, is_mib_per_s=True))
    ticks(made, 4, slow=True)
    assert has(made) == (None, 800 + 7200 // 2)
    assert "4400 MiB/s of memory bandwidth (was 8000 MiB/s)" in made.changes[-1][1].reason
    ticks(made, 60, slow=True)
    assert has(made) == (None, 800)
    changes = len(made.changes)
    ticks(made, 20)
    assert made.changes[changes][1].intents[0].value == 1200


def test_bandwidth_in_another_unit_than_resctrl_has_is_left_alone_and_said() -> None:
    made = world_mbps(HUNDRED)
    ticks(made, 4, slow=True)
    assert has(made) == ((0, 30), None)
    assert "without mba_MBps" in tick(made).holds[-1].reason


def test_without_resctrl_it_holds_and_says_what_to_do() -> None:
    made = World(CONFIG)
    verdict = made.tick(LOOKS)
    assert verdict.accepted == ()
    assert "cache.mount" in verdict.holds[0].reason
    made.cache = cache()
    made.tick(LOOKS)
    assert has(made) == ((0, 50), 50)


def test_a_machine_that_can_divide_nothing_is_said() -> None:
    made = World(CONFIG)
    made.cache = cache(CacheOffer(None, None))
    assert "neither cache nor memory bandwidth" in made.tick(LOOKS).holds[0].reason


def test_what_was_refused_is_not_tried_at_every_tick() -> None:
    made = World(CONFIG)
    made.cache = cache()
    made.result = lambda _: Result.REFUSED
    ticks(made, 30)
    assert len(made.changes) == 1
    made.result = lambda _: Result.APPLIED
    ticks(made, 60)
    assert has(made) == ((0, 50), 50)


def test_a_layout_that_is_refused_is_one_write_that_is_refused() -> None:
    """However many partitions it has: the machine is not ill by that."""
    made = World(CONFIG + '[[partition]]\nclass = "LS"\nbandwidth = "90%"\n[[partition]]\nclass = "LSR"')
    made.cache = cache()
    made.result = lambda _: Result.REFUSED
    ticks(made, 2)
    assert len(made.changes[0][1].intents) == 5
    assert [hold for hold in tick(made).holds if hold.controller is None] == []


@pytest.mark.parametrize(("number", "is_ill"), [(errno.EINVAL, True), (None, False)])
def test_partitions_that_do_not_fit_are_no_illness(number: int | None, is_ill: bool) -> None:
    """However often they are tried: nothing was to be written. What the kernel refuses again and again is one."""
    made = World(CONFIG.replace("[suppress]", "retry_s = 1\n[suppress]"))
    made.cache = cache()
    made.result = lambda _: Result.REFUSED
    made.refusal_errno = number
    holds = [hold for _ in range(10) for hold in tick(made).holds if hold.controller is None]
    assert len(made.changes) > 4
    assert bool(holds) is is_ill


def test_what_somebody_else_has_taken_away_is_set_again_as_it_was() -> None:
    made = world()
    ticks(made, 4, slow=True)
    made.knobs.clear()
    tick(made, slow=True)
    assert has(made) == ((0, 30), 30)


def test_a_partition_that_its_owner_holds_on_to_is_left_alone() -> None:
    made = World(CONFIG)
    made.cache = cache()
    made.knobs[BE, Knob.CACHE_WAYS] = KnobState(None, None, is_foreign=True)
    made.knobs[BE, Knob.MEMORY_BANDWIDTH] = KnobState(None, None, is_foreign=True)
    ticks(made, 5)
    assert made.changes == []


def test_a_dry_run_says_each_step_once() -> None:
    made = World(CONFIG.replace('mode = "on"', 'mode = "dry-run"'))
    made.cache = cache()
    made.result = lambda _: Result.DRY_RUN
    ticks(made, 40, slow=True)
    assert [value for value, _ in steps(made)] == [(0, each) for each in (50, 30, 20, 15, 12, 11, 10)]
    assert made.knobs == {}


OFFERS = st.builds(
    CacheOffer,
    st.none() | st.integers(1, 32),
    st.none() | st.sampled_from([1.0, 5.0, 10.0, 100 / 2048]),
    ways_min=st.integers(1, 2),
)
EXAMPLES = settings(suppress_health_check=[HealthCheck.too_slow])


@EXAMPLES
@given(OFFERS, st.lists(st.tuples(st.sampled_from([True, False, None]), st.booleans()), max_size=40))
def test_never_below_the_floor_nor_above_the_ceiling_and_the_same_for_the_same(
    offer: CacheOffer, history: list[tuple[bool | None, bool]]
) -> None:
    """Whatever the service tells, and whatever is refused; after it, calm brings the ceiling back in bounded time."""
    one, other = World(CONFIG), World(CONFIG)
    for made in (one, other):
        made.cache = cache(offer)
        for slow, works in history:
            made.result = (lambda _: Result.APPLIED) if works else (lambda _: Result.GONE)
            tick(made, slow)
    assert one.changes == other.changes
    for ways, bandwidth in steps(one):
        assert ways is None or (isinstance(ways, tuple) and ways[0] == 0 and 10 <= ways[1] <= 50)
        assert bandwidth is None or (isinstance(bandwidth, int) and 10 <= bandwidth <= 50)
    one.result = lambda _: Result.APPLIED
    ticks(one, 4 + 9 * (SETTLE_S + 1))
    assert has(one) == ((0, 50) if offer.ways else None, 50 if offer.bandwidth_step else None)
    changes = len(one.changes)
    ticks(one, 10)
    assert len(one.changes) == changes


@EXAMPLES
@given(OFFERS, st.integers(0, 12))
def test_under_pressure_the_floor_is_reached_from_anywhere(offer: CacheOffer, rest: int) -> None:
    made = world(offer=offer)
    ticks(made, 20, slow=True)
    ticks(made, rest)
    ticks(made, 4 + 7 * (SETTLE_S + 1), slow=True)
    assert has(made) == ((0, 10) if offer.ways else None, 10 if offer.bandwidth_step else None)
    state = made.state.controllers["cache"]
    assert isinstance(state, CacheState)


def test_two_equal_inputs_give_equal_decisions() -> None:
    made = world()
    ticks(made, 3, slow=True)
    assert made.situation
    later = replace(
        made.situation,
        now_ns=made.now_ns + 10**10,
        findings=made.control.decide(made.state, made.situation)[1].findings,
    )
    controller, state = Cache(made.config), made.state.controllers["cache"]
    assert controller.decide(state, later) == controller.decide(state, later)
    assert controller.decide(state, later)[1]
