"""What this host offers, what is degraded and why, and how to mend it. Pure: facts in, findings out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from enum import StrEnum
from errno import EACCES, ENOSYS, EPERM, errorcode
from typing import TYPE_CHECKING, Any

from agent.host import Host

if TYPE_CHECKING:
    from agent.cache_host import CacheHost
    from native.probe import ProbeFeatures

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


def findings(
    host: Host,
    features: ProbeFeatures | None,
    error: str | None,
    refusal: str | None,
    lacking: Mapping[str, str] | str | None = None,
    counters_errno: int | None = None,
    caches: CacheHost | None = None,
) -> list[Finding]:
    """All findings. `features` is None without BPF, `error` says why (None: it is switched off); `refusal`: why the
    agent did not start, so that BPF was not tried. `lacking`: what the network lacks (agent/network_host.py), None: not
    tried. `counters_errno`: what hardware counters said (agent/samples/cpi.py), 0: they are there, None: not tried.
    `caches`: what resctrl said (agent/cache_host.py), None: not tried.
    """
    probe = _probe(host, features) if features else () if refusal else _no_probe(host, error)
    counters = _counters(host, counters_errno)
    found = [*_cgroups(host), *probe, *_limits(host), *_network(lacking), *counters, *_caches(caches)]
    if refusal and not cannot_work(found):
        found.insert(0, Finding(Level.MISSING, "the agent", refusal, "what this line names"))
    return found


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
        ("cpuacct", host.cpuacct, "CPU time of tasks of all classes"),
        ("memory", host.memory, "memory"),
        ("io", host.io, "reads and writes"),
    ):
        if place is None:
            mend = (
                f"echo +{name} > {host.unified.mount}/cgroup.subtree_control"
                if host.unified and host.cgroup_version == 2
                else f"mount the {'blkio' if name == 'io' else name} controller, or boot without cgroup_disable="
            )
            why = f"no {name} controller is mounted"
            if name == "cpuacct":
                why += "; what BPF counts is of fair-class tasks only, else it is a sum over the threads seen"
            yield Finding(Level.DEGRADED, f"{lost} per group", why, mend)
        elif name == "cpuacct" and host.cpu and place.mount != host.cpu.mount:
            yield Finding(Level.OK, f"{lost}, of groups that have a directory in {place.mount}")
        else:
            yield Finding(Level.OK, f"{lost} per group")
    if not host.psi:
        yield Finding(Level.DEGRADED, "pressure (PSI)", "the kernel does not count it", "boot with psi=1")
    elif host.unified is None:
        yield Finding(
            Level.DEGRADED,
            "pressure (PSI) per group",
            "only cgroup v2 has it; that of the node is there",
            "boot with systemd.unified_cgroup_hierarchy=1",
        )
    elif host.cgroup_version != 2:
        yield Finding(Level.OK, f"pressure (PSI) of groups that have a directory in {host.unified.mount}")
    else:
        yield Finding(Level.OK, "pressure (PSI) per group")


def _probe(host: Host, features: ProbeFeatures) -> Iterator[Finding]:
    if host.initial_pid_namespace is False:
        yield Finding(Level.OK, "a pid namespace other than the host's: BPF sees the threads of all")
    if features.sched_info:
        yield Finding(Level.OK, "run-queue waits by BPF, as the kernel counts them (sched_info)")
    else:
        yield Finding(
            Level.DEGRADED,
            "run-queue waits by BPF",
            "by stamps at wakeups, because the kernel has no sched_info: it costs more",
            "a kernel with CONFIG_SCHED_INFO (SCHEDSTATS or TASK_DELAY_ACCT)",
        )
    if features.unthrottle:
        yield Finding(Level.OK, f"CFS throttles from begin to end ({features.unthrottle})")
    else:
        refused = f"fentry: {_errno(features.fentry_errno)}, kprobe: {_errno(features.kprobe_errno)}"
        locked = host.lockdown not in (None, "none") or features.fentry_errno == EPERM
        yield Finding(
            Level.DEGRADED,
            "end of CFS throttles",
            f"taken as the next run of the group, because the unthrottle itself is not traced ({refused})",
            "boot without kernel lockdown" if locked else "probe.unthrottle = auto and a kernel with fentry or kprobes",
        )
    for errno, what, how in (
        (features.cgroup_events_errno, "births and deaths of groups as they happen", "lower agent.rescan_s"),
        (features.cgroup_stats_errno, "CPU accounts of all groups in one read", "a kernel with BPF cgroup iterators"),
    ):
        yield Finding(Level.DEGRADED, what, f"refused: {_errno(errno)}", how) if errno else Finding(Level.OK, what)


def _errno(number: int) -> str:
    return f"{errorcode.get(number, number)}" if number else "not tried"


def _no_probe(host: Host, error: str | None) -> Iterator[Finding]:
    """The first obstacle that explains it; libbpf's words are kept in any case."""
    why, mend = "the BPF programs could not be loaded", "see the kernel's words"
    if error is None:
        why, mend = "probe.enabled = false", "probe.enabled = true"
    elif host.bpf_errno == ENOSYS:
        why, mend = "the kernel has no BPF", "a kernel with CONFIG_BPF_SYSCALL"
    elif not host.may_trace:
        why = f"user id {host.effective_uid} lacks CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)"
        mend = "run as root, or give the service these capabilities"
    elif host.lockdown == "confidentiality":
        why, mend = "the kernel is locked down (confidentiality)", "boot with lockdown=integrity or none"
    elif not host.kernel_btf:
        why, mend = "the kernel has no BTF (/sys/kernel/btf/vmlinux)", "a kernel with CONFIG_DEBUG_INFO_BTF"
    elif host.bpf_errno:
        why, mend = (
            f"bpf() is refused ({_errno(host.bpf_errno)})",
            "allow bpf() in the seccomp profile of this container",
        )
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
    if host.initial_pid_namespace is False:
        yield Finding(
            Level.DEGRADED,
            "threads of other pid namespaces",
            "this one is not the host's, and without BPF only its own threads are seen",
            "run in the host's pid namespace (hostPID: true in a pod, --pid=host of a container)",
        )


_NEEDED_FOR = {
    "sch_htb": "classes of devices: no device is shaped",
    "cls_bpf": "the classifier: no device is shaped",
    "sch_tbf": "limits of containers, and large packets of batch work cut into those of the link",
    "sch_fq_codel": "flows of a class apart from one another: they share one queue",
    "ifb": "limits of what containers send, and takeover",
    "sch_ingress": "limits of what containers send",
    "cls_u32": "limits of what containers send",
}


def _network(lacking: Mapping[str, str] | str | None) -> Iterator[Finding]:
    if lacking is None:
        return
    if isinstance(lacking, str):
        yield Finding(Level.DEGRADED, "limits of the network", lacking, "run as root")
        return
    if not lacking:
        yield Finding(Level.OK, "limits of the network: HTB, TBF, IFB, classifier by cgroup")
    for module, why in lacking.items():
        yield Finding(Level.DEGRADED, _NEEDED_FOR[module], why, f"modprobe {module}, or a kernel that has it")


def _counters(host: Host, refused: int | None) -> Iterator[Finding]:
    what = "cycles per instruction of groups"
    if refused is None:
        return
    if refused:
        why, mend = _no_counters(host, refused)
        yield Finding(Level.DEGRADED, what, f"{why} ({_errno(refused)})", mend)
    elif host.perf_event is None:
        yield Finding(
            Level.DEGRADED,
            what,
            "no cgroup hierarchy with perf_event is mounted",
            "mount -t cgroup2, or perf_event on v1",
        )
    else:
        yield Finding(Level.OK, f"{what}, by hardware counters, with cpi.enabled = true")


def _caches(caches: CacheHost | None) -> Iterator[Finding]:
    if caches is None:
        return
    what = "partitions of caches and memory bandwidth"
    if caches.offers:
        yield Finding(Level.OK, f"{what}: {caches.offers}")
    else:
        yield Finding(Level.DEGRADED, what, caches.why, caches.mend)


def _no_counters(host: Host, refused: int) -> tuple[str, str]:
    if refused == EACCES and host.capabilities & {"CAP_PERFMON", "CAP_SYS_ADMIN"}:  # Debian's and Ubuntu's own levels
        why = f"kernel.perf_event_paranoid = {host.perf_event_paranoid} wants CAP_SYS_ADMIN of this kernel"
        return why, "sysctl kernel.perf_event_paranoid=2, or give the service this capability"
    if refused == EACCES:
        return f"user id {host.effective_uid} lacks CAP_PERFMON", "run as root, or give the service this capability"
    if refused == EPERM:
        return "perf_event_open() is refused", "allow it in the seccomp profile of this container"
    if refused == ENOSYS:
        return "the kernel has no perf events", "a kernel with CONFIG_PERF_EVENTS"
    why = "this machine has no hardware counters, or its hypervisor shows none"
    return why, "have the hypervisor pass a PMU on to this virtual machine"


def _limits(host: Host) -> Iterator[Finding]:
    if host.nofile_soft is not None and host.nofile_soft < _NOFILE_LOW:
        yield Finding(
            Level.DEGRADED,
            "open files",
            f"at most {host.nofile_soft}: with many groups their files are opened anew in each tick, which costs CPU",
            f"ulimit -n 65536 (hard limit here: {host.nofile_hard or 'none'}), or LimitNOFILE=65536 in the unit",
        )
