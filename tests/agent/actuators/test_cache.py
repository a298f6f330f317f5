"""What the writer of resctrl knows without a kernel: names, classes, the order of writes, whose a mount is."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import mounts
from agent.actuators.cache import CacheExecutor
from agent.actuators.cache_layout import Wish, as_class, group_name, last_cache, narrowed, order
from agent.actuators.cache_tasks import Mover
from agent.actuators.journal import Journal
from agent.actuators.journal_records import Cell, ResctrlEntry
from agent.actuators.partition import Member, Partition
from agent.actuators.report import Fate, Report
from agent.actuators.resctrl import Resctrl
from agent.mounts import is_ours
from rdt.errors import NoLayout, NotMounted
from rdt.group import Tree
from rdt.info import MBPS, PERCENT, Bandwidth, Cache, Info
from rdt.layout import DEFAULT, Class, Range, solve
from rdt.schemata import Values

WAYS = 12
CACHE = Cache((1 << WAYS) - 1, 1, 16, 0, sparse_masks=False, io_alloc=None)
PERCENTS = Bandwidth(PERCENT, 10, 10, 8, 100, delay_linear=True, thread_throttle_mode=None)
MIBS = Bandwidth(MBPS, 0, 1, 8, None, delay_linear=True, thread_throttle_mode=None)
L3 = Info({"L3": CACHE}, {"MB": PERCENTS}, None, frozenset())
CDP = Info({"L3CODE": CACHE, "L3DATA": CACHE, "L2": CACHE}, {"MB": MIBS}, None, frozenset({"cdp", "mba_MBps"}))
NAMES = (DEFAULT, "a", "b", "c", "d")
Layout = Mapping[str, Values]


@st.composite
def layouts(draw: st.DrawFn) -> tuple[set[str], Layout, Layout]:
    """Names of groups that are exclusive, and two layouts in which they are so."""
    exclusive = draw(st.sets(st.sampled_from(NAMES[1:])))
    return exclusive, draw(layout_of(exclusive)), draw(layout_of(exclusive))


@st.composite
def layout_of(draw: st.DrawFn, exclusive: set[str]) -> Layout:
    owners = draw(st.lists(st.sampled_from(["", *sorted(exclusive)]), min_size=WAYS, max_size=WAYS))
    masks = {name: sum(1 << way for way in range(WAYS) if owners[way] == name) for name in exclusive}
    free = sum(1 << way for way in range(WAYS) if not owners[way])
    masks |= {name: draw(st.integers(0, CACHE.cbm_mask)) & free for name in NAMES if name not in exclusive}
    return {name: {"L3": {0: masks[name]}} for name in NAMES}


@pytest.mark.parametrize(
    ("partition", "name"),
    [
        (Partition(-4, "BE", Range(0, 50)), "slackwater-BE"),
        (Partition(4711, "/kubepods/pod 1/web:2/", Range(0, 50)), "slackwater-web-2-4711"),
        (Partition(1, "/" + 300 * "x", Range(0, 50)), f"slackwater-{64 * 'x'}-1"),
        (Partition(2, "/a\n../\udcff", Range(0, 50)), "slackwater---2"),
    ],
)
def test_a_group_is_named_after_its_partition(partition: Partition, name: str) -> None:
    """In letters that no shell minds; one that is taken gets a number."""
    assert group_name(partition, ()) == name
    assert group_name(partition, {name, f"{name}~2"}) == f"{name}~3"


def test_the_last_cache_is_the_one_that_is_divided() -> None:
    partition = Partition(-1, "LS", Range(50, 100, exclusive=True), {"L2": Range(0, 40)}, 30)
    assert [last_cache(info) for info in (L3, CDP)] == ["L3", "L3"]
    assert last_cache(Info({"L2CODE": CACHE}, {}, None, frozenset())) == "L2"
    found = as_class("x", partition, Wish(ways_pct=(60, 90)), CDP)
    assert found == Class(
        "x", {"L2": Range(0, 40), "L3": Range(60, 90, exclusive=True)}, bandwidths_mib_per_s={"MB": 30}
    )


def test_what_is_not_asked_for_is_as_configured_or_whole() -> None:
    partition = Partition(-1, "LS", Range(50, 100), bandwidth=30)
    assert as_class("x", partition, Wish(), L3) == Class("x", {"L3": Range(50, 100)}, {"MB": 30})
    assert as_class("x", partition, Wish(bandwidth=80), L3).bandwidths_pct == {"MB": 80}
    assert as_class("x", partition, Wish(), Info({}, {}, None, frozenset())) == Class("x")


def test_a_partition_without_a_range_shares_what_is_nobodys_own() -> None:
    """Its range is whole, and that is no claim to the ways that somebody has for himself."""
    alone, rest = Partition(-1, "LS", Range(50, 100, exclusive=True)), Partition(-2, "LSE", Range(0, 100))
    classes = [as_class("a", alone, Wish((50, 100)), L3), as_class("b", rest, Wish((0, 100), 40), L3)]
    layout = solve(L3, {"L3": [0], "MB": [0]}, classes)
    assert (layout["a"]["L3"], layout["b"]["L3"], layout["b"]["MB"]) == ({0: 0xFC0}, {0: 0x03F}, {0: 40})


def test_the_default_group_keeps_what_it_had_of_what_is_left() -> None:
    """Or there is no layout, which says what would be left."""
    room = {"L3": {0: 0x03F, 1: 0x03F}}
    assert narrowed(room, {"L3": {0: 0xFF0, 1: 0xFFF}}, L3) == {"L3": {0: 0x030, 1: 0x03F}}
    with pytest.raises(NoLayout, match="L3:0=0: the default group is left with too little"):
        narrowed(room, {"L3": {0: 0xFC0, 1: 0xFFF}}, L3)


def test_threads_lie_with_the_class_while_the_workload_has_no_group(tmp_path: Path) -> None:
    """A tree of files takes what is written, and moves nobody."""
    root, batch, big = tmp_path / "resctrl", tmp_path / "batch", tmp_path / "batch" / "big"
    for folder in (root / "info", root / "BE", root / "big", big):
        folder.mkdir(parents=True)
    for file, text in ((root / "tasks", "11\n12\n"), (root / "BE/tasks", ""), (root / "big/tasks", "")):
        file.write_text(text)
    (batch / "cgroup.threads").write_text("11\n")
    (big / "cgroup.threads").write_text("12\n")
    members = (Member(1, "/batch", -4, batch), Member(2, "/batch/big", 2, big, otherwise=-4))
    Mover(Tree(root)).follow(members, {-4: "BE"})
    assert ((root / "BE/tasks").read_text(), (root / "big/tasks").read_text()) == ("11\n12\n", "")
    (root / "BE/tasks").write_text("")
    Mover(Tree(root)).follow(members, {-4: "BE", 2: "big"})
    assert ((root / "BE/tasks").read_text(), (root / "big/tasks").read_text()) == ("11\n", "12\n")


@given(layouts())
def test_exclusive_ways_are_never_shared_on_the_way_if_that_can_be(drawn: tuple[set[str], Layout, Layout]) -> None:
    """All orders are tried. Every group that differs is written once."""
    exclusive, found, wanted = drawn
    classes = [Class(name, {"L3": Range(0, 100, name in exclusive)}) for name in NAMES[1:]]
    written = list(order(found, wanted, classes))
    differs = [name for name in NAMES if found[name] != wanted[name]]
    assert sorted(written) == sorted(differs)
    if any(is_clean(other, found, wanted, exclusive) for other in permutations(differs)):
        assert is_clean(written, found, wanted, exclusive)


def test_a_group_without_tasks_is_in_nobodys_way() -> None:
    classes = [Class("a", {"L3": Range(0, 50, exclusive=True)}), Class("b", {"L3": Range(50, 100)})]
    wanted = {"a": {"L3": {0: 0x3F}}, "b": {"L3": {0: 0xFC0}}, DEFAULT: {"L3": {0: 0xFC0}}}
    assert list(order({DEFAULT: {"L3": {0: 0xFFF}}}, wanted, classes)) == ["b", DEFAULT, "a"]


def is_clean(written: Iterable[str], found: Layout, wanted: Layout, exclusive: set[str]) -> bool:
    now = dict(found)
    for name in written:
        for other in now.keys() - {name}:
            if exclusive & {name, other} and overlap(wanted[name], now[other]):
                return False
        now[name] = wanted[name]
    return True


def test_what_was_unmounted_has_taken_all_with_it(tmp_path: Path) -> None:
    """Nothing stays on record; there is nothing to be done."""
    root = str(tmp_path / "resctrl")
    cells = {("L3", 0): Cell(0xFFF, (0x3F,))}
    record = Journal(tmp_path / "journal", "a boot", [ResctrlEntry(root, True, ("slackwater-BE",), cells)])
    told = Resctrl(record, Path(root)).give_back()
    assert [(item.path, item.fate, item.base) for item in told] == [
        (f"{root}/slackwater-BE", Fate.GONE, "no group"),
        (root, Fate.GONE, "not mounted"),
    ]
    assert Report(told).is_complete
    record.close()
    assert not (tmp_path / "journal").exists()


def test_where_there_is_no_resctrl_nothing_is_put_on_record(tmp_path: Path) -> None:
    """It is asked for at every tick."""
    record = Journal(tmp_path / "journal", "a boot", [])
    before = (tmp_path / "journal").read_bytes()
    with pytest.raises(NotMounted, match="this machine has no resctrl"):
        Resctrl(record, tmp_path / "resctrl").mount(())
    assert (tmp_path / "journal").read_bytes() == before


def test_a_mount_that_was_refused_is_tried_again_in_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each time in between it is said why."""
    tried_ns: list[int] = []
    now_ns = 0

    def mount(*_: object) -> None:
        tried_ns.append(now_ns)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(mounts, "mount", mount)
    record = Journal(tmp_path / "journal", "a boot", [])
    executor = CacheExecutor(record, lambda: now_ns, root=tmp_path, may_mount=True)
    executor.retry_ns = 10
    for tick in range(25):
        now_ns = tick
        assert "EPERM" in (executor.open() or "")
    assert tried_ns == [0, 10, 20]


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("36 25 0:31 / /sys/fs/resctrl rw,relatime shared:9 - resctrl slackwater rw,cdp", True),
        ("36 25 0:31 / /sys/fs/resctrl rw - resctrl resctrl rw", False),
        ("36 25 0:31 / /sys/fs/resctrl rw - tmpfs slackwater rw", False),
        ("36 25 0:31 / /mnt rw - resctrl slackwater rw", False),
    ],
)
def test_our_mount_is_known_by_its_source(tmp_path: Path, line: str, ours: bool) -> None:
    """The last one at a place is what is seen there."""
    mountinfo = tmp_path / "mountinfo"
    other = "30 25 0:7 /\u2028\r\x0b /\u2028 rw - ext4 /dev/sda1 rw\n"
    other += "30 25 0:7 / /sys/fs/resctrl rw - resctrl resctrl rw\n"
    mountinfo.write_text(f"{other}{line}\n")
    assert is_ours(Path("/sys/fs/resctrl"), "resctrl", mountinfo) is ours
    mountinfo.write_text(f"{line}\n{other}")
    assert not is_ours(Path("/sys/fs/resctrl"), "resctrl", mountinfo)


def overlap(one: Values, other: Values) -> bool:
    return any(mask & other["L3"][id] for id, mask in one["L3"].items())
