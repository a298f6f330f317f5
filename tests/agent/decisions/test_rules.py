"""A rule fires when most of a window was bad, clears when most of it is good, and does neither on what is absent."""

from __future__ import annotations

import pytest

from agent.config import parse_config
from agent.control import SliValue
from agent.decisions.rules import Rule, RuleState, rules_of
from agent.records import Group, Qos
from tests.agent.decisions.world import NAN, profile_of
from tests.agent.ticks import S_NS, groups_of, tick_of

BAD, GOOD = 9e6, 1e5
WEB = groups_of({10: "/web"})


def rule(text: str = "", *, window_s: float = 100, sli: str = "") -> Rule:
    """On wait_p99 past 2 ms of LS groups."""
    table = f'[[rule]]\nname = "slow"\nwindow_s = {window_s}\n' + (
        text or 'class = "LS"\nsignal = "wait_p99"\nthreshold = "2ms"'
    )
    return rules_of(parse_config(f"{table}\n{sli}", "test.toml"))[0]


class Feed:
    """A rule and what it has seen."""

    def __init__(self, rule: Rule, groups: tuple[Group, ...] = WEB) -> None:
        self.rule = rule
        self.state = RuleState()
        self.groups = groups
        self.number = 0
        self.slis: dict[str, SliValue] = {}

    def tick(self, *p99_ns: float, count: float = 5) -> list[str]:
        """One tick with these samples; the paths for which it fires."""
        self.number += 1
        tick = tick_of(
            self.groups,
            number=self.number,
            time_ns=self.number * S_NS,
            p99_ns=p99_ns,
            count=[0 if value != value and count == 0 else count for value in p99_ns],
        )
        profile = profile_of(self.groups, tick.wait.p99_ns, NAN, tick.wait.p99_ns)
        self.state, firing = self.rule.update(self.state, tick, profile, self.slis)
        self.firing = firing
        return [each.group.path for each in firing]

    def samples(self, *values: float) -> bool:
        """Many ticks of one group; whether it fires after the last."""
        for value in values:
            fires = self.tick(value)
        return bool(fires)


def mixed(bad: int, of: int = 100) -> list[float]:
    """So many bad samples of `of`, spread evenly."""
    return [BAD if (i * bad) % of < bad else GOOD for i in range(of)]


def test_a_spike_of_5_per_cent_of_the_window_does_not_fire() -> None:
    assert not Feed(rule()).samples(*mixed(5))
    assert not Feed(rule()).samples(*[GOOD] * 95, *[1e12] * 5)


def test_81_per_cent_bad_samples_fire() -> None:
    assert Feed(rule()).samples(*mixed(81))
    assert not Feed(rule()).samples(*mixed(79))


def test_it_fires_only_when_half_a_window_has_samples() -> None:
    feed = Feed(rule(window_s=10))
    assert [bool(feed.tick(BAD)) for _ in range(6)] == [False] * 4 + [True] * 2


def test_absent_samples_neither_fire_nor_clear() -> None:
    """They are not good ones: not known is not 0."""
    feed = Feed(rule(window_s=10))
    assert not feed.samples(*[NAN] * 30)
    assert feed.samples(*[BAD] * 10)
    assert feed.samples(*[NAN] * 30)
    assert not feed.firing[0].is_fresh
    assert not feed.samples(*[GOOD] * 10)
    assert not feed.samples(*[NAN] * 30)


def test_ticks_in_which_nobody_waited_clear_a_rule_but_do_not_keep_it_from_firing() -> None:
    feed = Feed(rule(window_s=10))
    assert feed.samples(*[BAD, NAN] * 6)
    assert feed.samples(*[BAD] * 10)
    fired = [bool(feed.tick(NAN, count=0)) for _ in range(10)]
    assert fired[0] is True
    assert fired[-1] is False


def test_it_clears_only_well_below_the_threshold() -> None:
    """Hysteresis: between 0.8 of the threshold and the threshold nothing changes."""
    feed = Feed(rule(window_s=10))
    assert not feed.samples(*[1.9e6] * 10)
    assert feed.samples(*[BAD] * 10)
    assert feed.samples(*[1.9e6] * 30)
    assert not feed.samples(*[1.5e6] * 10)


def test_most_of_the_window_must_be_good_before_it_clears() -> None:
    feed = Feed(rule(window_s=10))
    assert feed.samples(*[BAD] * 10, *[GOOD] * 7)
    assert not feed.samples(GOOD)


def test_it_is_about_the_groups_of_its_class_and_path_only() -> None:
    groups = (
        Group(1, "/", Qos.LS),
        Group(10, "/web", Qos.LS),
        Group(11, "/web/api", Qos.LS),
        Group(20, "/batch", Qos.BE),
        Group(30, "/sys", Qos.SYSTEM),
    )
    by_class = Feed(rule(window_s=2), groups)
    assert [by_class.tick(*[BAD] * 5) for _ in range(2)][-1] == ["/web", "/web/api"]
    by_path = Feed(rule('match = ["/web/*", "/sys"]\nsignal = "wait_p99"\nthreshold = "2ms"', window_s=2), groups)
    assert [by_path.tick(*[BAD] * 5) for _ in range(2)][-1] == ["/web/api", "/sys"]


def test_windows_stay_with_their_groups_when_rows_move() -> None:
    feed = Feed(rule(window_s=10), groups_of({10: "/web", 11: "/shop"}))
    for _ in range(9):
        feed.tick(BAD, GOOD)
    feed.groups = groups_of({11: "/shop", 12: "/new", 10: "/web"})
    assert feed.tick(GOOD, BAD, BAD) == ["/web"]
    feed.groups = groups_of({11: "/shop"})
    assert feed.tick(GOOD) == []


def test_an_applications_own_latency_is_compared_with_its_target() -> None:
    sli = '[[sli]]\nname = "web"\nurl = "http://h:1/"\nmetric = "m"\ntarget = "250ms"\ngroup = "/web"'
    feed = Feed(rule('signal = "sli:web"', window_s=4, sli=sli), groups_of({10: "/web", 11: "/shop"}))
    feed.slis["web"] = SliValue("web", "/web", 300e6, 250e6, 0)
    assert [feed.tick(NAN, NAN) for _ in range(4)][-1] == ["/web"]
    feed.slis.clear()
    assert [feed.tick(NAN, NAN) for _ in range(9)][-1] == ["/web"]
    feed.slis["web"] = SliValue("web", "/web", 100e6, 250e6, 0)
    assert [feed.tick(NAN, NAN) for _ in range(4)][-1] == []


def test_it_says_what_it_saw() -> None:
    feed = Feed(rule(window_s=4))
    feed.samples(*[BAD] * 4)
    expected = "rule slow: wait_p99 was past 2 ms for most of 4 s (percentile 20: 9 ms)"
    assert feed.firing[0].reason == expected
    feed.samples(*[NAN] * 4)
    assert feed.firing[0].reason == "rule slow: wait_p99 was past 2 ms, and is not known since 4 s"


@pytest.mark.parametrize("percentile", [1, 20, 49])
def test_the_share_of_bad_samples_that_fires_is_all_but_the_percentile(percentile: int) -> None:
    text = f'class = "LS"\nsignal = "wait_p99"\nthreshold = "2ms"\npercentile = {percentile}'
    assert Feed(rule(text)).samples(*mixed(100 - percentile))
    assert not Feed(rule(text)).samples(*mixed(99 - percentile))
