"""Which CPUs batch work keeps: whole cores, spread over nodes, the last first; nested, never empty."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.config import Config
from agent.control import Topology
from agent.decisions.suppress_cpuset import cpu_count, cpus_for_be

ALL = frozenset(range(8))
TWO_NODES = Topology(
    tuple(range(8)),
    {cpu: (cpu % 4, cpu % 4 + 4) for cpu in range(8)},
    {cpu: cpu % 4 // 2 for cpu in range(8)},
)
"""Cores (0,4) (1,5) on node 0, (2,6) (3,7) on node 1."""
NOTHING: frozenset[int] = frozenset()


def test_whole_cores_come_first_in_turn_from_each_node() -> None:
    chosen = [cpus_for_be(count, ALL, NOTHING, TWO_NODES) for count in (2, 4, 6)]
    assert chosen == [(3, 7), (1, 3, 5, 7), (1, 2, 3, 5, 6, 7)]


def test_cores_that_lost_a_thread_come_last() -> None:
    assert cpus_for_be(4, ALL, frozenset({7, 5}), TWO_NODES) == (0, 2, 4, 6)
    assert cpus_for_be(5, ALL, frozenset({7, 5}), TWO_NODES) == (0, 2, 3, 4, 6)


def test_none_is_left_when_all_are_others() -> None:
    assert cpus_for_be(2, ALL, ALL, TWO_NODES) is None
    assert cpus_for_be(2, frozenset({99}), NOTHING, TWO_NODES) is None


@given(st.integers(1, 8), st.integers(1, 8), st.frozensets(st.integers(0, 7)), st.frozensets(st.integers(0, 7)))
def test_a_smaller_set_is_a_part_of_a_larger_one(
    one: int, other: int, allowed: frozenset[int], excluded: frozenset[int]
) -> None:
    small, large = (cpus_for_be(count, allowed, excluded, TWO_NODES) or () for count in sorted((one, other)))
    assert set(small) <= set(large) <= allowed - excluded
    assert len(small) == min(one, other, len(allowed - excluded))


def test_at_least_min_cpus() -> None:
    assert [cpu_count(cores, Config().suppress) for cores in (0.1, 2.0, 2.01, 7.99)] == [2, 2, 3, 8]
