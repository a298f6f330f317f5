"""agent.samples.cgroup_tree: births, deaths, ids that come back, odd names, 10,000 groups."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import HostError
from agent.host import probe
from agent.samples.cgroup_tree import CgroupTree, Changes, GroupBorn, GroupEvent, GroupGone, GroupRenamed, printable

TREES = Path(__file__).parents[2] / "trees"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "cpu.stat").write_text("")
    return tmp_path


def scanned(root: Path) -> CgroupTree:
    tree = CgroupTree(str(root))
    tree.scan()
    return tree


def id_of(path: Path) -> int:
    return path.stat().st_ino


def test_a_scan_finds_every_group_by_its_inode_number(root: Path) -> None:
    tree = CgroupTree(str(root))
    changes = tree.scan()
    expected = {id_of(root): "/", id_of(root / "a"): "/a", id_of(root / "a/b"): "/a/b", id_of(root / "c"): "/c"}
    assert dict(tree.paths) == expected
    assert set(changes.born) == set(expected)
    assert changes.born.index(id_of(root / "a")) < changes.born.index(id_of(root / "a/b"))
    assert tree.counters.corrected == 0


def test_a_second_scan_tells_only_what_is_different(root: Path) -> None:
    tree = scanned(root)
    old = id_of(root / "c")
    (root / "d").mkdir()
    (root / "c").rmdir()
    assert tree.scan() == Changes(born=(id_of(root / "d"),), gone=(old,))
    assert tree.scan() == Changes()
    assert (tree.counters.scans, tree.counters.births, tree.counters.deaths) == (3, 5, 1)
    assert tree.counters.corrected == 2


def test_a_path_with_a_new_id_is_a_death_and_a_birth(root: Path) -> None:
    tree = scanned(root)
    old = id_of(root / "c")
    (root / "new").mkdir()
    (root / "c").rmdir()
    (root / "new").rename(root / "c")
    assert tree.scan() == Changes(born=(id_of(root / "c"),), gone=(old,))
    assert tree.counters.reused == 1


def test_an_id_under_another_parent_is_a_death_and_a_birth(root: Path) -> None:
    tree = scanned(root)
    (root / "c").rename(root / "a/c")  # what the file system of the test can do, a reused id looks like
    same = id_of(root / "a/c")
    assert tree.scan() == Changes(born=(same,), gone=(same,))
    assert tree.counters.reused == 1


def test_a_rename_keeps_the_group_and_those_below_it(root: Path) -> None:
    tree = scanned(root)
    (root / "a").rename(root / "z")
    assert tree.scan() == Changes()
    assert tree.paths[id_of(root / "z/b")] == "/z/b"
    assert (tree.counters.reused, tree.counters.corrected) == (0, 2)


def test_events_keep_the_tree_without_a_scan(root: Path) -> None:
    tree = scanned(root)
    assert tree.apply(GroupBorn(7_000_001, "/c/x")) == Changes(born=(7_000_001,))
    assert tree.paths[7_000_001] == "/c/x"
    assert tree.apply(GroupGone(7_000_001)) == Changes(gone=(7_000_001,))
    assert 7_000_001 not in tree.paths
    assert tree.counters.scans == 1


def test_a_rename_event_moves_all_that_is_below(root: Path) -> None:
    tree = scanned(root)
    assert tree.apply(GroupRenamed(id_of(root / "a"), "/z")) == Changes()
    assert tree.paths[id_of(root / "a")] == "/z"
    assert tree.paths[id_of(root / "a/b")] == "/z/b"
    assert tree.paths[id_of(root / "c")] == "/c"


def test_a_birth_at_a_known_path_ends_the_group_that_had_it(root: Path) -> None:
    tree = scanned(root)
    old = id_of(root / "c")
    assert tree.apply(GroupBorn(7_000_001, "/c")) == Changes(born=(7_000_001,), gone=(old,))
    assert tree.counters.reused == 1


def test_a_birth_with_a_known_id_ends_the_group_that_had_it(root: Path) -> None:
    tree = scanned(root)
    old = id_of(root / "c")
    assert tree.apply(GroupBorn(old, "/elsewhere")) == Changes(born=(old,), gone=(old,))
    assert tree.paths[old] == "/elsewhere"
    assert tree.counters.reused == 1


def test_an_event_that_a_scan_was_quicker_than_changes_nothing(root: Path) -> None:
    tree = scanned(root)
    assert tree.apply(GroupBorn(id_of(root / "c"), "/c")) == Changes()
    assert tree.apply(GroupGone(7_000_001)) == Changes()


@pytest.mark.parametrize("event", [GroupBorn(7_000_001, None), GroupRenamed(7_000_001, "/x")], ids=["cut", "unknown"])
def test_an_event_that_cannot_be_applied_asks_for_a_scan(root: Path, event: GroupEvent) -> None:
    tree = scanned(root)
    assert tree.apply(event) == Changes()
    assert tree.stale
    tree.scan()
    assert not tree.stale


def test_event_paths_are_taken_relative_to_the_mounted_part(root: Path) -> None:
    tree = CgroupTree(str(root), subtree="/docker/abc")
    tree.scan()
    assert tree.apply(GroupBorn(7_000_001, "/docker/abc/x")).born == (7_000_001,)
    assert tree.paths[7_000_001] == "/x"
    assert tree.apply(GroupBorn(7_000_002, "/docker/abcd")) == Changes()


def test_a_group_whose_parent_does_not_give_it_cpu_is_a_group() -> None:
    tree = scanned(TREES / "v2/sys/fs/cgroup")
    assert "/user.slice/user-1000.slice" in tree.paths.values()


def test_a_root_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="missing: No such file or directory"):
        CgroupTree(str(tmp_path / "missing")).scan()


def test_a_name_of_odd_bytes_is_kept_and_printed_in_one_line(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/a\n\xff\xc3\xa9")
    (path,) = set(scanned(tmp_path).paths.values()) - {"/"}
    assert os.fsencode(path) == b"/a\n\xff\xc3\xa9"
    assert printable(path) == "/a\\n\\xff\u00e9"


@given(st.binary())
def test_every_name_is_printable(name: bytes) -> None:
    text = printable(os.fsdecode(name))
    assert text.isprintable()
    text.encode("utf-8")


EVENTS = st.one_of(
    st.builds(GroupBorn, st.integers(1, 6), st.sampled_from([None, "/a", "/a/b", "/a/b/c", "/d"])),
    st.builds(GroupGone, st.integers(1, 6)),
    st.builds(GroupRenamed, st.integers(1, 6), st.sampled_from([None, "/a", "/d", "/e"])),
)


@given(st.lists(EVENTS))
def test_whatever_the_events_paths_stay_unique_and_counters_add_up(events: list[GroupEvent]) -> None:
    tree = CgroupTree("/nowhere")
    for event in events:
        tree.apply(event)
    assert len(set(tree.paths.values())) == len(tree.paths)
    assert tree.counters.births - tree.counters.deaths == len(tree.paths)


@pytest.mark.slow
def test_ten_thousand_groups_are_all_found(tmp_path: Path) -> None:
    for outer in range(100):
        for inner in range(99):
            (tmp_path / f"p{outer}/c{inner}").mkdir(parents=True)
    assert len(scanned(tmp_path).paths) == 100 * 100 + 1


@pytest.fixture
def own_group() -> Iterator[tuple[str, str]]:
    """The cpu mount and the path of a group of the test's own there."""
    cpu = probe().cpu
    if cpu is None or os.geteuid() != 0:
        pytest.skip("needs root and a mounted cpu hierarchy, to make a group in it")
    path = f"/slackwater-test-tree-{os.getpid()}"
    os.mkdir(cpu.mount + path)
    yield cpu.mount, path
    os.rmdir(cpu.mount + path)


def test_the_kernels_own_tree_is_scanned_and_leaves_are_not_missed(own_group: tuple[str, str]) -> None:
    mount, path = own_group
    tree = CgroupTree(mount)
    tree.scan()
    os.mkdir(f"{mount}{path}/leaf")
    try:
        assert tree.scan().born == (os.stat(f"{mount}{path}/leaf").st_ino,)
    finally:
        os.rmdir(f"{mount}{path}/leaf")
    assert len(tree.scan().gone) == 1
    assert tree.paths[os.stat(mount).st_ino] == "/"
