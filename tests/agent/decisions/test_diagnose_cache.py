"""The cache as a cause: what hardware counters and resctrl say for it and against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from agent.control import Cause, Situation, SliValue, partition_id
from agent.decisions.diagnose_cache import BY_EXCLUSION, Shares, batch_shares, judge_cache
from agent.decisions.tree import Tree
from agent.records import (
    CacheProfile,
    CacheSample,
    CpiProfile,
    PartitionProfile,
    PartitionSample,
    Profile,
    Qos,
)
from tests.agent.decisions.world import BATCH, NAN, WEB, Look, World

WORKER, JOB = 11, 21
GROUPS = {
    WEB: ("/web", Qos.LS),
    WORKER: ("/web/worker", Qos.LS),
    BATCH: ("/batch", Qos.BE),
    JOB: ("/batch/job", Qos.BE),
}
TREE = Tree(World.group_tuple(GROUPS))
BE, LS = partition_id(Qos.BE), partition_id(Qos.LS)
NOTHING = PartitionSample({}, {}, {})
UP, AS_USUAL = (1.41, 1.2, 0.1), (1.39, 1.2, 0.1)
"""Cycles per instruction now, usually, and the deviation of these."""


def profile_of(cpi: tuple[float, float, float] | None) -> Profile:
    world = World("", GROUPS)
    world.tick({})
    assert world.situation
    if cpi is None:
        return world.situation.profile
    now, usual, deviation = (np.array([value, NAN, NAN, NAN]) for value in cpi)
    return replace(world.situation.profile, cpi=CpiProfile(now, now, np.full(4, NAN), usual, deviation))


def cache_of(rest: tuple[float, float] | None, partitions: Mapping[int, tuple[float, float]]) -> CacheProfile:
    """(bandwidth, in the cache) of each."""

    def of(figures: tuple[float, float]) -> PartitionProfile:
        bandwidth, llc = figures
        return PartitionProfile(NOTHING, llc_bytes=llc, total_bytes_per_s=bandwidth, local_bytes_per_s=bandwidth)

    sample = CacheSample(0, {}, None)
    return CacheProfile(sample, {id: of(each) for id, each in partitions.items()}, rest and of(rest))


def shares(bandwidth_pct: float, llc_pct: float) -> Shares | None:
    """Of batch work; services and the rest have what remains."""
    others = (50 - bandwidth_pct / 2, 50 - llc_pct / 2)
    return batch_shares(cache_of(others, {BE: (bandwidth_pct, llc_pct), LS: others}), TREE)


def judged(
    cpi: tuple[float, float, float] | None, of_batch: tuple[float, float] | None, row: int = 0
) -> tuple[Cause, str]:
    return judge_cache(row, TREE, profile_of(cpi), shares(*of_batch) if of_batch else None, World("").config.enforce)


@pytest.mark.parametrize(
    ("cpi", "of_batch", "expected"),
    [
        (UP, (60, 30), Cause.CACHE),
        (UP, (60, 5), Cause.CACHE),
        (UP, (5, 30), Cause.CACHE),
        (UP, (5, 5), Cause.UNKNOWN),
        (AS_USUAL, (60, 30), Cause.UNKNOWN),
        (AS_USUAL, (5, 5), Cause.UNKNOWN),
        (UP, None, Cause.CACHE),
        (AS_USUAL, None, Cause.UNKNOWN),
        (None, (60, 30), Cause.CACHE),
        (None, (5, 5), Cause.UNKNOWN),
        ((1.9, NAN, NAN), (5, 5), Cause.UNKNOWN),
        ((NAN, 1.2, 0.1), (60, 5), Cause.CACHE),
        (None, None, Cause.CACHE),
    ],
)
def test_it_is_the_cache_if_all_that_is_known_says_so(
    cpi: tuple[float, float, float] | None, of_batch: tuple[float, float] | None, expected: Cause
) -> None:
    """Instructions that take as long as usual are not slowed down by a cache, nor by batch work that has none of it."""
    assert judged(cpi, of_batch)[0] is expected


def test_the_reason_has_the_figures_or_says_that_there_are_none() -> None:
    figures = "its cycles per instruction are 1.41 (usual 1.2 \N{PLUS-MINUS SIGN} 0.1)"
    batch = "batch work has 60 % of the bandwidth and 5 % of the last-level cache"
    assert judged(UP, (60, 5))[1] == f"{figures}, {batch}"
    assert judged(AS_USUAL, None)[1] == "but " + figures.replace("1.41", "1.39")
    assert judged(UP, (1, 2))[1] == "but batch work has 1 % of the bandwidth and 2 % of the last-level cache"
    assert judged(None, None)[1] == BY_EXCLUSION


def test_a_group_below_one_that_is_counted_is_judged_by_that_one() -> None:
    assert judged(AS_USUAL, None, row=1)[0] is Cause.UNKNOWN
    assert judged(AS_USUAL, None, row=2)[1] == BY_EXCLUSION


def test_what_batch_work_has_is_of_its_class_and_of_its_workloads() -> None:
    cache = cache_of((10, 10), {BE: (20, 20), JOB: (10, 40), WEB: (60, 30)})
    assert batch_shares(cache, TREE) == Shares(((30.0, "the bandwidth"), (60.0, "the last-level cache")))


@pytest.mark.parametrize(
    ("rest", "partitions"),
    [
        ((10, 10), {LS: (60, 30)}),
        (None, {BE: (20, 20)}),
        ((NAN, NAN), {BE: (20, 20)}),
        ((10, 10), {BE: (20, 20), LS: (NAN, NAN)}),
        ((0, 0), {BE: (0, 0)}),
    ],
)
def test_what_batch_work_has_is_not_known_unless_everybodys_is(
    rest: tuple[float, float] | None, partitions: Mapping[int, tuple[float, float]]
) -> None:
    """And not where it has no partition: what lies in none may be anybody's."""
    assert batch_shares(cache_of(rest, partitions), TREE) is None
    assert batch_shares(None, TREE) is None


def test_where_only_one_of_both_is_monitored_it_alone_counts() -> None:
    assert batch_shares(cache_of((NAN, 80), {BE: (NAN, 20)}), TREE) == Shares(((20.0, "the last-level cache"),))


SLI = """
[[rule]]
name = "own"
signal = "sli:web"
window_s = 2
[[sli]]
name = "web"
url = "http://h:1/m"
metric = "m"
target = "250ms"
group = "/web"
"""


@pytest.mark.parametrize(
    ("cpi", "of_batch", "expected"),
    [(UP, 60, Cause.CACHE), (AS_USUAL, 60, Cause.UNKNOWN), (UP, 1, Cause.UNKNOWN), (None, None, Cause.CACHE)],
)
def test_a_finding_has_this_cause(
    cpi: tuple[float, float, float] | None, of_batch: float | None, expected: Cause
) -> None:
    """A service that is past its target, and hardly waits."""
    world = World(SLI, GROUPS)
    world.slis = {"web": SliValue("web", "/web", 400e6, 250e6, 0)}
    for _ in range(2):
        world.tick({WEB: Look(1.0, 0.1, contention_s=0.001)})
    assert world.situation
    situation: Situation = replace(
        world.situation,
        tick=replace(world.situation.tick, number=9),
        profile=replace(world.situation.profile, cpi=profile_of(cpi).cpi),
        cache=cache_of((50, 50), {BE: (of_batch, of_batch)}) if of_batch else None,
    )
    (finding,) = world.control.decide(world.state, situation)[1].findings
    assert finding.cause is expected
    assert "of the time that it wanted to run; " in finding.reason


RULE_OF_CPI = """
[cpi]
enabled = true
[[rule]]
name = "slowed"
class = "LS"
signal = "cpi_pct"
threshold = "115%"
window_s = 2
"""


def test_a_rule_can_watch_cycles_per_instruction_which_are_a_figure_of_the_groups_own() -> None:
    """In per cent of the usual ones; a group that hardly waits is slowed down by a cache, whoever else ran."""
    world = World(RULE_OF_CPI, GROUPS)
    world.tick({WEB: Look(1.0, 0.1, contention_s=0.001, culprits={BATCH: 1})})
    assert world.situation
    state = world.control.initial()
    for number in (7, 8):
        profile = replace(world.situation.profile, cpi=profile_of((1.8, 1.2, 0.1)).cpi)
        situation = replace(world.situation, tick=replace(world.situation.tick, number=number), profile=profile)
        state, verdict = world.control.decide(state, situation)
    (finding,) = verdict.findings
    assert (finding.path, finding.cause) == ("/web", Cause.CACHE)
    assert finding.value == pytest.approx(150)
