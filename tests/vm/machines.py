"""The machines that a guest can be, as data: what its CPUs say about RDT (CAT, CDP, MBA, monitoring), which cgroups.

Nothing of it has an effect on a cache: the guest's kernel offers resctrl and accepts or refuses as on such a machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.vm.fetch import VmError
from tests.vm.kernels import KERNELS, Kernel

INTEL_CPU = "max,vendor=GenuineIntel,family=6,model=106,level=0x10"
AMD_CPU = "max,vendor=AuthenticAMD,family=23,model=49,level=0x10,xlevel=0x80000020"
"""Models for which the kernel has no quirks (MBM correction, no CDP), with what QEMU can emulate and no more.

With the highest CPUID leaves that are asked: what lies above is answered with another leaf's content.
"""

TWO_SOCKETS = "2,sockets=2,cores=1,threads=1"
GAP_IN_IDS = "4,maxcpus=6,sockets=2,dies=3,cores=1,threads=1"
"""An L3 cache per die, three dies per socket, the second socket with one: cache ids 0, 1, 2, 4."""


@dataclass(frozen=True)
class Cat:
    """Cache allocation of one level. `shareable`: the ways that other agents, such as devices, use as well."""

    ways: int
    closids: int
    shareable: int = 0
    sparse: bool = False
    cdp: bool = False


@dataclass(frozen=True)
class Mba:
    """Bandwidth allocation. `step_pct`: granularity and smallest value; AMD has absolute values instead."""

    closids: int
    step_pct: int = 10


@dataclass(frozen=True)
class Monitoring:
    """`unit_bytes`: of the counters."""

    rmids: int = 32
    unit_bytes: int = 65536


@dataclass(frozen=True)
class Rdt:
    """What CPUID reports. `amd`: in AMD's leaves; `smba`: bandwidth of slow memory, which AMD's may have."""

    l3: Cat | None = None
    l2: Cat | None = None
    mba: Mba | None = None
    monitoring: Monitoring | None = None
    amd: bool = False
    smba: bool = False


@dataclass(frozen=True)
class Machine:
    """`cache_ids`: of the caches that are partitioned; `kernels`: those that know what it has; `cgroups`: v1 or v2."""

    name: str
    about: str
    rdt: Rdt | None = None
    topology: str = TWO_SOCKETS
    cache_ids: tuple[int, ...] = (0, 1)
    kernels: tuple[str, ...] = tuple(KERNELS)
    cgroups: str = "v2"

    @property
    def cpu(self) -> str:
        return AMD_CPU if self.rdt and self.rdt.amd else INTEL_CPU

    @property
    def has(self) -> frozenset[str]:
        """The needs of tests (tests/kernel/needs.py) that it meets."""
        cgroups = {"cgroup2"} if self.cgroups == "v2" else {"net_cls"}
        return frozenset(cgroups | self._rdt_has)

    @property
    def _rdt_has(self) -> set[str]:
        if self.rdt is None:
            return set()
        caches = {"l3": self.rdt.l3, "l2": self.rdt.l2, "cdp": self.rdt.l3, "cdpl2": self.rdt.l2}
        offered = {name for name, cat in caches.items() if cat and (cat.cdp or "cdp" not in name)}
        offered |= {"mba"} if self.rdt.mba else set()
        offered |= {"monitor"} if self.rdt.monitoring else set()
        offered |= {"mbps"} if self.rdt.mba and self.rdt.monitoring and not self.rdt.amd else set()
        return {"resctrl", *(f"resctrl:{name}" for name in offered)}


L3, MBA, MONITORING = Cat(ways=12, closids=16), Mba(closids=8), Monitoring()
AMD_MONITORING = Monitoring(unit_bytes=4096)
"""Small, since the kernel frees an RMID below a share of what it takes for the cache, on AMD the L2."""

NONE = Machine("none", "no RDT")

MACHINES = {
    machine.name: machine
    for machine in (
        Machine("l3", "L3 CAT, MBA, monitoring", Rdt(L3, mba=MBA, monitoring=MONITORING)),
        Machine("cdp", "as l3, with CDP", Rdt(Cat(12, 16, cdp=True), mba=MBA, monitoring=MONITORING)),
        Machine("l2", "CAT of L2 only, with CDP", Rdt(l2=Cat(8, 4, cdp=True), monitoring=MONITORING)),
        Machine("both", "CAT of L3 and L2, no monitoring", Rdt(L3, l2=Cat(10, 8), mba=MBA)),
        Machine(
            "sparse",
            "masks may have gaps",
            Rdt(Cat(15, 15, sparse=True), mba=MBA, monitoring=MONITORING),
            kernels=("6.12", "7.x"),
        ),
        Machine(
            "shareable",
            "devices use two of the ways",
            Rdt(Cat(11, 16, shareable=0x600), mba=MBA, monitoring=MONITORING),
        ),
        Machine(
            "amd",
            "AMD: sparse masks, absolute bandwidth",
            Rdt(Cat(16, 16, cdp=True), mba=Mba(16), monitoring=AMD_MONITORING, amd=True),
        ),
        Machine(
            "smba",
            "as amd, with bandwidth of slow memory",
            Rdt(Cat(16, 16), mba=Mba(16), monitoring=AMD_MONITORING, amd=True, smba=True),
            kernels=("6.12", "7.x"),
        ),
        Machine("few", "few CLOSIDs and RMIDs, 20 % steps", Rdt(Cat(20, 4), mba=Mba(3, 20), monitoring=Monitoring(5))),
        Machine(
            "gaps",
            "cache ids with a gap",
            Rdt(L3, mba=MBA, monitoring=MONITORING),
            topology=GAP_IN_IDS,
            cache_ids=(0, 1, 2, 4),
        ),
        Machine("nomba", "no MBA", Rdt(L3, monitoring=MONITORING)),
        Machine("nomon", "no monitoring", Rdt(L3, mba=MBA)),
        Machine("mononly", "monitoring only", Rdt(monitoring=MONITORING)),
        Machine("v1", "no RDT, cgroup v1", kernels=("6.1",), cgroups="v1"),  # later ones are built without v1 cpusets
        NONE,
    )
}

SHORT = ("l3", "cdp", "amd")
"""For CI: between them every kind of schemata line but L2."""
SHORT_KERNEL = "6.12"

EVERY_GUEST_HAS = frozenset(
    {"root", "bond", "bpf", "cgroup:cpu", "cgroup:perf_event", "cpus:2", "fentry", "kprobe", "machine", "net"}
)


def machine(name: str) -> Machine:
    if name not in MACHINES:
        raise VmError(f"no machine {name!r}; there are: {' '.join(MACHINES)}")
    return MACHINES[name]


def check(machine: Machine, kernel: Kernel) -> None:
    """VmError: the kernel does not know what the machine has."""
    if kernel.name not in machine.kernels:
        raise VmError(f"machine {machine.name} is for kernel {' '.join(machine.kernels)}, not {kernel.name}")


def words(names: Iterable[str]) -> str:
    """For SLACKWATER_HAS."""
    return " ".join(sorted(names))
