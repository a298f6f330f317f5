"""Which file of which hierarchy fills which column of a CgroupSample, on v1, v2 and hybrid. Opens no file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.host import Host
from agent.samples.cgroup_formats import (
    Values,
    parse_blkio_bytes,
    parse_cpu_max,
    parse_cpu_stat_v1,
    parse_cpu_stat_v2,
    parse_io_stat,
    parse_memory_limit,
    parse_number,
    parse_pressure,
    parse_pressure_some,
    parse_quota_v1,
    parse_us,
)

COLUMNS = (
    "cpu_usage_ns",
    "nr_periods",
    "nr_throttled",
    "throttled_ns",
    "quota_ns",
    "period_ns",
    "burst_ns",
    "memory_bytes",
    "memory_limit_bytes",
    "io_read_bytes",
    "io_write_bytes",
    "psi_cpu_some_us",
    "psi_memory_some_us",
    "psi_memory_full_us",
    "psi_io_some_us",
    "psi_io_full_us",
)
"""In the order of the fields of CgroupSample, ids and slow_time_ns left out."""


@dataclass(frozen=True, eq=False, slots=True)
class KernelFile:
    """One file of a group: where it is, how it is read, and which columns (`first` and following) it fills."""

    mount: str
    names: tuple[str, ...]
    """The first that exists is read."""
    first: int
    width: int
    parse: Callable[[bytes], Values]


@dataclass(frozen=True, slots=True)
class FileTable:
    """The files this host has for a group. A controller that is not mounted has none, and its columns stay NaN."""

    cpu: tuple[KernelFile, ...]
    usage: tuple[KernelFile, ...]
    """Those of `cpu` that have the run time of tasks of all scheduling classes."""
    quota: tuple[KernelFile, ...]
    slow: tuple[KernelFile, ...]


def files_of(host: Host) -> FileTable:
    """The table for this host's hierarchies."""
    cpu: list[KernelFile] = []
    quota: list[KernelFile] = []
    slow: list[KernelFile] = []

    def add(to: list[KernelFile], mount: str, names: str, column: str, parse: Callable[[bytes], Values]) -> None:
        to.append(KernelFile(mount, tuple(names.split()), COLUMNS.index(column), len(parse(b"")), parse))

    if host.cpu and host.cpu.version == 2:
        add(cpu, host.cpu.mount, "cpu.stat", "cpu_usage_ns", parse_cpu_stat_v2)
        add(quota, host.cpu.mount, "cpu.max", "quota_ns", parse_cpu_max)
        add(quota, host.cpu.mount, "cpu.max.burst", "burst_ns", parse_us)
    elif host.cpu:
        add(cpu, host.cpu.mount, "cpu.stat", "nr_periods", parse_cpu_stat_v1)
        add(quota, host.cpu.mount, "cpu.cfs_quota_us", "quota_ns", parse_quota_v1)
        add(quota, host.cpu.mount, "cpu.cfs_period_us", "period_ns", parse_us)
        add(quota, host.cpu.mount, "cpu.cfs_burst_us", "burst_ns", parse_us)
        if host.cpuacct and host.cpuacct.version == 1:
            add(cpu, host.cpuacct.mount, "cpuacct.usage", "cpu_usage_ns", parse_number)
    if host.memory and host.memory.version == 2:
        add(slow, host.memory.mount, "memory.current", "memory_bytes", parse_number)
        add(slow, host.memory.mount, "memory.max", "memory_limit_bytes", parse_memory_limit)
    elif host.memory:
        add(slow, host.memory.mount, "memory.usage_in_bytes", "memory_bytes", parse_number)
        add(slow, host.memory.mount, "memory.limit_in_bytes", "memory_limit_bytes", parse_memory_limit)
    if host.io and host.io.version == 2:
        add(slow, host.io.mount, "io.stat", "io_read_bytes", parse_io_stat)
    elif host.io:
        recursive_first = "blkio.throttle.io_service_bytes_recursive blkio.throttle.io_service_bytes"
        add(slow, host.io.mount, recursive_first, "io_read_bytes", parse_blkio_bytes)
    if host.psi and host.unified:
        add(slow, host.unified.mount, "cpu.pressure", "psi_cpu_some_us", parse_pressure_some)
        add(slow, host.unified.mount, "memory.pressure", "psi_memory_some_us", parse_pressure)
        add(slow, host.unified.mount, "io.pressure", "psi_io_some_us", parse_pressure)
    usage = (file for file in cpu if file.first == COLUMNS.index("cpu_usage_ns"))
    return FileTable(tuple(cpu), tuple(usage), tuple(quota), tuple(slow))
