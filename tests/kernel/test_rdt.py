"""rdt/ on the kernel's own resctrl: what it takes, what it refuses and in which words, what it does to us."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from rdt import info, layout, monitor, schemata, tasks
from rdt.errors import (
    Busy,
    Gone,
    Invalid,
    NoLayout,
    NotMounted,
    OutOfClosids,
    OutOfRmids,
    RdtError,
    Refused,
)
from rdt.group import Group, Tree
from rdt.layout import Class, Range
from tests.kernel import workloads as cgroups
from tests.kernel.needs import needs
from tests.kernel.resctrl import LIMBO_S, ROOT, mounted, write
from tests.kernel.workloads import Workloads

pytestmark = needs("root", "resctrl")

LAYOUTS = 50
BAD_WRITES = 150
SEED = 5
BREED, BREED_INTERVAL_US, BREED_S = 1000, 3_000_000, 120


@pytest.fixture
def tree() -> Iterator[Tree]:
    with mounted() as root:
        yield Tree(root)


@pytest.fixture
def offered(tree: Tree) -> info.Info:
    return info.read(tree.root)


@pytest.fixture
def can_allocate(offered: info.Info) -> None:
    if offered.closids is None:
        pytest.skip("monitoring only")


MOUNTS = [
    pytest.param((), id="plain"),
    pytest.param(("cdp",), id="cdp", marks=needs("resctrl:cdp")),
    pytest.param(("cdpl2",), id="cdpl2", marks=needs("resctrl:cdpl2")),
    pytest.param(("mba_MBps",), id="MBps", marks=needs("resctrl:mbps")),
]


@pytest.mark.short
@pytest.mark.parametrize("options", MOUNTS)
def test_every_layout_is_taken_and_read_back(options: tuple[str, ...]) -> None:
    """All that the solver finds for random wishes: written to a group per class and to the default group."""
    with mounted(*options) as root:
        tree, offered = Tree(root), info.read(root)
        if offered.closids is None:
            pytest.skip("monitoring only")
        domains = tree.group().schemata()
        groups = [create(tree, f"c{number}") for number in range(min(offered.closids - 1, 4))]
        chance = random.Random(SEED)
        solved = 0
        while solved < LAYOUTS:
            classes = [Class(group.name, *wish(chance, offered)) for group in groups]
            try:
                found = layout.solve(offered, domains, classes)
            except NoLayout:
                continue
            solved += 1
            for name, values in found.items():
                group = tree.group(name)
                group.write(values, offered)
                assert schemata.difference(values, group.schemata()) == {}


def wish(chance: random.Random, offered: info.Info) -> tuple[dict[str, Range], dict[str, float], dict[str, int]]:
    """Ranges of caches, bandwidth in percent, bandwidth in MiB/s: of what this mount has."""
    ranges = {}
    for name in sorted({*offered.caches, *map(schemata.level, offered.caches)}):
        start, end = sorted(chance.sample(range(101), 2))
        if chance.random() < 0.5:
            ranges[name] = Range(start, end, exclusive=chance.random() < 0.3)
    amount = chance.randint(1, 100)
    if any(bandwidth.unit == info.MBPS for bandwidth in offered.bandwidths.values()):
        return ranges, {}, dict.fromkeys(offered.bandwidths, 100 * amount)
    return ranges, dict.fromkeys(offered.bandwidths, float(amount)), {}


@pytest.mark.short
@pytest.mark.usefixtures("can_allocate")
def test_we_refuse_what_the_kernel_refuses(tree: Tree, offered: info.Info) -> None:
    """Random settings, most of them bad: refused by us if by the kernel, and taken by it if by us."""
    group, other = create(tree, "ours"), create(tree, "theirs")
    chance = random.Random(SEED)
    refused = 0
    for _ in range(BAD_WRITES):
        name, domain, value = random_setting(chance, offered, group)
        line = str(schemata.Line(name, {domain: value}))
        kernels = write(other.path / "schemata", line)
        ours = refusal(partial(group.write, {name: {domain: value}}, offered))
        assert (ours is None) == (kernels is None), f"{line}: {ours}, but the kernel: {kernels}"
        if isinstance(ours, Refused):  # a kernel that does not say whether masks may have gaps
            assert offered.caches[name].sparse_masks is None
            assert ours.kernel_text
        refused += isinstance(ours, Invalid)
        assert group.schemata() == other.schemata()
    assert 0 < refused < BAD_WRITES


def refusal(attempt: Callable[[], None]) -> RdtError | None:
    try:
        attempt()
    except RdtError as error:
        return error
    return None


def random_setting(chance: random.Random, offered: info.Info, group: Group) -> tuple[str, int, int]:
    name = chance.choice([*offered.resources] * 5 + ["L3", "L2", "MB", "L3CODE"])
    domain = chance.choice([*itertools.chain(*group.schemata().values())] * 5 + [9])
    most = offered.caches[name].cbm_mask * 2 if name in offered.caches else 130
    return name, domain, chance.randint(0, most)


@pytest.mark.usefixtures("can_allocate")
def test_refusal_has_the_kernels_words_and_errno(tree: Tree, offered: info.Info) -> None:
    """Of a mask that we do not look at, since here the machine is said to take all."""
    name = next((name for name, cache in offered.caches.items() if cache.cbm_mask), None)
    if name is None:
        pytest.skip("no CAT")
    group = create(tree, "batch")
    with pytest.raises(Refused) as caught:
        group._put("schemata", f"{name}:0=ffffffff\n")
    assert caught.value.errno == errno.EINVAL
    assert "out of range" in (caught.value.kernel_text or "")
    assert f"{name}:0=ffffffff" in str(caught.value)


@pytest.mark.short
def test_groups_run_out_with_a_name_and_come_again(tree: Tree, offered: info.Info) -> None:
    """Of CLOSIDs or of RMIDs, whichever are fewer. The ids of removed groups are used again, RMIDs after a while."""
    rmids = offered.monitoring.num_rmids if offered.monitoring else None
    places = min(count for count in (offered.closids, rmids) if count is not None) - 1
    folder = "" if offered.closids is not None else "mon_groups/"
    made, error = fill(tree, folder)
    assert len(made) == places
    assert isinstance(error, OutOfClosids if offered.closids == places + 1 else OutOfRmids)
    for group in made:
        group.remove()
    create(tree, f"{folder}again")


@needs("resctrl:monitor")
def test_monitoring_groups_run_out_of_rmids(tree: Tree, offered: info.Info) -> None:
    assert offered.monitoring is not None
    made, error = fill(tree, "mon_groups/")
    assert len(made) == offered.monitoring.num_rmids - 1
    assert isinstance(error, OutOfRmids)


def fill(tree: Tree, folder: str) -> tuple[list[Group], Refused]:
    """Groups until there are no more, and why. EBUSY: some RMIDs of earlier tests are in limbo, ENOSPC: none is."""
    made: list[Group] = []
    end_s = time.monotonic() + LIMBO_S
    while True:
        try:
            made.append(tree.create(f"{folder}g{len(made)}"))
        except (OutOfClosids, OutOfRmids) as error:
            if error.errno == errno.ENOSPC:
                return made, error
            assert time.monotonic() < end_s
            time.sleep(0.1)


def create(tree: Tree, name: str) -> Group:
    """Also where RMIDs of earlier tests have to leave the kernel's limbo first."""
    eventually(lambda: tree.create(name), OutOfRmids, LIMBO_S)
    return tree.group(name)


def eventually(attempt: Callable[[], object], error: type[Exception], limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while True:
        try:
            attempt()
        except error:
            assert time.monotonic() < end_s
            time.sleep(0.2)
        else:
            return


@pytest.mark.short
@pytest.mark.usefixtures("can_allocate")
def test_group_that_was_removed_by_somebody_else_is_gone(tree: Tree, offered: info.Info) -> None:
    """Each way to use it says so, the tree and its other groups live on."""
    group, other = create(tree, "ours"), create(tree, "other")
    values = group.schemata()
    group.path.rmdir()
    for use in (group.schemata, group.tasks, group.remove, lambda: group.write(values, offered)):
        with pytest.raises(Gone, match="no such group"):
            use()
    with pytest.raises(Gone):
        group.assign(lambda: [os.getpid()])
    other.write(values, offered)
    assert create(tree, "ours").schemata() == values


def test_resctrl_unmounted_under_us_is_named_and_comes_again() -> None:
    """Nothing of ours keeps it mounted. After the next mount the tree works, and the group of before is gone."""
    with mounted() as root:
        tree, offered = Tree(root), info.read(root)
        group = create(tree, "batch" if offered.closids else "mon_groups/batch")
        assert group.tasks() == set()
    for use in (group.tasks, tree.groups, lambda: tree.create("x"), group.remove, lambda: info.read(ROOT)):
        with pytest.raises(NotMounted):
            use()
    with mounted():
        with pytest.raises(Gone):
            group.tasks()
        assert tree.groups()


@pytest.mark.usefixtures("can_allocate")
def test_lock_of_another_program_is_waited_for(tree: Tree) -> None:
    """For a bounded time; without it nothing is written."""
    patient = Tree(tree.root, lock_limit_s=0.2)
    folder = os.open(tree.root, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(Busy, match=r"has held the lock for 0\.2 s"):
        patient.create("batch")
    os.close(folder)
    assert not (tree.root / "batch").exists()
    create(patient, "batch")


@pytest.mark.short
def test_cache_without_cpus_vanishes_and_comes_again(tree: Tree, offered: info.Info) -> None:
    """All CPUs of the last L3 off-line: its id is refused by name, the counters of the others are read on."""
    (*_, last) = sorted(l3_ids().values())
    group = create(tree, "batch") if offered.closids else tree.group()
    before = group.schemata() if offered.closids else {}
    cpus = [cpu for cpu, number in l3_ids().items() if number == last]
    try:
        for cpu in cpus:
            (cpu / "online").write_text("0")
        if offered.monitoring:
            assert last not in monitor.read(group)
            assert monitor.read(group)
        for name in {"L3", "MB"} & set(before):
            assert last not in group.schemata()[name]
            with pytest.raises(Invalid, match="no such cache id"):
                group.write({name: before[name]}, offered)
    finally:
        for cpu in cpus:
            (cpu / "online").write_text("1")
    if offered.monitoring:
        assert last in monitor.read(group)
    if before:
        group.write(before, offered)
        assert group.schemata() == before


def l3_ids() -> dict[Path, int]:
    """CPU's folder -> id of its L3."""
    files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index3/id")
    return {file.parents[2]: int(file.read_text()) for file in files}


@needs("resctrl:monitor")
def test_counters_are_read_and_grow(tree: Tree) -> None:
    """Of each cache; the total faster than the local."""
    before = monitor.read(tree.group())
    time.sleep(0.5)
    now = monitor.read(tree.group())
    assert set(now) == set(before) == set(l3_ids().values())
    for domain, events in now.items():
        total, local = (
            monitor.growth(before[domain][event], events[event]) for event in ("mbm_total_bytes", "mbm_local_bytes")
        )
        assert total is not None
        assert local is not None
        assert total > local > 0
        assert isinstance(events["llc_occupancy"], int)


@pytest.mark.slow
@pytest.mark.usefixtures("can_allocate")
@needs("cgroup:cpu")
def test_no_task_is_left_behind_that_forks_while_it_is_moved(tree: Tree, work_binary: Path) -> None:
    """1,000 processes, each of which forks and ends again and again: all of them and all their children are moved."""
    group = create(tree, "batch")
    with cgroups.own_tree(os.getpid()) as parent:
        breeders = parent.child("breeders")
        work = Workloads(work_binary).start(breeders, -1, "breed", BREED, BREED_INTERVAL_US, BREED_S)
        try:
            eventually(lambda: at_least(BREED, tasks.of_cgroup(breeders.path)), AssertionError, BREED_S / 2)
            moved = group.assign(lambda: tasks.of_cgroup(breeders.path))
            assert moved.moved >= BREED
            for _ in range(10):
                time.sleep(0.1)
                outside = tasks.of_cgroup(breeders.path) - group.tasks()
                assert outside & tasks.of_cgroup(breeders.path) == set()
        finally:
            (breeders.path / "cgroup.kill").write_text("1")
            work.popen.communicate()


def at_least(count: int, found: set[int]) -> None:
    assert len(found) >= count
