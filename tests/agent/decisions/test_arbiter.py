"""One resource at a time, within bounds, whatever the controllers ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.config import parse_config
from agent.control import (
    Decision,
    Intent,
    Knob,
    KnobState,
    KnobValue,
    Outcome,
    Resource,
    Result,
    Situation,
    partition_id,
)
from agent.decisions.arbiter import Arbiter, ArbiterState
from agent.decisions.tree import Tree
from agent.records import CacheOffer, CacheProfile, CacheSample, Qos
from tests.agent.decisions.world import BATCH, PERIOD_US, WEB, Look, World
from tests.agent.ticks import S_NS

ROOT = 1
EVERYTHING = frozenset((qos, knob) for qos in Qos for knob in Knob)
CLAIMS = dict.fromkeys(("burst", "suppress", "cache"), EVERYTHING)


def situation(quota_us: int | None = 50_000) -> Situation:
    groups = {ROOT: ("/", Qos.SYSTEM), WEB: ("/web", Qos.LS), BATCH: ("/batch", Qos.BE)}
    world = World("", groups, owners={(WEB, Knob.QUOTA): quota_us})
    world.tick({WEB: Look(0.5), BATCH: Look(2)})
    assert world.situation
    return world.situation


def asking(
    resource: Resource, intent: Intent | None = None, *, gives_back: bool = False, emergency: bool = False
) -> Decision:
    intents = (intent or Intent(BATCH, "/batch", Knob.IDLE, 1),)
    return Decision(str(resource), resource, intents, "", gives_back=gives_back, emergency=emergency)


BURST, SUPPRESS, CACHE = (asking(resource) for resource in (Resource.BURST, Resource.SUPPRESS, Resource.CACHE))


class Court:
    """An arbiter whose decisions all come true."""

    def __init__(self, config: str = "") -> None:
        self.arbiter = Arbiter(parse_config(config, "test.toml"), CLAIMS)
        self.state = ArbiterState()
        self.situation = situation()
        self.tree = Tree(self.situation.tick.groups)
        self.result = Result.APPLIED

    def ask(self, at_s: float, *decisions: Decision) -> list[Resource]:
        now = replace(self.situation, now_ns=int(at_s * S_NS))
        self.state, accepted, self.holds = self.arbiter.judge(self.state, decisions, now, self.tree)
        for decision in accepted:
            outcomes = [Outcome(intent, self.result) for intent in decision.intents]
            self.state = self.arbiter.learn(self.state, decision, outcomes, now.now_ns)
        self.accepted = accepted
        return [decision.resource for decision in accepted]

    def judged(self, knob: Knob, value: KnobValue, group_id: int = BATCH) -> KnobValue | str:
        """What a decision to set this comes to; the reason when it comes to nothing."""
        path = next((group.path for group in self.tree.groups if group.id == group_id), "/gone")
        resource = Resource.SUPPRESS
        if self.ask(1e6, asking(resource, Intent(group_id, path, knob, value))):
            return self.accepted[0].intents[0].value
        return self.holds[0].reason if self.holds else ""


def test_after_a_change_other_resources_wait_for_settle_s() -> None:
    court = Court()
    assert court.ask(10, SUPPRESS) == [Resource.SUPPRESS]
    assert court.ask(11, BURST, SUPPRESS) == [Resource.SUPPRESS]
    assert court.ask(13.9, BURST) == []
    assert court.holds[0].reason == "waits for suppress"
    assert court.ask(14, BURST) == [Resource.BURST]
    assert court.ask(15, SUPPRESS) == []


def test_of_two_resources_that_ask_at_once_one_is_changed() -> None:
    assert Court().ask(10, SUPPRESS, BURST, CACHE) == [Resource.SUPPRESS]


def test_a_resource_that_is_changed_all_the_time_does_not_starve_the_others() -> None:
    court = Court()
    seen = [resource for second in range(10, 40) for resource in court.ask(second, SUPPRESS, BURST, CACHE)]
    assert set(seen) == {Resource.SUPPRESS, Resource.BURST, Resource.CACHE}


def test_giving_back_in_an_emergency_does_not_wait() -> None:
    court = Court()
    court.ask(10, SUPPRESS)
    assert court.ask(11, asking(Resource.BURST, gives_back=True)) == []
    assert court.ask(11, asking(Resource.BURST, emergency=True)) == []
    assert court.ask(11, asking(Resource.BURST, gives_back=True, emergency=True)) == [Resource.BURST]


@pytest.mark.parametrize("result", [Result.REFUSED, Result.UNSUPPORTED, Result.UNCHANGED, Result.GONE, Result.FOREIGN])
def test_what_changed_nothing_needs_no_settling(result: Result) -> None:
    court = Court()
    court.result = result
    court.ask(10, SUPPRESS)
    assert court.ask(11, BURST) == [Resource.BURST]


@pytest.mark.parametrize(
    ("knob", "value", "becomes"),
    [
        (Knob.QUOTA, 150_001, 150_000),
        (Knob.QUOTA, 10**9, 150_000),
        (Knob.QUOTA, 100_000, 100_000),
        (Knob.QUOTA, 49_999, 50_000),
        (Knob.QUOTA, 1, 50_000),
        (Knob.QUOTA, None, "a quota is not taken away"),
        (Knob.BURST, 50_001, 50_000),
        (Knob.BURST, -1, "no quota"),
        (Knob.IDLE, 1, "batch work only"),
        (Knob.FREEZE, 1, "batch work only"),
        (Knob.WEIGHT, 1, "batch work only"),
        (Knob.CPUSET, (0,), "only batch work"),
    ],
)
def test_a_service_is_only_given_to_and_within_its_ceiling(knob: Knob, value: KnobValue, becomes: KnobValue) -> None:
    result = Court().judged(knob, value, WEB)
    assert result == becomes or (isinstance(result, str) and str(becomes) in result)


@pytest.mark.parametrize(
    ("knob", "value", "becomes"),
    [
        (Knob.QUOTA, 8_000, 8_000),
        (Knob.QUOTA, 7_000, "batch work keeps 0.08 cores"),
        (Knob.QUOTA, None, None),
        (Knob.CPUSET, (0, 1, 9), (0, 1)),
        (Knob.CPUSET, (0,), "batch work keeps at least 2 CPUs"),
        (Knob.CPUSET, (), ()),
        (Knob.FREEZE, 1, 1),
    ],
)
def test_batch_work_keeps_its_floor(knob: Knob, value: KnobValue, becomes: KnobValue) -> None:
    result = Court().judged(knob, value)
    assert result == becomes or (isinstance(result, str) and str(becomes) in result)


def test_1218_696_not_even_a_plugin_sets_1000_us() -> None:
    """With a floor for all of them that says nothing: 0.02 cores are 2000 us of 100 ms."""
    court = Court("suppress.min_pct = 0")
    assert court.judged(Knob.QUOTA, 1_000) == 0.02 * PERIOD_US


def test_a_batch_quota_is_not_moved_by_less_than_the_dead_band_but_to_its_owners() -> None:
    """One hundredth of four CPUs is 4000 us of 100 ms."""
    court = Court()
    court.situation = replace(court.situation, knobs={(BATCH, Knob.QUOTA): KnobState(91_000, 90_000)})
    assert court.judged(Knob.QUOTA, 87_000) == ""
    assert court.judged(Knob.QUOTA, 86_000) == 86_000
    assert court.judged(Knob.QUOTA, 91_000) == 91_000


def test_the_root_a_group_that_is_gone_and_what_is_not_claimed_are_never_changed() -> None:
    assert "root" in str(Court().judged(Knob.IDLE, 1, ROOT))
    assert Court().judged(Knob.IDLE, 1, 999) == ""
    court = Court()
    court.arbiter = Arbiter(parse_config("", "t"), {"suppress": frozenset({(Qos.BE, Knob.QUOTA)})})
    assert "does not claim" in str(court.judged(Knob.IDLE, 1))


@pytest.mark.parametrize(("own", "may"), [("/web", False), ("/web/agent", False), ("/web2", True), ("/", True)])
def test_the_agents_own_group_and_those_above_it_are_never_changed(own: str, *, may: bool) -> None:
    """A quota that its unit gives the agent is a limit for the agent."""
    court = Court()
    court.arbiter = Arbiter(parse_config("", "t"), CLAIMS, own)
    assert (court.judged(Knob.QUOTA, 100_000, WEB) == 100_000) is may


@pytest.mark.parametrize(
    ("knob", "value", "becomes"),
    [
        (Knob.CACHE_WAYS, (0, 30), (0, 30)),
        (Knob.CACHE_WAYS, None, None),
        (Knob.CACHE_WAYS, (30, 30), "something of the cache"),
        (Knob.CACHE_WAYS, (50, 101), "something of the cache"),
        (Knob.CACHE_WAYS, 7, "no such value"),
        (Knob.MEMORY_BANDWIDTH, 20, 20),
        (Knob.MEMORY_BANDWIDTH, 0, "some bandwidth"),
        (Knob.MEMORY_BANDWIDTH, 101, "some bandwidth"),
    ],
)
def test_a_partition_has_some_cache_and_some_bandwidth(knob: Knob, value: KnobValue, becomes: KnobValue | str) -> None:
    """Whatever group it is of, or none."""
    court = Court()
    offer = CacheOffer(12, 10.0)
    court.situation = replace(court.situation, cache=CacheProfile(CacheSample(0, {}, None, offer), {}, None))
    judged = court.judged(knob, value, partition_id(Qos.BE))
    assert becomes in judged if isinstance(becomes, str) and isinstance(judged, str) else judged == becomes


def test_a_group_whose_partition_is_left_alone_is_not_left_alone_as_a_whole() -> None:
    """Whoever writes its schemata has not written its other settings."""
    court = Court()
    theirs = {(BATCH, Knob.CACHE_WAYS): KnobState(None, None, is_foreign=True)}
    court.situation = replace(court.situation, knobs=theirs)
    assert court.judged(Knob.IDLE, 1) == 1


def test_2306_two_decisions_on_one_knob_the_first_counts() -> None:
    court = Court()
    one, two = (asking(Resource.SUPPRESS, Intent(BATCH, "/batch", Knob.QUOTA, value)) for value in (90_000, 80_000))
    assert len(court.ask(10, one, two)) == 1
    assert court.accepted[0].intents[0].value == 90_000


@pytest.fixture
def unknown_quota() -> Callable[[], Court]:
    def make() -> Court:
        court = Court()
        court.situation = situation(quota_us=None)
        court.tree = Tree(court.situation.tick.groups)
        return court

    return make


def test_a_group_without_a_quota_gets_none(unknown_quota: Callable[[], Court]) -> None:
    assert "no quota" in str(unknown_quota().judged(Knob.QUOTA, 50_000, WEB))


def test_an_emergency_does_not_end_the_settling_of_what_was_changed_before() -> None:
    court = Court()
    court.ask(10, SUPPRESS)
    court.ask(11, asking(Resource.BURST, gives_back=True, emergency=True))
    assert court.ask(12, BURST) == []
    assert court.ask(13, BURST) == [Resource.BURST]


def test_an_emergency_is_a_change_that_others_wait_for() -> None:
    court = Court()
    emergency = asking(Resource.BURST, gives_back=True, emergency=True)
    assert court.ask(10, SUPPRESS, emergency) == [Resource.BURST]
    assert court.ask(12, SUPPRESS) == []
    assert court.ask(13, SUPPRESS) == [Resource.SUPPRESS]
