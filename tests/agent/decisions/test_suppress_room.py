"""How much of the CPU batch work may have, and how its groups share it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import parse_config
from agent.decisions.suppress_room import Room, room_for_be, shares
from agent.decisions.tree import Tree
from agent.records import Qos
from tests.agent.decisions.world import BATCH, NAN, WEB, Look, World

MIN_CORES = 0.02
GROUPS = {
    1: ("/", Qos.SYSTEM),
    WEB: ("/web", Qos.LS),
    11: ("/web/api", Qos.LS),
    BATCH: ("/batch", Qos.BE),
    21: ("/batch/job", Qos.BE),
}


def room(web: float, batch: float, node: float, config: str = "") -> Room | None:
    """On ten CPUs; what is in a group counts once."""
    world = World("", GROUPS, cpus=10)
    world.tick({WEB: Look(web), 11: Look(web), BATCH: Look(batch), 21: Look(batch)}, node_used_cores=node)
    assert world.situation
    tree = Tree(world.situation.tick.groups)
    return room_for_be(world.situation, tree, tree.be_rows, parse_config(config, "t").suppress)


@pytest.mark.parametrize(
    ("web", "batch", "node", "config", "cores"),
    [
        (2.0, 3.0, 5.0, "", 6.5 - 2.0),
        (2.0, 3.0, 5.5, "", 6.5 - 2.0 - 0.5),
        (2.0, 3.0, 5.5, "suppress.reserved_cores = 1", 6.5 - 2.0 - 1.0),
        (2.0, 3.0, 5.0, "suppress.threshold_pct = 80", 8.0 - 2.0),
        (9.0, 0.5, 9.9, "", 0.2),
        (9.0, 0.5, 9.9, "suppress.min_pct = 0", 0.02),
        (NAN, 3.0, 6.0, "", 6.5 - 3.0),
    ],
)
def test_the_room_is_what_services_and_system_leave_of_the_threshold(
    web: float, batch: float, node: float, config: str, cores: float
) -> None:
    """A service whose use is not known is in the node's use."""
    found = room(web, batch, node, config)
    assert found
    assert found.be_cores == pytest.approx(cores)


def test_without_the_nodes_use_or_that_of_batch_work_there_is_no_answer() -> None:
    assert room(2.0, NAN, 5.0) is None
    assert room(2.0, 3.0, NAN) is None


def test_shares_go_by_weight_and_what_one_cannot_use_goes_to_the_others() -> None:
    unlimited = [math.inf] * 3
    assert shares(6, [100, 100, 100], [9, 9, 9], unlimited, MIN_CORES) == pytest.approx([2, 2, 2])
    assert shares(6, [200, 100, 100], [9, 9, 9], unlimited, MIN_CORES) == pytest.approx([3, 1.5, 1.5])
    assert shares(6, [100, 100, 100], [0.4, 9, 9], unlimited, MIN_CORES) == pytest.approx([0.5, 2.75, 2.75])
    assert shares(6, [100, 100, 100], [0.4, 9, 9], [0.4, 9, 9], MIN_CORES) == pytest.approx([2, 2, 2])
    assert shares(0.03, [100, 100, 100], [9, 9, 9], unlimited, MIN_CORES) == [MIN_CORES] * 3


def test_weights_of_0_are_the_least() -> None:
    """As kernels up to 6.1 show of idle groups."""
    assert shares(4, [0, 0], [9, 9], [math.inf] * 2, MIN_CORES) == [2, 2]


@given(
    st.floats(0.02, 64),
    st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 64), st.just(math.inf) | st.floats(0.02, 64)), min_size=1),
)
def test_shares_add_up_to_the_room_and_none_is_less_than_the_least(
    room_cores: float, groups: list[tuple[int, float, float]]
) -> None:
    weights, used, limits = zip(*groups, strict=True)
    given_cores = shares(room_cores, weights, used, limits, MIN_CORES)
    assert min(given_cores) >= MIN_CORES
    assert room_cores - 1e-6 <= sum(given_cores) <= room_cores + MIN_CORES * len(groups) + 1e-6
