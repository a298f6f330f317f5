"""agent.host: the facts of captured trees and of this machine."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.host import (
    Host,
    bpf_refusal,
    count_cpus,
    parse_capabilities,
    parse_lockdown,
    parse_mountinfo,
    parse_nofile,
    parse_own_cgroups,
    probe,
)

TREES = Path(__file__).parents[1] / "trees"


def host_of(tree: str) -> Host:
    return probe(TREES / tree, try_bpf=lambda: errno.EPERM)


def mount_of(tree: str, name: str) -> str:
    return str(TREES / tree / "sys/fs/cgroup" / name)


def test_v2_has_all_controllers_in_one_mount() -> None:
    host = host_of("v2")
    assert (host.layout, host.cgroup_version, host.has_v1) == ("v2", 2, False)
    assert host.cpu is not None
    assert host.cpu.mount == str(TREES / "v2/sys/fs/cgroup")
    assert host.cpu == host.cpuacct == host.cpuset == host.freezer == host.memory == host.io == host.unified
    assert host.own_cgroup == "/system.slice/slackwater.service"
    assert "cpu" in host.v2_controllers


def test_v1_finds_controllers_that_share_a_mount() -> None:
    host = host_of("v1")
    assert (host.layout, host.cgroup_version, host.unified) == ("v1", 1, None)
    assert host.cpu is not None
    assert host.cpu.mount == mount_of("v1", "cpu,cpuacct")
    assert host.cpuacct == host.cpu
    assert host.memory is not None
    assert host.memory.mount == mount_of("v1", "memory")
    assert host.io is not None
    assert host.io.mount == mount_of("v1", "blkio")
    assert host.own_cgroup == "/system.slice/slackwater.service"


def test_hybrid_takes_each_controller_from_where_it_is() -> None:
    host = host_of("hybrid")
    assert (host.layout, host.cgroup_version) == ("hybrid", 1)
    assert host.cpu is not None
    assert host.memory is not None
    assert (host.memory.version, host.memory.mount) == (2, mount_of("hybrid", "unified"))
    assert host.cpuacct is None


def test_freezing_needs_no_controller_on_v2_and_a_mount_on_v1() -> None:
    """Hybrid: the unified hierarchy freezes, though it has no cpuset."""
    assert (host_of("v1").cpuset, host_of("v1").freezer) == (None, None)
    hybrid = host_of("hybrid")
    assert (hybrid.cpuset, hybrid.freezer) == (None, hybrid.unified)


def test_events_are_counted_by_directories_of_v2_unless_v1_has_perf_event() -> None:
    """V2 lists no such controller; a hybrid host's groups are in another hierarchy than those that are counted."""
    assert host_of("v2").perf_event == host_of("v2").unified
    assert host_of("hybrid").perf_event == host_of("hybrid").unified
    assert host_of("v1").perf_event is None


def test_the_mount_of_a_whole_hierarchy_is_preferred_to_that_of_a_part() -> None:
    cpu = host_of("hybrid").cpu
    assert cpu is not None
    assert (cpu.mount, cpu.subtree) == (mount_of("hybrid", "cpu"), "/")


def test_facts_of_the_kernel_are_read() -> None:
    host = host_of("v2")
    assert host.kernel_release == "6.12.43+deb13-amd64"
    assert (host.cpus, host.kernel_btf, host.lockdown, host.kprobe_pmu, host.psi) == (2, True, "integrity", True, True)
    assert (host.bpf_stats, host.schedstat, host.bpf_errno) == (False, True, errno.EPERM)
    assert (host.nofile_soft, host.nofile_hard) == (1024, 524288)
    assert host.perf_event_paranoid == 3


def test_bpf_and_perfmon_together_may_trace() -> None:
    host = host_of("v2")
    assert host.capabilities == {"CAP_BPF", "CAP_PERFMON"}
    assert host.may_trace


def test_what_is_not_there_is_unknown_and_not_no(tmp_path: Path) -> None:
    host = probe(tmp_path, try_bpf=lambda: None)
    assert (host.layout, host.cgroup_version, host.cpu, host.lockdown) == ("none", None, None, None)
    assert (host.bpf_stats, host.bpf_errno, host.nofile_soft, host.own_cgroup) == (None, None, None, None)
    assert (host.perf_event, host.perf_event_paranoid) == (None, None)
    assert not host.may_trace
    assert host.cpus >= 1


def test_a_kernel_whose_schedstat_is_all_zero_has_none(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/schedstat").write_text("0 0 0\n")
    assert not probe(tmp_path, try_bpf=lambda: None).schedstat


def test_a_mount_path_with_spaces_is_unescaped() -> None:
    (mount,) = parse_mountinfo(b"27 23 0:24 / /a\\040b\\134c rw shared:9 - cgroup2 none rw\n")
    assert mount.mount == "/a b\\c"


def test_v1_and_v2_lines_of_proc_self_cgroup_are_told_apart() -> None:
    assert parse_own_cgroups(b"2:cpu,cpuacct:/a:b\n0::/init.scope\n") == {
        "cpu": "/a:b",
        "cpuacct": "/a:b",
        "": "/init.scope",
    }


@pytest.mark.parametrize(("text", "count"), [(b"0-3,6\n", 5), (b"0\n", 1), (b"", None), (b"x-3", None)])
def test_cpus_of_a_list_are_counted(text: bytes, count: int | None) -> None:
    assert count_cpus(text) == count


@given(st.binary())
def test_no_bytes_break_a_parser(data: bytes) -> None:
    parse_mountinfo(data)
    parse_mountinfo(b"27 23 0:24 / /a rw - cgroup rw " + data)
    parse_own_cgroups(data)
    parse_lockdown(data)
    parse_capabilities(b"CapEff:" + data)
    parse_nofile(b"Max open files" + data)
    count_cpus(data)


def test_this_machine_is_what_it_is() -> None:
    host = probe()
    assert host.kernel_release == os.uname().release
    assert host.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert host.bpf_errno == bpf_refusal()
    if host.cpu is None:
        pytest.skip("no cgroup hierarchy with the cpu controller is mounted here")
    name = "cpu.cfs_period_us" if host.cpu.version == 1 else "cgroup.controllers"
    assert (Path(host.cpu.mount) / name).exists()


def test_the_pid_namespace_of_a_child_is_not_the_hosts() -> None:
    words = [
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        sys.executable,
        "-c",
        "import agent.host as h; print(h.probe().initial_pid_namespace)",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no pid namespace can be made here: {done.stderr.strip()}")
    assert done.stdout == "False\n"
