"""Groups come, go and are renamed, and so do probes; nothing of either stays behind."""

from __future__ import annotations

import os
import time

import pytest

from native._slackwater import lib
from native.probe import Probe, ProbeOptions
from tests.kernel import bpf_sys
from tests.kernel.measure import measured
from tests.kernel.needs import needs
from tests.kernel.workloads import Group, Workloads

pytestmark = [needs("root", "bpf", "cgroup:cpu"), pytest.mark.alone]


def test_group_of_less_than_a_tick_is_reported(tree: Group, workloads: Workloads) -> None:
    """Born, busy and removed between two cuts: its wait is in the tick, under its id."""
    with measured() as m:
        groups = [tree.child("a"), tree.child("b")]
        ids = [group.id for group in groups]
        truths = [p.finish(m.drain).waited_ns for p in [workloads.start(group, 0, "loop", 0.3) for group in groups]]
        for group in groups:
            group.remove()
    assert [m.of(id_, "wait_sum_ns") for id_ in ids] == pytest.approx(truths, rel=0.05)


def test_dead_groups_leave_the_table(tree: Group, workloads: Workloads) -> None:
    """50 groups a second for 4 s, each busy once: every one is reported, and GROUP_LINGER_TICKS later none is left."""
    with Probe.open(ProbeOptions()) as probe:
        probe.tick()
        sizes: list[int] = []
        for second in range(4):
            ids = set()
            for number in range(50):
                group = tree.child(f"{second}-{number}")
                ids.add(group.id)
                workloads.start(group, -1, "spawn", 1, 1, 100).finish(probe.drain)
                group.remove()
            assert ids <= set(probe.tick().groups["id"].tolist())
            for _ in range(lib.GROUP_LINGER_TICKS):
                probe.tick()
            left = set(probe.tick().groups["id"].tolist())
            assert not ids & left
            sizes.append(len(left))
    assert max(sizes) < min(sizes) + 50


@pytest.mark.short
def test_renamed_group_keeps_its_id(tree: Group, workloads: Workloads) -> None:
    """A v1 group renamed while its task waits: one row, with the waits before and after."""
    if tree.version == 2:
        pytest.skip("cgroup v2 has no rename")
    with measured() as m:
        old, other = tree.child("old"), tree.child("other")
        id_ = old.id
        loops = [workloads.start(group, 0, "loop", 1) for group in (old, other)]
        time.sleep(0.5)
        new = Group(old.path.rename(tree.path / "new"), old.version)
        truth, _ = [loop.finish(m.drain).waited_ns for loop in loops]
    assert new.id == id_
    assert m.of(id_, "wait_sum_ns") == pytest.approx(truth, rel=0.01)


def test_two_probes_see_the_same(tree: Group, workloads: Workloads) -> None:
    """Each has programs, maps and task storage of its own."""
    group = tree.child("a")
    with measured() as first, measured() as second:
        workloads.start(group, -1, "spawn", 200, 4, 500).finish(first.drain)
    for column in ("wait_count", "wait_sum_ns"):
        assert first.of(group, column) == pytest.approx(second.of(group, column), rel=0.01)
    assert first.of(group, "wait_count") >= 200


@pytest.mark.short
def test_closed_probe_leaves_no_program() -> None:
    """Every program that this process holds while the probe is open is unloaded within a second of its close."""
    before = bpf_sys.program_ids_of(os.getpid())
    with Probe.open(ProbeOptions()) as probe:
        probe.tick()
        ours = bpf_sys.program_ids_of(os.getpid()) - before
        assert any(bpf_sys.program(id_) for id_ in ours)
    deadline = time.monotonic() + 1
    while any(bpf_sys.program(id_) for id_ in ours) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [bpf_sys.program(id_) for id_ in ours if bpf_sys.program(id_)] == []
