import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.cache_host import CacheHost
from agent.cli.doctor import Finding, Level, cannot_work, document, findings, lines
from agent.host import Hierarchy, Host, probe
from native.probe import ProbeFeatures

V1 = Hierarchy("/sys/fs/cgroup/cpu", "/", 1)
V2 = Hierarchy("/sys/fs/cgroup", "/", 2)
ALL_FEATURES = ProbeFeatures(
    sched_info=True,
    throttle_source="cfs_rq",
    unthrottle="fentry",
    fentry_errno=0,
    kprobe_errno=0,
    cgroup_events_errno=0,
    cgroup_stats_errno=0,
)


@pytest.fixture
def good_host(tmp_path: Path) -> Host:
    return replace(
        probe(tmp_path, lambda: 0),
        effective_uid=0,
        capabilities=frozenset({"CAP_SYS_ADMIN"}),
        kernel_btf=True,
        psi=True,
        schedstat=True,
        cpu=V2,
        cpuacct=V2,
        memory=V2,
        io=V2,
        unified=V2,
        perf_event=V2,
        perf_event_paranoid=2,
    )


def one(found: list[Finding], level: Level) -> Finding:
    matching = [finding for finding in found if finding.level is level]
    assert len(matching) == 1, matching
    return matching[0]


def test_a_host_that_has_everything_is_ok(good_host: Host) -> None:
    found = findings(good_host, ALL_FEATURES, None, None)
    assert {finding.level for finding in found} == {Level.OK}
    assert not cannot_work(found)


def test_without_a_cpu_hierarchy_the_agent_cannot_work(good_host: Host) -> None:
    found = findings(replace(good_host, cpu=None), None, None, "no cgroup hierarchy")
    assert one(found, Level.MISSING).what == "groups"
    assert cannot_work(found)


def test_an_agent_that_does_not_start_is_missing(good_host: Host) -> None:
    found = findings(good_host, None, None, "/sys/fs/cgroup: Permission denied [EACCES]")
    assert one(found, Level.MISSING).why == "/sys/fs/cgroup: Permission denied [EACCES]"
    assert not [finding for finding in found if "by BPF" in finding.what], "it was not tried"


def test_bpf_that_is_switched_off_is_no_refusal(good_host: Host) -> None:
    assert one(findings(good_host, None, None, None), Level.DEGRADED).mend == "probe.enabled = true"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"bpf_errno": errno.ENOSYS}, "the kernel has no BPF"),
        ({"capabilities": frozenset(), "effective_uid": 7}, "user id 7 lacks CAP_BPF and CAP_PERFMON"),
        ({"lockdown": "confidentiality"}, "locked down"),
        ({"kernel_btf": False}, "no BTF"),
        ({"bpf_errno": errno.EPERM}, "bpf() is refused (EPERM)"),
        ({}, "could not be loaded; the words of libbpf"),
    ],
)
def test_without_bpf_the_first_obstacle_and_the_words_of_libbpf_are_named(
    good_host: Host, facts: dict[str, Any], why: str
) -> None:
    found = findings(replace(good_host, **facts), None, "the words of libbpf", None)
    finding = one(found, Level.DEGRADED)
    assert why in finding.why
    assert "the words of libbpf" in finding.why
    assert finding.mend
    assert not cannot_work(found)


@pytest.mark.parametrize(
    ("features", "what"),
    [
        ({"sched_info": False}, "run-queue waits by BPF"),
        ({"unthrottle": None, "fentry_errno": errno.EPERM, "kprobe_errno": errno.ENOENT}, "end of CFS throttles"),
        ({"cgroup_events_errno": errno.ENOENT}, "births and deaths of groups as they happen"),
        ({"cgroup_stats_errno": errno.EINVAL}, "CPU accounts of all groups in one read"),
    ],
)
def test_what_the_kernel_refuses_the_probe_is_degraded(good_host: Host, features: dict[str, Any], what: str) -> None:
    finding = one(findings(good_host, replace(ALL_FEATURES, **features), None, None), Level.DEGRADED)
    assert finding.what == what
    assert finding.mend


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"cpu": Hierarchy("/sys/fs/cgroup", "/docker/x", 2)}, "groups of /sys/fs/cgroup"),
        ({"cpu": V1, "cpuacct": V1, "unified": None}, "pressure (PSI) per group"),
        ({"cpuacct": None}, "CPU time of tasks of all classes per group"),
        ({"memory": None}, "memory per group"),
        ({"io": None}, "reads and writes per group"),
        ({"psi": False}, "pressure (PSI)"),
        ({"nofile_soft": 1024}, "open files"),
    ],
)
def test_what_the_host_lacks_is_degraded(good_host: Host, facts: dict[str, Any], what: str) -> None:
    finding = one(findings(replace(good_host, **facts), ALL_FEATURES, None, None), Level.DEGRADED)
    assert finding.what == what
    assert finding.why
    assert finding.mend


def test_on_hybrid_pressure_is_there_for_groups_of_the_unified_hierarchy() -> None:
    host = replace(probe(Path(__file__).parents[2] / "trees/hybrid", lambda: 0), psi=True)
    (finding,) = (item for item in findings(host, ALL_FEATURES, None, None) if "PSI" in item.what)
    assert finding.level is Level.OK
    assert finding.what.endswith("/sys/fs/cgroup/unified")


def test_without_bpf_and_without_schedstat_both_are_named(good_host: Host) -> None:
    found = findings(replace(good_host, schedstat=False), None, None, None)
    assert [item.what for item in found if item.level is Level.DEGRADED] == [
        "run-queue waits by BPF (source: cgroupfs)",
        "run-queue waits without BPF",
    ]


def test_a_pid_namespace_other_than_the_hosts_degrades_what_is_read_without_bpf(good_host: Host) -> None:
    host = replace(good_host, initial_pid_namespace=False)
    with_bpf, without = (findings(host, features, None, None) for features in (ALL_FEATURES, None))
    assert [(item.level, bool(item.mend)) for item in with_bpf if "pid namespace" in item.what] == [(Level.OK, False)]
    assert [(item.level, bool(item.mend)) for item in without if "pid namespace" in item.what] == [
        (Level.DEGRADED, True)
    ]


def test_text_and_json_say_the_same() -> None:
    found = [Finding(Level.OK, "a"), Finding(Level.DEGRADED, "b", "because", "do this")]
    assert lines(found) == ["ok        a", "degraded  b: because", "          to mend it: do this"]
    assert document(found) == {
        "schema": 1,
        "works": True,
        "findings": [
            {"level": "ok", "what": "a", "why": "", "mend": ""},
            {"level": "degraded", "what": "b", "why": "because", "mend": "do this"},
        ],
    }


@pytest.mark.parametrize(
    ("facts", "refused", "why", "mend"),
    [
        ({}, errno.ENOENT, "its hypervisor shows none (ENOENT)", "have the hypervisor pass a PMU on"),
        ({}, errno.EOPNOTSUPP, "its hypervisor shows none (ENOTSUP)", "have the hypervisor pass a PMU on"),
        ({"capabilities": frozenset(), "effective_uid": 7}, errno.EACCES, "user id 7 lacks CAP_PERFMON", "run as root"),
        (
            {"capabilities": frozenset({"CAP_PERFMON"}), "perf_event_paranoid": 3},
            errno.EACCES,
            "kernel.perf_event_paranoid = 3 wants CAP_SYS_ADMIN",
            "sysctl kernel.perf_event_paranoid=2",
        ),
        ({}, errno.EPERM, "perf_event_open() is refused (EPERM)", "seccomp"),
        ({}, errno.ENOSYS, "the kernel has no perf events", "CONFIG_PERF_EVENTS"),
        ({"perf_event": None}, 0, "no cgroup hierarchy with perf_event", "mount"),
    ],
)
def test_why_there_are_no_hardware_counters_is_said(
    good_host: Host, facts: dict[str, Any], refused: int, why: str, mend: str
) -> None:
    found = findings(replace(good_host, **facts), ALL_FEATURES, None, None, counters_errno=refused)
    finding = one([item for item in found if "cycles per instruction" in item.what], Level.DEGRADED)
    assert why in finding.why
    assert mend in finding.mend


def test_hardware_counters_that_are_there_are_ok(good_host: Host) -> None:
    found = findings(good_host, ALL_FEATURES, None, None, counters_errno=0)
    (finding,) = (item for item in found if "cycles per instruction" in item.what)
    assert finding.level is Level.OK


@pytest.mark.parametrize(
    ("caches", "level"),
    [(CacheHost("L3 of 12 ways, MB"), Level.OK), (CacheHost(why="not mounted", mend="mount it"), Level.DEGRADED)],
)
def test_what_caches_can_be_parted_or_why_not_is_said(good_host: Host, caches: CacheHost, level: Level) -> None:
    found = findings(good_host, ALL_FEATURES, None, None, caches=caches)
    (finding,) = (item for item in found if "partitions of caches" in item.what)
    assert (finding.level, finding.why, finding.mend) == (level, caches.why, caches.mend)
    assert caches.offers in finding.what
