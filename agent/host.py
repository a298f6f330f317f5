"""What this host offers, probed once at start. Facts only: what follows from them is for others to say.

Sources: proc(5), cgroups(7), Documentation/filesystems/proc.rst 3.5 (mountinfo), /sys/kernel/security/lockdown.
A fact that cannot be read is None, which is not the same as no.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.units import parse_cpus

_CAPABILITY_BITS = {"CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
_BPF_SYSCALL_NUMBER = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""Inode of /proc/self/ns/pid on the host itself. Source: PROC_PID_INIT_INO, include/linux/proc_ns.h."""
_V1_NAMES = {
    "cpu": "cpu",
    "cpuacct": "cpuacct",
    "cpuset": "cpuset",
    "freezer": "freezer",
    "memory": "memory",
    "io": "blkio",
    "net_cls": "net_cls",
    "perf_event": "perf_event",
}
"""Ours -> the controller's name on cgroup v1."""
_ALWAYS_ON_V2 = frozenset({"freezer", "perf_event"})
"""What every group of v2 has, without a controller that is listed."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where one controller's cgroup directories are. `subtree`: what of the hierarchy is mounted, "/" = all."""

    mount: str
    subtree: str
    version: int


@dataclass(frozen=True, slots=True)
class Host:
    """Facts of this host. A hierarchy is None when its controller is not mounted anywhere."""

    kernel_release: str
    machine: str
    cpus: int
    """Online CPUs."""
    effective_uid: int
    capabilities: frozenset[str]
    """Effective ones of CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF."""
    kernel_btf: bool
    lockdown: str | None
    """none, integrity or confidentiality; None: securityfs is not mounted or the kernel has no lockdown."""
    bpf_errno: int | None
    """What bpf(BPF_MAP_CREATE) said: 0 allowed, else the errno (EPERM, ENOSYS); None: not tried on this machine."""
    bpf_stats: bool | None
    """kernel.bpf_stats_enabled; None: no such sysctl."""
    kprobe_pmu: bool
    """Kprobes can be attached by perf_event_open."""
    psi: bool
    """/proc/pressure exists."""
    perf_event_paranoid: int | None
    """kernel.perf_event_paranoid; None: the kernel has no perf events."""
    schedstat: bool
    """/proc/PID/schedstat counts (it is missing or all zero in a kernel without CONFIG_SCHED_INFO)."""
    nofile_soft: int | None
    nofile_hard: int | None
    """RLIMIT_NOFILE of this process; None: unlimited or unknown."""
    initial_pid_namespace: bool | None
    """This process' pids are those of the host; None: unknown."""
    own_cgroup: str | None
    """This process' cgroup in the cpu hierarchy, relative to the hierarchy's root."""
    cpu: Hierarchy | None
    cpuacct: Hierarchy | None
    """On v2 the same as cpu."""
    cpuset: Hierarchy | None
    freezer: Hierarchy | None
    """On v2 every group can be frozen, without a controller."""
    memory: Hierarchy | None
    io: Hierarchy | None
    net_cls: Hierarchy | None
    """There is none on v2."""
    perf_event: Hierarchy | None
    """By whose directories events are counted. On v2 every group can be."""
    unified: Hierarchy | None
    """The cgroup2 mount, with or without controllers. PSI per group exists only there."""
    v2_controllers: frozenset[str]
    """cgroup.controllers at the root of `unified`."""
    has_v1: bool
    """Some v1 hierarchy is mounted."""

    @property
    def cgroup_version(self) -> int | None:
        """Of the hierarchy that has the cpu controller."""
        return self.cpu.version if self.cpu else None

    @property
    def layout(self) -> str:
        """v1, v2, hybrid (both mounted, wherever the controllers are) or none."""
        if self.unified and self.has_v1:
            return "hybrid"
        return "v2" if self.unified else "v1" if self.has_v1 else "none"

    @property
    def may_trace(self) -> bool:
        """Has the capabilities that tracing programs need. Source: bpf_prog_load, kernel/bpf/syscall.c."""
        return "CAP_SYS_ADMIN" in self.capabilities or {"CAP_BPF", "CAP_PERFMON"} <= self.capabilities


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """One line of mountinfo that is a cgroup hierarchy."""

    mount: str
    subtree: str
    version: int
    options: frozenset[str]
    """Of the superblock: on v1 these hold the controllers' names."""


# 32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
# 41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
def parse_mountinfo(data: bytes) -> tuple[CgroupMount, ...]:
    """The cgroup mounts of a mountinfo file, in its order. Lines that are no such mount are left out."""
    mounts = []
    for line in data.split(b"\n"):
        left, _, right = line.partition(b" - ")
        where, what = left.split(b" "), right.split(b" ")
        if len(where) < 6 or len(what) < 3 or what[0] not in (b"cgroup", b"cgroup2"):
            continue
        mounts.append(
            CgroupMount(
                mount=_unescaped(where[4]),
                subtree=_unescaped(where[3]),
                version=2 if what[0] == b"cgroup2" else 1,
                options=frozenset(os.fsdecode(what[2]).split(",")),
            )
        )
    return tuple(mounts)


def _unescaped(field: bytes) -> str:
    """Undo mangle_path (fs/seq_file.c): space, tab, newline and backslash are written as three octal digits."""
    for escaped, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(escaped, char)
    return os.fsdecode(field)


# 2:cpu,cpuacct:/user.slice
# 0::/init.scope
def parse_own_cgroups(data: bytes) -> dict[str, str]:
    """/proc/self/cgroup as controller -> path; the v2 hierarchy has the name ""."""
    paths: dict[str, str] = {}
    for line in data.split(b"\n"):
        fields = line.split(b":", 2)
        if len(fields) == 3:
            for controller in fields[1].split(b","):
                paths[os.fsdecode(controller)] = os.fsdecode(fields[2])
    return paths


# none [integrity] confidentiality
def parse_lockdown(data: bytes) -> str | None:
    """The state in brackets."""
    _, bracket, rest = data.partition(b"[")
    state, close, _ = rest.partition(b"]")
    return state.decode("ascii", "replace") if bracket and close else None


# CapEff:	000001fffeffffff
def parse_capabilities(status: bytes) -> frozenset[str]:
    """The effective capabilities in /proc/PID/status, of those that matter here."""
    for line in status.split(b"\n"):
        if line.startswith(b"CapEff:"):
            try:
                mask = int(line[7:], 16)
            except ValueError:
                break
            return frozenset(name for name, bit in _CAPABILITY_BITS.items() if mask >> bit & 1)
    return frozenset()


# Max open files            1024                 524288               files
def parse_nofile(limits: bytes) -> tuple[int | None, int | None]:
    """Soft and hard RLIMIT_NOFILE in /proc/PID/limits; None: unlimited or not there."""
    for line in limits.split(b"\n"):
        if line.startswith(b"Max open files"):
            soft, hard = [*line[14:].split(), b"", b""][:2]
            return _limit(soft), _limit(hard)
    return None, None


def _limit(field: bytes) -> int | None:
    return int(field) if field.isdigit() and len(field) < 20 else None


def count_cpus(data: bytes) -> int | None:
    """How many CPUs a list such as /sys/devices/system/cpu/online names."""
    try:
        return len(parse_cpus(data.decode("ascii", "replace"))) or None
    except ValueError:
        return None


def bpf_refusal() -> int | None:
    """0 if this process may create a BPF map (it is closed at once), else errno; None: unknown machine type."""
    number = _BPF_SYSCALL_NUMBER.get(platform.machine())
    if number is None:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    map_create, array = 0, 2
    attr = (ctypes.c_uint32 * 32)(array, 4, 8, 1)  # map_type, key_size, value_size, max_entries; the rest 0
    descriptor = libc.syscall(ctypes.c_long(number), ctypes.c_long(map_create), ctypes.byref(attr), ctypes.c_long(128))
    if descriptor < 0:
        return ctypes.get_errno() or errno.EPERM
    os.close(descriptor)
    return 0


def probe(root: Path = Path("/"), try_bpf: Callable[[], int | None] = bpf_refusal) -> Host:
    """Read the facts below `root` (where /proc and /sys begin; tests give a captured tree)."""
    proc, sys = root / "proc", root / "sys"
    mounts = tuple(_below(root, mount) for mount in parse_mountinfo(_read(proc / "self/mountinfo")))
    unified = next((mount for mount in _best_first(mounts) if mount.version == 2), None)
    v2_controllers = _controllers(unified) if unified else frozenset()
    places = {ours: _place(ours, mounts, unified, v2_controllers) for ours in _V1_NAMES}
    own = parse_own_cgroups(_read(proc / "self/cgroup"))
    nofile_soft, nofile_hard = parse_nofile(_read(proc / "self/limits"))
    cpu = places["cpu"]
    return Host(
        kernel_release=_read(proc / "sys/kernel/osrelease").decode("ascii", "replace").strip(),
        machine=platform.machine(),
        cpus=count_cpus(_read(sys / "devices/system/cpu/online")) or os.cpu_count() or 1,
        effective_uid=os.geteuid(),
        capabilities=parse_capabilities(_read(proc / "self/status")),
        kernel_btf=(sys / "kernel/btf/vmlinux").exists(),
        lockdown=parse_lockdown(_read(sys / "kernel/security/lockdown")),
        bpf_errno=try_bpf(),
        bpf_stats={b"0": False, b"1": True}.get(_read(proc / "sys/kernel/bpf_stats_enabled").strip()),
        kprobe_pmu=(sys / "bus/event_source/devices/kprobe").exists(),
        psi=(proc / "pressure/cpu").exists(),
        perf_event_paranoid=_int(_read(proc / "sys/kernel/perf_event_paranoid")),
        schedstat=any(field.strip(b"0") for field in _read(proc / "self/schedstat").split()),
        nofile_soft=nofile_soft,
        nofile_hard=nofile_hard,
        initial_pid_namespace=_is_initial_pid_namespace(proc / "self/ns/pid"),
        own_cgroup=own.get("cpu" if cpu and cpu.version == 1 else ""),
        cpu=cpu,
        cpuacct=places["cpuacct"],
        cpuset=places["cpuset"],
        freezer=places["freezer"],
        memory=places["memory"],
        io=places["io"],
        net_cls=places["net_cls"],
        perf_event=places["perf_event"],
        unified=_hierarchy(unified) if unified else None,
        v2_controllers=v2_controllers,
        has_v1=any(mount.version == 1 for mount in mounts),
    )


def _is_initial_pid_namespace(file: Path) -> bool | None:
    try:
        return file.stat().st_ino == _INITIAL_PID_NAMESPACE
    except OSError:
        return None


def _place(
    ours: str, mounts: tuple[CgroupMount, ...], unified: CgroupMount | None, v2_controllers: frozenset[str]
) -> Hierarchy | None:
    """A controller lives in one hierarchy at a time: a v1 mount that names it, else cgroup2 if it lists it."""
    for mount in _best_first(mounts):
        if mount.version == 1 and _V1_NAMES[ours] in mount.options:
            return _hierarchy(mount)
    on_v2 = "cpu" if ours == "cpuacct" else ours
    return _hierarchy(unified) if unified and (on_v2 in v2_controllers or ours in _ALWAYS_ON_V2) else None


def _controllers(mount: CgroupMount) -> frozenset[str]:
    return frozenset(os.fsdecode(_read(Path(mount.mount) / "cgroup.controllers")).split())


def _best_first(mounts: tuple[CgroupMount, ...]) -> list[CgroupMount]:
    """Mounts of a whole hierarchy before mounts of a part of one (containers have those)."""
    return sorted(mounts, key=lambda mount: mount.subtree != "/")


def _hierarchy(mount: CgroupMount) -> Hierarchy:
    return Hierarchy(mount=mount.mount, subtree=mount.subtree, version=mount.version)


def _below(root: Path, mount: CgroupMount) -> CgroupMount:
    return CgroupMount(str(root / mount.mount.lstrip("/")), mount.subtree, mount.version, mount.options)


def _int(data: bytes) -> int | None:
    try:
        return int(data)
    except ValueError:
        return None


def _read(path: Path) -> bytes:
    """The file, or nothing: what a host does not have or does not show is an ordinary fact."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
