"""The formats of the cgroup files, v1 and v2: bytes in, numbers in the sample's units out. Nothing here opens a file.

What a parser cannot find or understand is NaN; no input raises.

Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/{cpuacct,memory,blkio-controller}.rst,
scheduler/sched-bwc.rst, accounting/psi.rst.
"""

from __future__ import annotations

from itertools import pairwise

from agent.units import NS_PER_US

NAN = float("nan")
INF = float("inf")

_V1_MEMORY_UNLIMITED = 2**63 - 2**16
"""No limit is LONG_MAX rounded down to a page, at most 64 KiB (PAGE_COUNTER_MAX, include/linux/page_counter.h)."""

Values = tuple[float, ...]


# 123456
def number(field: bytes | None) -> float:
    """Decimal digits of an unsigned 64-bit number, anything else is NaN."""
    return float(field) if field is not None and field.isdigit() and len(field) <= 20 else NAN


# usage_usec 123456789
# nr_periods 100
def flat_keyed(data: bytes) -> dict[bytes, bytes]:
    """One "key value" pair a line."""
    words = data.split()
    return dict(zip(words[::2], words[1::2], strict=False))


# usage_usec 123456789
# user_usec 100000000
# system_usec 23456789
# nr_periods 100
# nr_throttled 3
# throttled_usec 234234
def parse_cpu_stat_v2(data: bytes) -> Values:
    """cpu.stat: usage_ns, nr_periods, nr_throttled, throttled_ns. Without a cpu controller only usage is there."""
    pairs = flat_keyed(data)
    return (
        number(pairs.get(b"usage_usec")) * NS_PER_US,
        number(pairs.get(b"nr_periods")),
        number(pairs.get(b"nr_throttled")),
        number(pairs.get(b"throttled_usec")) * NS_PER_US,
    )


# nr_periods 100
# nr_throttled 3
# throttled_time 234234000
def parse_cpu_stat_v1(data: bytes) -> Values:
    """cpu.stat: nr_periods, nr_throttled, throttled_ns."""
    pairs = flat_keyed(data)
    return number(pairs.get(b"nr_periods")), number(pairs.get(b"nr_throttled")), number(pairs.get(b"throttled_time"))


# 50000 100000
# max 100000
def parse_cpu_max(data: bytes) -> Values:
    """cpu.max: quota_ns (inf: none), period_ns."""
    quota, period = [*data.split(), b"", b""][:2]
    return INF if quota == b"max" else number(quota) * NS_PER_US, number(period) * NS_PER_US


# -1
def parse_quota_v1(data: bytes) -> Values:
    """cpu.cfs_quota_us: quota_ns, inf when there is none."""
    field = data.strip()
    return (INF if field == b"-1" else number(field) * NS_PER_US,)


# 100000
def parse_us(data: bytes) -> Values:
    """A number of microseconds, in ns."""
    return (number(data.strip()) * NS_PER_US,)


# 4096
def parse_number(data: bytes) -> Values:
    """A number in the sample's own unit: cpuacct.usage (ns), memory.current (bytes)."""
    return (number(data.strip()),)


# 9223372036854771712
# max
def parse_memory_limit(data: bytes) -> Values:
    """memory.max, memory.limit_in_bytes: bytes, inf when there is no limit."""
    field = data.strip()
    limit_bytes = INF if field == b"max" else number(field)
    return (INF if limit_bytes >= _V1_MEMORY_UNLIMITED else limit_bytes,)


# 8:0 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0
def parse_io_stat(data: bytes) -> Values:
    """io.stat: bytes read and written, summed over devices; an empty file means that nothing was."""
    read_bytes = written_bytes = 0.0
    for word in data.split():
        if word.startswith(b"rbytes="):
            read_bytes += number(word[7:])
        elif word.startswith(b"wbytes="):
            written_bytes += number(word[7:])
    return read_bytes, written_bytes


# 8:0 Read 1459200
# 8:0 Write 314773504
# 8:0 Sync 0
# Total 316232704
def parse_blkio_bytes(data: bytes) -> Values:
    """blkio.throttle.io_service_bytes: bytes read and written, summed over devices; a Total alone: none was."""
    words = data.split()
    if b"Total" not in words:
        return NAN, NAN
    read_bytes = written_bytes = 0.0
    for kind, value in pairwise(words):
        if kind == b"Read":
            read_bytes += number(value)
        elif kind == b"Write":
            written_bytes += number(value)
    return read_bytes, written_bytes


# some avg10=0.00 avg60=0.00 avg300=0.00 total=4280968
# full avg10=0.00 avg60=0.00 avg300=0.00 total=0
def parse_pressure(data: bytes) -> Values:
    """A PSI file: total stall time since boot, some_us and full_us."""
    some_us = full_us = NAN
    for line in data.split(b"\n"):
        head, _, total = line.rpartition(b" total=")
        if head.startswith(b"some "):
            some_us = number(total)
        elif head.startswith(b"full "):
            full_us = number(total)
    return some_us, full_us


def parse_pressure_some(data: bytes) -> Values:
    """A PSI file: some_us only (full means nothing for the CPU)."""
    return parse_pressure(data)[:1]
