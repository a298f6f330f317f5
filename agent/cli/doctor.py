"""What this host offers, what is degraded and why, and how to mend it. Pure: facts in, findings out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import StrEnum
from errno import ENOSYS
from typing import Any, Protocol

from agent.host import Host

_NOFILE_LOW = 4096


class Level(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"
    MISSING = "missing"
    """The agent cannot work at all."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """`why` and `mend` are empty where all is well."""

    level: Level
    what: str
    why: str = ""
    mend: str = ""


class ProbeFeatures(Protocol):
    """What the loaded BPF programs do here."""

    @property
    def wait_method(self) -> str:
        """sched_info, or wakeup: stamps at wakeups where the kernel has no sched_info."""

    @property
    def unthrottle(self) -> str:
        """fentry or kprobe on unthrottle_cfs_rq; none: a throttle ends when a task of the group runs again."""

    @property
    def cgroup_events(self) -> bool:
        """Births and deaths of groups are seen as they happen."""


def findings(host: Host, features: ProbeFeatures | None, error: str | None) -> list[Finding]:
    """All findings. `features` is None where BPF does not work, `error` then is what the kernel or libbpf said."""
    return [*_cgroups(host), *(_probe(host, features) if features else _no_probe(host, error)), *_limits(host)]


def cannot_work(found: list[Finding]) -> bool:
    return any(finding.level is Level.MISSING for finding in found)


def lines(found: list[Finding]) -> list[str]:
    """The findings as text."""
    text = []
    for finding in found:
        text.append(f"{finding.level:<9} {finding.what}" + (f": {finding.why}" if finding.why else ""))
        if finding.mend:
            text.append(f"{'':9} to mend it: {finding.mend}")
    return text


def document(found: list[Finding]) -> dict[str, Any]:
    """The findings for JSON."""
    return {"schema": 1, "works": not cannot_work(found), "findings": [dataclasses.asdict(item) for item in found]}


def _cgroups(host: Host) -> Iterator[Finding]:
    if host.cpu is None:
        yield Finding(
            Level.MISSING,
            "groups",
            f"no cgroup hierarchy with the cpu controller is mounted (layout: {host.layout})",
            "mount -t cgroup2 none /sys/fs/cgroup && echo +cpu > /sys/fs/cgroup/cgroup.subtree_control",
        )
    elif host.cpu.subtree != "/":
        yield Finding(
            Level.DEGRADED,
            f"groups of {host.cpu.mount}",
            f"only the part below {host.cpu.subtree} is mounted here",
            "run in the host's cgroup namespace and mount its /sys/fs/cgroup (containers: --cgroupns=host)",
        )
    else:
        yield Finding(Level.OK, f"groups of {host.cpu.mount}, cgroup v{host.cpu.version}")
    for name, place, lost in (
        ("cpuacct", host.cpuacct, "CPU time without BPF"),
        ("memory", host.memory, "memory"),
        ("io", host.io, "reads and writes"),
    ):
        if place is None:
            mend = (
                f"echo +{name} > {host.unified.mount}/cgroup.subtree_control"
                if host.unified and host.cgroup_version == 2
                else f"mount the {'blkio' if name == 'io' else name} controller, or boot without cgroup_disable="
            )
            yield Finding(Level.DEGRADED, f"{lost} per group", f"no {name} controller is mounted", mend)
        else:
            yield Finding(Level.OK, f"{lost} per group")
    if not host.psi:
        yield Finding(Level.DEGRADED, "pressure (PSI)", "the kernel does not count it", "boot with psi=1")
    elif host.cgroup_version != 2:
        yield Finding(
            Level.DEGRADED,
            "pressure (PSI) per group",
            "only cgroup v2 has it; that of the node is there",
            "boot with systemd.unified_cgroup_hierarchy=1",
        )
    else:
        yield Finding(Level.OK, "pressure (PSI) per group")


def _probe(host: Host, features: ProbeFeatures) -> Iterator[Finding]:
    if features.wait_method == "sched_info":
        yield Finding(Level.OK, "run-queue waits by BPF, exact (sched_info)")
    else:
        yield Finding(
            Level.DEGRADED,
            "run-queue waits by BPF",
            f"by the method {features.wait_method}: the kernel has no sched_info; it costs more and misses migrations",
            "a kernel with CONFIG_SCHED_INFO (SCHEDSTATS or TASK_DELAY_ACCT)",
        )
    if features.unthrottle == "none":
        locked = host.lockdown not in (None, "none")
        yield Finding(
            Level.DEGRADED,
            "end of CFS throttles",
            "taken as when a task of the group runs again, because the unthrottle itself may not be traced"
            + (f" (lockdown: {host.lockdown})" if locked else ""),
            "boot with lockdown=none" if locked else "a kernel with BPF trampolines or kprobes",
        )
    else:
        yield Finding(Level.OK, f"CFS throttles from begin to end ({features.unthrottle})")
    if features.cgroup_events:
        yield Finding(Level.OK, "births and deaths of groups as they happen")
    else:
        yield Finding(
            Level.DEGRADED,
            "births and deaths of groups",
            "seen only when the tree is walked: no cgroup tracepoints",
            "lower agent.rescan_s",
        )
    if not host.bpf_stats:
        yield Finding(
            Level.DEGRADED,
            "the BPF programs' own run time",
            "kernel.bpf_stats_enabled is off" if host.bpf_stats is False else "the kernel does not measure it",
            "sysctl kernel.bpf_stats_enabled=1 (some ns per run of every BPF program)",
        )


def _no_probe(host: Host, error: str | None) -> Iterator[Finding]:
    """The first obstacle that explains it; libbpf's words are kept in any case."""
    why, mend = "the BPF programs could not be loaded", "see the kernel's words"
    if host.bpf_errno == ENOSYS:
        why, mend = "the kernel has no BPF", "a kernel with CONFIG_BPF_SYSCALL"
    elif not host.may_trace:
        why = f"user id {host.effective_uid} lacks CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)"
        mend = "run as root, or give the service these capabilities"
    elif host.lockdown == "confidentiality":
        why, mend = "the kernel is locked down (confidentiality)", "boot with lockdown=integrity or none"
    elif not host.kernel_btf:
        why, mend = "the kernel has no BTF (/sys/kernel/btf/vmlinux)", "a kernel with CONFIG_DEBUG_INFO_BTF"
    elif host.bpf_errno:
        why, mend = f"bpf() is refused (errno {host.bpf_errno})", "allow bpf() in the seccomp profile of this container"
    yield Finding(
        Level.DEGRADED,
        "run-queue waits by BPF (source: cgroupfs)",
        f"{why}{f'; {error}' if error else ''}; no percentiles, no culprits, no throttle durations",
        mend,
    )
    if not host.schedstat:
        yield Finding(
            Level.DEGRADED,
            "run-queue waits without BPF",
            "/proc/PID/schedstat does not count",
            "a kernel with CONFIG_SCHED_INFO (SCHEDSTATS or TASK_DELAY_ACCT)",
        )


def _limits(host: Host) -> Iterator[Finding]:
    if host.nofile_soft is not None and host.nofile_soft < _NOFILE_LOW:
        yield Finding(
            Level.DEGRADED,
            "open files",
            f"at most {host.nofile_soft}: on a host with many groups files are opened anew in each tick, which costs CPU",
            f"ulimit -n 65536 (hard limit here: {host.nofile_hard or 'none'}), or LimitNOFILE=65536 in the unit",
        )
