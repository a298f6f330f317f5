"""What owners have set, from a tree of files: what the agent wrote there is not taken for theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.control import Knob, KnobState
from agent.host import Hierarchy, probe
from agent.records import Group, Qos
from agent.samples.settings import READ_EVERY_TICKS, Settings, SettingsReader
from tests.agent.ticks import tick_of

BATCH, PINNED, WEB = Group(1, "/low/batch", Qos.BE), Group(2, "/pinned", Qos.LSE), Group(3, "/web", Qos.LS)
GROUPS = (BATCH, PINNED, WEB)
IDLE, WEIGHT, FREEZE = ((BATCH.id, knob) for knob in (Knob.IDLE, Knob.WEIGHT, Knob.FREEZE))
HELD = {IDLE: KnobState(0, 1)}


class Tree:
    """A v2 tree and its reader."""

    def __init__(self, root: Path) -> None:
        self.root = root
        place = Hierarchy(str(root), "/", 2)
        self.reader = SettingsReader(replace(probe(root, lambda: None), cpu=place, cpuset=place, freezer=place))
        self.write("", cpus="0-7")
        self.write("/low", cpus="0-5")
        self.write("/pinned", cpus="6-7")
        self.write("/low/batch", idle="0", weight="300", freeze="0", cpus="0-5")

    def write(self, path: str, **texts: str) -> None:
        names = {"idle": "cpu.idle", "weight": "cpu.weight", "freeze": "cgroup.freeze", "cpus": "cpuset.cpus.effective"}
        (self.root / path.strip("/")).mkdir(parents=True, exist_ok=True)
        for knob, text in texts.items():
            (self.root / path.strip("/") / names[knob]).write_text(f"{text}\n")

    def read(self, number: int, knobs: dict[tuple[int, Knob], KnobState] | None = None) -> Settings:
        return self.reader.read(replace(tick_of(GROUPS, number=number), groups=GROUPS), knobs or {})


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_what_owners_have_set_is_read_every_few_ticks(tree: Tree) -> None:
    assert tree.read(1) == Settings(
        {IDLE: 0, WEIGHT: 300, FREEZE: 0}, {BATCH.id: (0, 1, 2, 3, 4, 5), PINNED.id: (6, 7)}
    )
    tree.write("/low/batch", freeze="1")
    assert tree.read(2).owners[FREEZE] == 0
    assert tree.read(1 + READ_EVERY_TICKS).owners[FREEZE] == 1


def test_a_file_that_is_not_there_or_makes_no_sense_is_absent(tree: Tree) -> None:
    (tree.root / "low/batch/cpu.idle").unlink()
    tree.write("/low/batch", weight="much", cpus="all")
    (tree.root / "pinned/cpuset.cpus.effective").unlink()
    assert tree.read(1) == Settings({FREEZE: 0}, {PINNED.id: tuple(range(8))})


@pytest.mark.parametrize("shown", ["0", "1"])
def test_the_weight_that_the_kernel_shows_of_an_idle_group_is_not_its_owners(tree: Tree, shown: str) -> None:
    """Neither when idle is ours, nor when it is the owner's."""
    tree.read(1)
    tree.write("/low/batch", idle="1", weight=shown)
    assert tree.read(1 + READ_EVERY_TICKS, HELD).owners == {IDLE: 0, WEIGHT: 300, FREEZE: 0}
    assert tree.read(1 + 2 * READ_EVERY_TICKS).owners == {IDLE: 1, WEIGHT: 300, FREEZE: 0}


def test_a_knob_that_is_held_no_more_is_read_at_once(tree: Tree) -> None:
    tree.read(1)
    tree.write("/low/batch", freeze="1")
    assert tree.read(2, {FREEZE: KnobState(0, 1)}).owners[FREEZE] == 0
    tree.write("/low/batch", freeze="1", weight="200")
    assert tree.read(3).owners == {IDLE: 0, WEIGHT: 200, FREEZE: 1}


def test_cpus_that_the_agent_took_from_a_group_are_still_its_owners(tree: Tree) -> None:
    tree.read(1)
    tree.write("/low/batch", cpus="4-5")
    held = {(BATCH.id, Knob.CPUSET): KnobState((), (4, 5))}
    assert tree.read(1 + READ_EVERY_TICKS, held).cpusets[BATCH.id] == (0, 1, 2, 3, 4, 5)
