"""Events that the kernel counts per cgroup, in cgroups of these tests, with software events: they need no PMU, and the
kernel gives them to cgroups in the same way.

A page fault is an event that a program has as often as it is told to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.config import Config, parse_config
from agent.discovery import Classifier
from agent.host import Hierarchy, probe
from agent.records import Group as RecordGroup
from agent.records import Qos
from agent.samples import cpi
from agent.samples.cpi import KINDS, CpiReader, open_counters, refusal
from agent.samples.sampler import Sampler
from native.perf import CgroupCounters, Kind, PerfError
from tests.kernel.needs import needs
from tests.kernel.workloads import Group, Workloads

pytestmark = [needs("root", "cgroup:perf_event"), pytest.mark.alone]

CPU_CLOCK, PAGE_FAULTS, CONTEXT_SWITCHES = Kind(1, 0), Kind(1, 2), Kind(1, 3)
SOFTWARE = (PAGE_FAULTS, CONTEXT_SWITCHES, CPU_CLOCK)
START_FAULTS = 400
"""At most so many more faults has a program that was in its group before it began."""
CPU1 = Path("/sys/devices/system/cpu/cpu1/online")


@pytest.fixture
def hierarchy() -> Hierarchy:
    place = probe().perf_event
    assert place
    return place


@pytest.fixture
def top(hierarchy: Hierarchy) -> Iterator[Group]:
    """A directory of these tests' own in the hierarchy that has perf_event."""
    group = Group(Path(hierarchy.mount) / f"slackwater-test-perf-{os.getpid()}", hierarchy.version)
    group.path.mkdir()
    yield group
    group.remove()


def made(parent: Group, name: str) -> Group:
    group = Group(parent.path / name, parent.version)
    group.path.mkdir()
    return group


def add(counters: CgroupCounters, group: Group) -> int:
    fd = os.open(group.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return counters.add(fd)
    finally:
        os.close(fd)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def touch(workloads: Workloads, group: Group, cpu: int, pages: int) -> None:
    workloads.start(group, cpu, "touch", pages).finish(lambda: None)


def few_more(count: float) -> object:
    """That many, and what a program needs besides."""
    return pytest.approx(count + START_FAULTS / 2, abs=START_FAULTS / 2)


@needs("cpus:2")
@pytest.mark.short
def test_counts_a_cgroup_with_those_below_it_on_all_cpus(top: Group, workloads: Workloads) -> None:
    """And nothing of its neighbours."""
    a, c = made(top, "a"), made(top, "c")
    b = made(a, "b")
    with CgroupCounters([PAGE_FAULTS], 4) as counters:
        rows = [add(counters, group) for group in (a, b, c)]
        for cpu, (group, pages) in enumerate(((a, 5000), (b, 3000), (c, 2000))):
            touch(workloads, group, cpu % 2, pages)
        in_a, in_b, in_c = counters.read()[rows, 0]
    assert in_b == few_more(3000)
    assert in_c == few_more(2000)
    assert in_a - in_b == few_more(5000)


@pytest.mark.short
def test_what_is_read_is_the_growth_since_the_last_time(top: Group, workloads: Workloads) -> None:
    """Of all kinds at once; a row that is not used is not known."""
    with CgroupCounters(SOFTWARE, 2) as counters:
        row = add(counters, top)
        touch(workloads, top, 0, 1000)
        faults, _, clock_ns = counters.read()[row]
        assert (faults, clock_ns > 0) == (few_more(1000), True)
        assert counters.read()[row].tolist() == [0, 0, 0]
        workloads.start(top, 0, "pingpong", 500).finish(lambda: None)
        faults, switches, clock_ns = counters.read()[row]
        assert (faults, switches > 900, clock_ns > 0) == (few_more(0), True, True)
        assert np.isnan(counters.read()[1 - row]).all()


def test_a_row_that_is_given_back_counts_from_0(top: Group, workloads: Workloads) -> None:
    """And all descriptors are given back: cgroups x CPUs x kinds, one for each cgroup and one for each CPU."""
    a, b = made(top, "a"), made(top, "b")
    before, cpus = descriptors(), os.cpu_count() or 1
    with CgroupCounters(SOFTWARE, 1) as counters:
        row = add(counters, a)
        assert descriptors() - before == cpus * (1 + len(SOFTWARE)) + 1
        with pytest.raises(PerfError) as refused:
            add(counters, b)
        assert refused.value.errno == errno.ENOSPC
        touch(workloads, a, 0, 1000)
        counters.remove(row)
        assert descriptors() - before == cpus
        assert np.isnan(counters.read()).all()
        assert add(counters, b) == row
        touch(workloads, b, 0, 200)
        assert counters.read()[row, 0] == few_more(200)
    assert descriptors() == before


def test_a_cgroup_that_is_counted_can_be_removed(top: Group, workloads: Workloads) -> None:
    a = made(top, "a")
    with CgroupCounters([PAGE_FAULTS], 1) as counters:
        row = add(counters, a)
        touch(workloads, a, 0, 1000)
        a.remove()
        assert counters.read()[row, 0] == few_more(1000)
        assert counters.read()[row, 0] == 0


def test_a_directory_of_another_kind_is_refused_and_leaves_nothing_open(tmp_path: Path) -> None:
    before = descriptors()
    with CgroupCounters([PAGE_FAULTS], 1) as counters:
        for path, expected in ((tmp_path, errno.EBADF), (Path("/proc"), errno.EBADF)):
            with pytest.raises(PerfError) as refused:
                add(counters, Group(path, 2))
            assert refused.value.errno == expected
    assert descriptors() == before


@needs("machine", "cpus:2")
def test_a_cpu_that_was_away_is_counted_again(top: Group, workloads: Workloads) -> None:
    """Away for some readings, or back before the next: after two readings it is counted. Others are all the time."""
    with CgroupCounters(SOFTWARE, 1) as counters:
        row = add(counters, top)
        open_before = descriptors()
        try:
            CPU1.write_text("0")
            counters.read()
            touch(workloads, top, 0, 1000)
            assert counters.read()[row, 0] == few_more(1000)
            assert descriptors() == open_before - len(SOFTWARE) - 1
            CPU1.write_text("1")
            counters.read()
            assert descriptors() == open_before
            touch(workloads, top, 1, 1000)
            assert counters.read()[row, 0] == few_more(1000)
            CPU1.write_text("0")
            CPU1.write_text("1")
            counters.read()
            counters.read()
            touch(workloads, top, 1, 1000)
            assert counters.read()[row, 0] == few_more(1000)
        finally:
            CPU1.write_text("1")


def test_without_a_pmu_the_errno_says_so() -> None:
    """As in a virtual machine whose hypervisor shows none: this test holds on both kinds of machine."""
    if any(Path("/sys/bus/event_source/devices").glob("cpu*")):
        open_counters(1).close()
        return
    before = descriptors()
    with pytest.raises(PerfError) as refused:
        open_counters(1)
    assert refused.value.errno in (errno.ENOENT, errno.EOPNOTSUPP)
    assert descriptors() == before


def test_where_only_the_last_kind_is_not_counted_the_others_are(top: Group, workloads: Workloads) -> None:
    with open_counters(1, (PAGE_FAULTS, CPU_CLOCK, KINDS[0])) as counters:
        row = add(counters, top)
        touch(workloads, top, 0, 1000)
        assert counters.read()[row, 0] == few_more(1000)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv")
@pytest.mark.parametrize(("capabilities", "expected"), [("-all", "EACCES"), ("-all,+perfmon", "counted")])
def test_it_takes_cap_perfmon_and_no_more(top: Group, capabilities: str, expected: str) -> None:
    """As the unit gives it, at the levels that the kernel's documentation has; Debian's level 3 wants CAP_SYS_ADMIN."""
    paranoid = Path("/proc/sys/kernel/perf_event_paranoid")
    before = paranoid.read_text()
    script = (
        "import errno, os, sys; from native.perf import *\n"
        "try:\n"
        "    counters = CgroupCounters([Kind(1, 2)], 1)\n"
        "    counters.add(os.open(sys.argv[1], os.O_RDONLY))\n"
        "    print('counted')\n"
        "except PerfError as error:\n"
        "    print(errno.errorcode[error.errno])\n"
    )
    command = ["setpriv", f"--bounding-set={capabilities}", "--inh-caps=-all", sys.executable, "-c", script]
    for level in ("1", "2") if "SLACKWATER_MACHINE" in os.environ else (before,):
        if int(level) != int(before):
            paranoid.write_text(level)
        try:
            out = subprocess.run([*command, str(top.path)], capture_output=True, text=True, check=True).stdout
        finally:
            if int(level) != int(before):
                paranoid.write_text(before)
        assert out.strip() == expected, f"perf_event_paranoid = {level}"


def test_a_host_without_them_is_told_so_once_and_has_none(caplog: pytest.LogCaptureFixture) -> None:
    host = probe()
    asked = parse_config("[cpi]\nenabled = true", "f")
    assert CpiReader.open(Config(), host) is None
    assert not caplog.messages, "nobody asked for them"
    assert CpiReader.open(asked, replace(host, perf_event=None)) is None
    assert caplog.messages == ["hardware counters are not read: no cgroup hierarchy with perf_event is mounted"]
    caplog.clear()
    reader = CpiReader.open(asked, host)
    if refusal():
        words = os.strerror(refusal())
        assert caplog.messages == [
            f"hardware counters are not read (slackwater doctor tells more): perf_event_open: {words}"
        ]
    assert (reader is None) == bool(refusal())


@pytest.fixture
def reader(hierarchy: Hierarchy, top: Group) -> Iterator[CpiReader]:
    """Of software events in place of those of the PMU; below `top` everybody is counted, two at most, "late" first."""
    mount = Hierarchy(str(top.path), "/", hierarchy.version)
    reader = CpiReader(
        CgroupCounters(SOFTWARE, 2), mount, lambda groups: sorted(groups, key=lambda each: each.path != "/late"), 2
    )
    yield reader
    reader.close()


def groups_of(*names: str) -> tuple[RecordGroup, ...]:
    """As they are in the cpu hierarchy, which may be another: there they have other ids."""
    return tuple(RecordGroup(ord(name[0]), f"/{name}", Qos.LS) for name in names)


def test_groups_are_counted_from_their_first_tick_to_their_last(
    top: Group, workloads: Workloads, reader: CpiReader, caplog: pytest.LogCaptureFixture
) -> None:
    """A row per group: NaN for those that have no directory here, or whose place another group needs more; of these it
    is said once how many they are."""
    a = made(top, "a")
    before = groups_of("a", "without")
    assert np.isnan(reader.read(before).cycles).all()
    touch(workloads, a, 0, 1000)
    sample = reader.read(before)
    assert sample.ids.tolist() == [group.id for group in before]
    assert sample.cycles[0] == few_more(1000)
    assert np.isnan(sample.cycles[1])

    b, late = made(top, "b"), made(top, "late")
    after = groups_of("a", "b", "late")
    touch(workloads, a, 0, 200)
    sample = reader.read(after)
    assert sample.cycles[0] == few_more(200)
    assert np.isnan(sample.cycles[1:]).all()
    for group in (b, late):
        touch(workloads, group, 0, 500)
    sample = reader.read(after)
    assert np.isnan(sample.cycles[1])
    assert sample.cycles[2] == few_more(500)
    reader.read(groups_of("a", "b", "late"))
    assert caplog.messages == ["hardware counters are read of 2 groups, 1 are left out"]

    reader.choose_anew(lambda groups: [group for group in groups if group.path == "/b"])
    reader.read(after)
    touch(workloads, b, 0, 300)
    sample = reader.read(after)
    assert sample.cycles[1] == few_more(300)
    assert np.isnan(sample.cycles[[0, 2]]).all()


def test_a_directory_that_was_made_anew_is_counted_anew(top: Group, workloads: Workloads, reader: CpiReader) -> None:
    """Where the cpu hierarchy is another one, its group may stay the same meanwhile."""
    groups = groups_of("a")
    a = made(top, "a")
    reader.read(groups)
    a.remove()
    a = made(top, "a")
    reader.read(groups)
    touch(workloads, a, 0, 700)
    assert reader.read(groups).cycles[0] == few_more(700)
    a.remove()
    reader.read(groups)
    assert np.isnan(reader.read(groups).cycles).all()


def config_of(top: Group, name: str) -> Config:
    """What lies in `top` is a service, and a rule is about that of this name."""
    return parse_config(
        f'[cpi]\nenabled = true\n[[class]]\nmatch = "/{top.path.name}/*"\nclass = "LS"\n'
        f'[[rule]]\nname = "r"\nmatch = "/{top.path.name}/{name}"\nsignal = "wait_p99"\nthreshold = "2ms"\n',
        "f",
    )


@needs("cgroup:cpu")
def test_a_tick_has_what_was_counted_of_the_groups_that_rules_are_about(
    tree: Group, hierarchy: Hierarchy, workloads: Workloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the rules become others. The groups are those of the cpu hierarchy, by the same names in this one."""
    monkeypatch.setattr(cpi, "open_counters", lambda max_groups: CgroupCounters(SOFTWARE, max_groups))
    mirror = Group(Path(hierarchy.mount) / tree.path.name, hierarchy.version)
    with contextlib.ExitStack() as stack:
        if mirror.path != tree.path:
            mirror.path.mkdir()
            stack.callback(mirror.remove)
        for name in ("a", "b"):
            tree.child(name)
            (mirror.path / name).mkdir(exist_ok=True)
        config = config_of(tree, "a")
        sampler = stack.enter_context(contextlib.closing(Sampler(config, probe(), Classifier(config), None)))
        sampler.read(time.monotonic_ns(), 1)
        for counted, other in (("a", "b"), ("b", "a")):
            config = config_of(tree, counted)
            sampler.configure(config, Classifier(config))
            sampler.read(time.monotonic_ns(), 1)
            touch(workloads, Group(mirror.path / counted, mirror.version), 0, 500)
            tick = sampler.read(time.monotonic_ns(), 1)
            assert tick.cpi
            faults = {group.path: tick.cpi.cycles[row] for row, group in enumerate(tick.groups)}
            assert faults[f"/{tree.path.name}/{counted}"] == few_more(500)
            assert np.isnan(faults[f"/{tree.path.name}/{other}"])
