"""The cause, from who ran while a group waited, from its own quota, and from the machine's use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.control import Cause
from agent.decisions.diagnose import diagnose
from agent.decisions.tree import Tree
from agent.records import NOBODY_ID, Qos
from tests.agent.decisions.world import BATCH, NAN, WEB, Look, World

SHOP, JOB = 11, 21
GROUPS = {
    WEB: ("/web", Qos.LS),
    SHOP: ("/shop", Qos.LS),
    BATCH: ("/batch", Qos.BE),
    JOB: ("/batch/job", Qos.SYSTEM),
}


def cause(
    look: Look, *, node_used_cores: float = 1.0, batch_used_cores: float = 0.0, by_own_figure: bool = False
) -> Cause | None:
    world = World("", GROUPS)
    world.tick({WEB: look, BATCH: Look(batch_used_cores)}, node_used_cores=node_used_cores)
    situation = world.situation
    assert situation
    tree = Tree(situation.tick.groups)
    config = world.config.enforce
    found = diagnose(0, tree, situation.tick, situation.profile, config, by_own_figure=by_own_figure)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("culprits", "expected"),
    [
        ({BATCH: 1.0}, Cause.BATCH_ON_CPU),
        ({BATCH: 0.5, SHOP: 0.5}, Cause.BATCH_ON_CPU),
        ({BATCH: 0.49, SHOP: 0.51}, Cause.OWN_LOAD),
        ({WEB: 1.0}, Cause.OWN_LOAD),
        ({JOB: 1.0}, Cause.BATCH_ON_CPU),
        ({NOBODY_ID: 0.9, BATCH: 0.1}, Cause.BATCH_ON_CPU),
        ({NOBODY_ID: 1.0}, None),
        ({}, None),
    ],
)
def test_contention_is_the_fault_of_who_ran(culprits: dict[int, float], expected: Cause | None) -> None:
    """Whatever lies in a batch group is batch work; a wait that an idle CPU ended has no culprit."""
    assert cause(Look(0.5, 5, contention_s=0.5, culprits=culprits)) is expected


@pytest.mark.parametrize(
    ("culprits", "node_used_cores", "batch_used_cores", "expected"),
    [
        ({WEB: 1.0}, 4.0, 2.0, Cause.BATCH_ON_CPU),
        ({WEB: 0.4, BATCH: 0.2, SHOP: 0.4}, 4.0, 2.0, Cause.BATCH_ON_CPU),
        ({WEB: 1.0}, 3.7, 2.0, Cause.OWN_LOAD),
        ({WEB: 1.0}, 4.0, 0.1, Cause.OWN_LOAD),
        ({SHOP: 1.0}, 4.0, 2.0, Cause.OWN_LOAD),
        ({WEB: 1.0}, NAN, 2.0, Cause.OWN_LOAD),
        ({WEB: 1.0}, 4.0, NAN, Cause.OWN_LOAD),
    ],
)
def test_who_waits_for_itself_on_a_machine_that_batch_work_fills_waits_because_of_it(
    culprits: dict[int, float], node_used_cores: float, batch_used_cores: float, expected: Cause
) -> None:
    """The scheduler may leave all its threads on one CPU while batch work has the others."""
    look = Look(0.9, 5, contention_s=0.5, culprits=culprits)
    assert cause(look, node_used_cores=node_used_cores, batch_used_cores=batch_used_cores) is expected


def test_its_own_quota_is_the_cause_when_it_made_up_half_of_the_wait_and_the_machine_has_room() -> None:
    throttled = Look(0.5, 5, contention_s=0.4, throttle_s=0.6, culprits={BATCH: 1})
    assert cause(throttled) is Cause.OWN_QUOTA
    assert cause(throttled, node_used_cores=3.9) is Cause.OWN_LOAD
    assert cause(throttled, node_used_cores=NAN) is None
    assert cause(replace(throttled, throttle_s=0.3)) is Cause.BATCH_ON_CPU


def test_a_service_that_is_slow_and_hardly_waits_has_another_cause_than_the_cpu() -> None:
    look = Look(1.0, 5, contention_s=0.01, culprits={BATCH: 1})
    assert cause(look, by_own_figure=True) is Cause.CACHE
    assert cause(look) is Cause.BATCH_ON_CPU
    assert cause(replace(look, contention_s=0.1), by_own_figure=True) is Cause.BATCH_ON_CPU


def test_without_the_split_of_waits_the_cause_is_not_known() -> None:
    """As without BPF: nothing is concluded from a sum."""
    assert cause(Look(0.5, 5, contention_s=NAN, throttle_s=0.1)) is None
    assert cause(Look(0.5, 5, contention_s=0.5, throttle_s=NAN, culprits={BATCH: 1})) is None


def test_topmost_batch_groups_are_those_that_hold_no_service() -> None:
    paths = {
        1: ("/", Qos.SYSTEM),
        2: ("/be", Qos.BE),
        3: ("/be/job", Qos.BE),
        4: ("/mixed", Qos.BE),
        5: ("/mixed/web", Qos.LS),
        6: ("/mixed/deep/job", Qos.BE),
        7: ("/system.slice", Qos.SYSTEM),
    }
    tree = Tree(World.group_tuple(paths))
    assert [tree.groups[row].path for row in tree.be_parents] == ["/be", "/mixed/deep/job"]
    assert np.flatnonzero(tree.is_be).tolist() == [1, 2, 5]
    assert [tree.groups[row].path for row in tree.tops] == ["/be", "/mixed", "/system.slice"]
