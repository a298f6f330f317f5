"""agent.samples.cgroupfs: rows of v1, v2 and hybrid trees, what comes from BPF, what vanishes, what it keeps open."""

import dataclasses
import errno
import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.errors import HostError
from agent.host import Host, probe
from agent.records import CgroupSample
from agent.samples.cgroup_tree import CgroupTree
from agent.samples.cgroupfs import NO_QUOTA, CgroupFiles

TREES = Path(__file__).parents[2] / "trees"
FIELDS = "id usage_ns nr_periods nr_throttled throttled_ns quota_ns period_ns burst_ns"
CPU_STAT = np.dtype([(name, np.uint64) for name in FIELDS.split()])
WEB = "/system.slice/web.service"


def host_of(tree: str) -> Host:
    return probe(TREES / tree, try_bpf=lambda: errno.EPERM)


def groups_of(host: Host) -> list[tuple[int, str]]:
    assert host.cpu is not None
    tree = CgroupTree(host.cpu.mount)
    tree.scan()
    return sorted(tree.paths.items(), key=lambda group: group[1])


def row_of(sample: CgroupSample, groups: list[tuple[int, str]], path: str) -> dict[str, float]:
    """One group's values by name."""
    index = [group[1] for group in groups].index(path)
    names = [field.name for field in dataclasses.fields(sample)]
    return {name: float(getattr(sample, name)[index]) for name in names}


def read_once(host: Host, cpu_stat: NDArray[np.void] | None = None) -> tuple[CgroupSample, list[tuple[int, str]]]:
    groups = groups_of(host)
    with CgroupFiles(host) as files:
        return files.read(groups, 5, cpu_stat), groups


def copied(tree: str, to: Path) -> Host:
    """A tree that may be changed."""
    shutil.copytree(TREES / tree, to, dirs_exist_ok=True)
    return probe(to, try_bpf=lambda: errno.EPERM)


def nan_names(row: dict[str, float]) -> set[str]:
    return {name for name, value in row.items() if np.isnan(value)}


def test_v2_files_fill_every_column() -> None:
    sample, groups = read_once(host_of("v2"))
    assert sample.ids.tolist() == [id for id, _ in groups]
    row = row_of(sample, groups, WEB)
    del row["ids"]
    assert row == {
        "cpu_usage_ns": 3e9,
        "nr_periods": 100,
        "nr_throttled": 3,
        "throttled_ns": 234_234_000,
        "quota_ns": 50e6,
        "period_ns": 100e6,
        "burst_ns": 20e6,
        "memory_bytes": 123456789,
        "memory_limit_bytes": 268435456,
        "io_read_bytes": 1460000,
        "io_write_bytes": 314773504,
        "psi_cpu_some_us": 1000,
        "psi_memory_some_us": 20,
        "psi_memory_full_us": 5,
        "psi_io_some_us": 300,
        "psi_io_full_us": 200,
        "slow_time_ns": 5,
    }


def test_what_the_v2_root_has_not_is_unknown() -> None:
    sample, groups = read_once(host_of("v2"))
    row = row_of(sample, groups, "/")
    assert row["cpu_usage_ns"] == 987654321000
    assert {"nr_periods", "quota_ns", "memory_bytes", "memory_limit_bytes"} <= nan_names(row)


def test_v1_reads_each_controller_in_its_own_hierarchy_and_has_no_pressure() -> None:
    sample, groups = read_once(host_of("v1"))
    row = row_of(sample, groups, WEB)
    assert (row["cpu_usage_ns"], row["throttled_ns"], row["quota_ns"]) == (3e9, 234_234_000, 50e6)
    assert (row["memory_bytes"], row["memory_limit_bytes"], row["io_write_bytes"]) == (123456789, np.inf, 314773504)
    assert nan_names(row) == {"burst_ns"} | {name for name in row if name.startswith("psi_")}


def test_a_v1_group_without_a_memory_directory_has_unknown_memory() -> None:
    sample, groups = read_once(host_of("v1"))
    row = row_of(sample, groups, "/batch")
    assert row["quota_ns"] == np.inf
    assert {"memory_bytes", "io_read_bytes"} <= nan_names(row)


def test_hybrid_takes_pressure_and_memory_from_the_unified_directory_of_the_same_path() -> None:
    sample, groups = read_once(host_of("hybrid"))
    web, batch = row_of(sample, groups, "/web.service"), row_of(sample, groups, "/batch")
    assert (web["memory_bytes"], web["psi_io_full_us"], web["io_read_bytes"]) == (123456789, 200, 0)
    assert np.isnan(web["cpu_usage_ns"])
    assert {"memory_bytes", "psi_io_full_us"} <= nan_names(batch)
    assert batch["nr_periods"] == 100


def test_a_group_that_bpf_covers_takes_quota_and_throttles_from_there_and_usage_from_its_file() -> None:
    host = host_of("v2")
    groups = groups_of(host)
    ids = [id for id, _ in groups]
    web = {path: id for id, path in groups}[WEB]
    stat = np.array([(web, 11, 12, 13, 14, NO_QUOTA, 16, 17), (2**63, *[9] * 7), (1, *[9] * 7)], CPU_STAT)
    with CgroupFiles(host) as files:
        sample = files.read(groups, 5, stat)
        assert sample.ids.tolist() == ids
        row = row_of(sample, groups, WEB)
        assert [row[name] for name in ("cpu_usage_ns", "nr_periods", "nr_throttled", "throttled_ns")] == [
            3e9,
            12,
            13,
            14,
        ]
        assert (row["quota_ns"], row["period_ns"], row["burst_ns"]) == (np.inf, 16, 17)
        assert row_of(sample, groups, "/system.slice/db.service")["cpu_usage_ns"] == 1.5e9
    everything = np.zeros(len(ids), CPU_STAT)
    everything["id"] = ids
    with CgroupFiles(host, slow_every_ticks=1000) as files:
        files.read(groups, 5, everything)
        reads = files.counters.reads
        files.read(groups[::-1], 5, everything)
        assert files.counters.reads - reads <= len(ids) + 7  # usage, and one group's slow files at most


def test_usage_is_by_bpf_only_where_the_group_has_no_file_and_that_is_not_looked_for_in_each_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = copied("v1", tmp_path)
    assert host.cpuacct is not None
    (Path(host.cpuacct.mount + WEB) / "cpuacct.usage").unlink()
    groups = [group for group in groups_of(host) if group[1] in (WEB, "/system.slice")]
    stat = covering(groups, 7)
    stat["usage_ns"] = 11
    with CgroupFiles(host, slow_every_ticks=1000, descriptor_budget=0) as files:
        for now_ns in range(3):
            sample = files.read(groups, now_ns, stat)
        opened: list[str] = []
        real_open = os.open

        def noted(path: str, flags: int, *, dir_fd: int | None = None) -> int:
            opened.append(path)
            return real_open(path, flags, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", noted)
        files.read(groups, 9, stat)
    assert row_of(sample, groups, WEB)["cpu_usage_ns"] == 11
    assert row_of(sample, groups, "/system.slice")["cpu_usage_ns"] == 5e9
    assert [path for path in opened if WEB in path] == []
    assert opened


def test_a_vanished_group_is_a_row_of_nan_beside_the_others(tmp_path: Path) -> None:
    host = copied("v2", tmp_path)
    groups = groups_of(host)
    with CgroupFiles(host) as files:
        files.read(groups, 5)
        assert host.cpu is not None
        files.close()
        shutil.rmtree(host.cpu.mount + WEB)
        sample = files.read(groups, 6)
        assert nan_names(row_of(sample, groups, WEB)) >= {"cpu_usage_ns", "quota_ns", "memory_bytes", "slow_time_ns"}
        assert row_of(sample, groups, "/system.slice/db.service")["cpu_usage_ns"] == 1.5e9
        files.read(groups, 7)
        assert files.counters.gone == 1


def test_a_new_group_at_an_old_path_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    host = copied("v2", tmp_path)
    groups = [(id + 1_000_000_007 if path == WEB else id, path) for id, path in groups_of(host)]
    with CgroupFiles(host) as files:
        assert np.isnan(row_of(files.read(groups, 5), groups, WEB)["cpu_usage_ns"])


def covering(groups: list[tuple[int, str]], quota_ns: int) -> NDArray[np.void]:
    """What BPF says of all these groups."""
    stat = np.zeros(len(groups), CPU_STAT)
    stat["id"] = [id for id, _ in groups]
    stat["quota_ns"] = quota_ns
    return stat


def test_a_group_that_vanished_since_bpf_saw_it_is_noticed_at_its_slow_files(tmp_path: Path) -> None:
    host = copied("v2", tmp_path)
    groups = groups_of(host)
    stat = covering(groups, 7)
    with CgroupFiles(host, slow_every_ticks=1) as files:
        files.read(groups, 5, stat)
        assert host.cpu is not None
        shutil.rmtree(host.cpu.mount + WEB)
        assert np.isnan(row_of(files.read(groups, 6, stat), groups, WEB)["memory_bytes"])
        assert files.counters.gone == 1


def test_a_new_group_inherits_nothing_from_the_one_that_had_its_row() -> None:
    host = host_of("v2")
    groups = groups_of(host)
    database, web = ([group for group in groups if group[1] == path] for path in ("/system.slice/db.service", WEB))
    with CgroupFiles(host, slow_every_ticks=1000) as files:
        assert files.read(web, 5).quota_ns.tolist() == [50e6]
        assert files.read(database, 6, covering(database, 7)).quota_ns.tolist() == [7]
        assert np.isnan(files.read(database, 7).quota_ns).all()


def test_cpu_is_fresh_every_tick_and_memory_is_as_of_slow_time(tmp_path: Path) -> None:
    host = copied("v2", tmp_path)
    groups = groups_of(host)
    assert host.cpu is not None
    web = Path(host.cpu.mount + WEB)
    with CgroupFiles(host, slow_every_ticks=4) as files:
        files.read(groups, 100)
        (web / "cpu.stat").write_text("usage_usec 4000000\n")
        (web / "memory.current").write_text("1\n")
        rows = [row_of(files.read(groups, now_ns), groups, WEB) for now_ns in range(101, 105)]
    assert all(row["cpu_usage_ns"] == 4e9 for row in rows)
    fresh = [row["memory_bytes"] == 1 for row in rows]
    assert any(fresh)
    assert [row["slow_time_ns"] > 100 for row in rows] == fresh


def test_slow_files_are_spread_evenly_over_the_ticks(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("27 23 0:24 / /cg rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "cg").mkdir()
    (tmp_path / "cg/cgroup.controllers").write_text("cpu memory\n")
    for number in range(40):
        group = tmp_path / f"cg/g{number}"
        group.mkdir()
        (group / "cpu.stat").write_text("usage_usec 1\n")
        (group / "memory.current").write_text("1\n")
    host = probe(tmp_path, try_bpf=lambda: None)
    groups = groups_of(host)[1:]
    with CgroupFiles(host, slow_every_ticks=10) as files:
        files.read(groups, 0)
        reads = []
        for now_ns in range(1, 11):
            before = files.counters.reads
            files.read(groups, now_ns)
            reads.append(files.counters.reads - before)
    assert reads == [40 + 4] * 10


@pytest.mark.parametrize("budget", [0, 7])
def test_the_descriptor_budget_is_kept_and_changes_no_value(budget: int) -> None:
    host = host_of("v2")
    groups = groups_of(host)
    with CgroupFiles(host) as rich, CgroupFiles(host, descriptor_budget=budget) as poor:
        for now_ns in range(3):
            one, other = rich.read(groups, now_ns), poor.read(groups, now_ns)
            assert poor.descriptors <= budget
            for field in dataclasses.fields(one):
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
        assert rich.descriptors > budget


def test_the_budget_is_of_the_limit_as_it_is_now() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    host = dataclasses.replace(host_of("v2"), nofile_soft=2)
    groups = groups_of(host)
    with CgroupFiles(host) as files:
        files.read(groups, 0)
        assert files.descriptors > 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        with CgroupFiles(host) as files:
            assert files._budget == 50
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_all_descriptors_are_given_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    host = host_of("v2")
    groups = groups_of(host)
    with CgroupFiles(host) as files:
        files.read(groups, 0)
        held = files.descriptors
        assert len(os.listdir("/proc/self/fd")) == before + held
        files.read(groups[:1], 1)
        assert files.descriptors < held
        files.read([], 2)
        assert files.descriptors == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_groups_come_and_go_without_mixing_their_rows() -> None:
    host = host_of("v2")
    groups = groups_of(host)
    with CgroupFiles(host) as files:
        for chosen in (groups, groups[2:], groups[:3], groups[::-1], []):
            sample = files.read(chosen, 0)
            expected = {"/": 987654321000, WEB: 3e9, "/system.slice": 5e9, "/user.slice": 7e8}
            for (_, path), usage_ns in zip(chosen, sample.cpu_usage_ns.tolist(), strict=True):
                assert usage_ns == expected.get(path, usage_ns)
                assert not np.isnan(usage_ns)


def test_a_host_without_the_cpu_controller_is_an_error() -> None:
    with pytest.raises(HostError, match="no cgroup hierarchy with the cpu controller"):
        CgroupFiles(dataclasses.replace(host_of("v2"), cpu=None))


@pytest.fixture
def own_groups() -> Iterator[tuple[Host, list[str]]]:
    """Groups of the test's own in this machine's cpu hierarchy."""
    host = probe()
    if host.cpu is None or os.geteuid() != 0:
        pytest.skip("needs root and a mounted cpu hierarchy, to make groups in it")
    paths = [f"/slackwater-test-files-{os.getpid()}-{number}" for number in range(3)]
    for path in paths:
        os.mkdir(host.cpu.mount + path)
    yield host, paths
    for path in paths:
        if os.path.isdir(host.cpu.mount + path):
            os.rmdir(host.cpu.mount + path)


def test_this_machines_counters_lie_between_a_reading_before_and_one_after(
    own_groups: tuple[Host, list[str]],
) -> None:
    host, _ = own_groups
    assert host.cpu is not None
    if host.cpu.version == 1 and host.cpuacct is None:
        pytest.skip("no cpuacct hierarchy is mounted here")
    usage = Path((host.cpuacct or host.cpu).mount) / ("cpuacct.usage" if host.cpu.version == 1 else "cpu.stat")

    def usage_ns() -> int:
        text = usage.read_text()
        return int(text) if host.cpu and host.cpu.version == 1 else int(text.split()[1]) * 1000

    groups = [(os.stat(host.cpu.mount).st_ino, "/")]
    with CgroupFiles(host) as files:
        for _ in range(20):
            before = usage_ns()
            now = files.read(groups, time.monotonic_ns()).cpu_usage_ns[0]
            assert before <= now <= usage_ns()


def test_this_machines_removed_group_is_nan_though_its_files_are_still_open(own_groups: tuple[Host, list[str]]) -> None:
    host, paths = own_groups
    assert host.cpu is not None
    groups = [(os.stat(host.cpu.mount + path).st_ino, path) for path in paths]
    with CgroupFiles(host, slow_every_ticks=1000) as files:
        assert files.read(groups, 0).quota_ns.tolist() == [np.inf] * 3
        os.rmdir(host.cpu.mount + paths[1])
        assert np.isnan(files.read(groups, 1).quota_ns).tolist() == [False, True, False]
        os.mkdir(host.cpu.mount + paths[1])
        assert np.isnan(files.read(groups, 2).quota_ns).tolist() == [False, True, False]
        reborn = (os.stat(host.cpu.mount + paths[1]).st_ino, paths[1])
        assert files.read([groups[0], reborn, groups[2]], 3).quota_ns.tolist() == [np.inf] * 3
        assert files.counters.refused == 0
