"""The whole machine: CPU time, memory and pressure. Sources: proc(5), Documentation/accounting/psi.rst."""

from __future__ import annotations

import os
from pathlib import Path

from agent.errors import HostError
from agent.records import NodeSample
from agent.samples.cgroup_formats import parse_pressure
from agent.samples.files import read_file
from agent.units import BYTES_PER_KIB, ticks_to_ns


#      user nice system idle iowait irq softirq steal guest guest_nice
# cpu  3766 0 1886 253761 576 0 97 2 0 0
# cpu0 803 0 724 128399 9 0 37 1 0 0
def parse_stat(data: bytes) -> int | None:
    """/proc/stat: USER_HZ ticks that this machine's CPUs worked: user + nice + system + irq + softirq.

    Not idle and iowait (no work), not steal (the hypervisor gave the CPU to someone else), not guest and guest_nice
    (the kernel counts them in user and nice already: account_guest_time, kernel/sched/cputime.c).
    """
    line = data.partition(b"\n")[0]
    ticks = line.split()[1:]
    if not line.startswith(b"cpu ") or len(ticks) < 7 or not all(_is_count(field) for field in ticks[:7]):
        return None
    user, nice, system, _idle, _iowait, irq, softirq = map(int, ticks[:7])
    return user + nice + system + irq + softirq


# MemTotal:       24684096 kB
# MemAvailable:   24375104 kB
def parse_meminfo(data: bytes) -> tuple[int, int] | None:
    """/proc/meminfo: total and available bytes. "kB" there is KiB."""
    kib: dict[bytes, int] = {}
    for line in data.split(b"\n"):
        key, _, value = line.partition(b":")
        fields = value.split()
        if key in (b"MemTotal", b"MemAvailable") and fields and _is_count(fields[0]):
            kib[key] = int(fields[0])
            if len(kib) == 2:  # they are the first and the third of some fifty
                return kib[b"MemTotal"] * BYTES_PER_KIB, kib[b"MemAvailable"] * BYTES_PER_KIB
    return None


# 28 1 254:0 / / ro,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
def parse_root_is_read_only(mountinfo: bytes) -> bool | None:
    """Of /proc/self/mountinfo: whether the file system at / is, not only this process' view of it, which a service
    manager may have made so. None: there is no such line.
    """
    read_only = None
    for line in mountinfo.split(b"\n"):
        mount, _, filesystem = line.partition(b" - ")
        if mount.split(b" ")[4:5] == [b"/"] and len(filesystem.split(b" ")) > 2:
            read_only = filesystem.split(b" ")[2].split(b",")[0] == b"ro"  # the last one is on top
    return read_only


def root_is_read_only() -> bool | None:
    """Now; None: it cannot be told."""
    try:
        return parse_root_is_read_only(read_file("/proc/self/mountinfo"))
    except OSError:
        return None


def read_node(cpus: int, proc: Path = Path("/proc"), ticks_per_s: int = os.sysconf("SC_CLK_TCK")) -> NodeSample:
    """Now. Raises HostError when /proc/stat or /proc/meminfo cannot be read; without PSI its fields are None."""
    ticks = parse_stat(_read(f"{proc}/stat"))
    memory = parse_meminfo(_read(f"{proc}/meminfo"))
    if ticks is None:
        raise HostError("its first line is not the CPU times", path=f"{proc}/stat")
    if memory is None:
        raise HostError("MemTotal or MemAvailable is missing", path=f"{proc}/meminfo")
    cpu_some, _ = _read_pressure(f"{proc}/pressure/cpu")
    memory_some, memory_full = _read_pressure(f"{proc}/pressure/memory")
    io_some, io_full = _read_pressure(f"{proc}/pressure/io")
    return NodeSample(
        cpus=cpus,
        cpu_used_ns=ticks_to_ns(ticks, ticks_per_s),
        memory_total_bytes=memory[0],
        memory_available_bytes=memory[1],
        psi_cpu_some_us=cpu_some,
        psi_memory_some_us=memory_some,
        psi_memory_full_us=memory_full,
        psi_io_some_us=io_some,
        psi_io_full_us=io_full,
    )


def _is_count(field: bytes) -> bool:
    return field.isdigit() and len(field) <= 20


def _read(path: str) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise HostError.of(error, path) from error


def _read_pressure(path: str) -> tuple[int | None, int | None]:
    """Total stall in us; None where there is no PSI (ENOENT), or it is off (psi=0 at boot: EOPNOTSUPP)."""
    try:
        some, full = parse_pressure(read_file(path))
    except OSError:
        return None, None
    return None if some != some else int(some), None if full != full else int(full)
