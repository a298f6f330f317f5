"""Options of the qdiscs, classes and filters that are ours, to and from the kernel's bytes. Pure.

Rates are bytes per second. Source: include/uapi/linux/{pkt_sched,pkt_cls}.h, tc_act/tc_mirred.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from agent.traffic import attribute, attributes
from agent.units import NS_PER_S

_TICK_NS = 64
"""Of times in these structs. Source: PSCHED_SHIFT, include/net/pkt_sched.h."""
_U32_MAX = 0xFFFFFFFF
_ETHERNET = 1
"""Link layer that needs no rate table. Source: TC_LINKLAYER_ETHERNET."""
BURST_S = 0.01
"""What may be sent at once, in time at the rate: as much as a CPU that is busy may be late."""
_BURST_BYTES_MIN = 3_200
"""Two packets of the common MTU."""
_HTB_VERSION = 3
_AS_GOOD_AS_NONE_BYTES_PER_S = 10**15
"""A packet takes less than a ns, which the kernel takes for none: also with a clock that ticks slowly."""


@dataclass(frozen=True, slots=True)
class HtbRates:
    """Of a class: what it is sure of, and what it gets at most when others leave it. `priority` 0 borrows first."""

    rate_bytes_per_s: int
    ceil_bytes_per_s: int
    priority: int = 0


def htb_root(default_minor: int) -> bytes:
    """What no filter has an opinion of goes to this class."""
    return attribute(2, struct.pack("=5I", _HTB_VERSION, 10, default_minor, 0, 0))


def htb_class(rates: HtbRates, mtu_bytes: int, burst_bytes: int | None = None) -> bytes:
    """`burst_bytes`: what may be sent at once; None: BURST_S of each rate."""
    rate, ceil = rates.rate_bytes_per_s, rates.ceil_bytes_per_s
    parameters = struct.pack(
        "=12s12sIIIII",
        _rate_spec(rate),
        _rate_spec(ceil),
        _burst_ticks(rate, burst_bytes),
        _burst_ticks(ceil, burst_bytes),
        10 * mtu_bytes,  # what a class sends at a time when it shares with another
        0,
        rates.priority,
    )
    return attribute(1, parameters) + _rate64(6, rate) + _rate64(7, ceil)


def read_htb_class(options: bytes) -> HtbRates:
    """ValueError: these are not of one."""
    found = dict(attributes(options))
    if len(found.get(1, b"")) < 44:
        raise ValueError("not the options of a class of HTB")
    rate, ceil, priority = (struct.unpack_from("=I", found[1], at)[0] for at in (8, 20, 40))
    if 6 in found:
        (rate,) = struct.unpack("=Q", found[6])
    if 7 in found:
        (ceil,) = struct.unpack("=Q", found[7])
    return HtbRates(rate, ceil, priority)


def tbf(rate_bytes_per_s: int, mtu_bytes: int) -> bytes:
    """Holds back up to 50 ms of its rate."""
    burst_bytes = max(int(rate_bytes_per_s * BURST_S), _BURST_BYTES_MIN, 2 * mtu_bytes)
    limit_bytes = max(int(rate_bytes_per_s * 0.05), 20 * mtu_bytes, 1 << 16)
    parameters = struct.pack("=12s12xIII", _rate_spec(rate_bytes_per_s), min(limit_bytes, _U32_MAX), 0, 0)
    return attribute(1, parameters) + _rate64(4, rate_bytes_per_s) + attribute(6, struct.pack("=I", burst_bytes))


def cut(packet_bytes: int) -> bytes:
    """Of a TBF that holds nothing back: what the kernel gives as one large packet (GSO) leaves it in those of the link,
    if it is larger than this. Without a queue in it, it has one of 1 MiB.
    """
    parameters = struct.pack("=12s12xIII", _rate_spec(_AS_GOOD_AS_NONE_BYTES_PER_S), 1 << 20, 0, 0)
    return (
        attribute(1, parameters)
        + _rate64(4, _AS_GOOD_AS_NONE_BYTES_PER_S)
        + attribute(6, struct.pack("=I", packet_bytes))
    )


def read_tbf(options: bytes) -> int:
    """Its rate in bytes per s. ValueError: these are not of one."""
    found = dict(attributes(options))
    if len(found.get(1, b"")) < 36:
        raise ValueError("not the options of a TBF")
    rate: int = struct.unpack("=Q", found[4])[0] if 4 in found else struct.unpack_from("=I", found[1], 8)[0]
    return rate


def pfifo(limit_packets: int) -> bytes:
    return struct.pack("=I", limit_packets)


def bpf_filter(program_fd: int, name: str) -> bytes:
    """A program that returns the handle of a class."""
    return attribute(6, struct.pack("=I", program_fd)) + attribute(7, name.encode() + b"\0")


def redirect_all(ifindex: int) -> bytes:
    """Of a u32 filter: every packet leaves by that device instead."""
    selector = struct.pack("=BBBxHHhh4x", 1, 0, 1, 0, 0, 0, 0) + struct.pack("=16x")
    steal, egress_redirect = 4, 1
    mirred = struct.pack("=IIiiiiI", 0, 0, steal, 0, 0, egress_redirect, ifindex)
    action = attribute(1, b"mirred\0") + attribute(2, attribute(2, mirred))
    return attribute(5, selector) + attribute(7, attribute(1, action))


def _rate_spec(bytes_per_s: int) -> bytes:
    return struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, min(bytes_per_s, _U32_MAX))


def _rate64(kind: int, bytes_per_s: int) -> bytes:
    """What 32 bits do not hold: 34 Gbit/s and more."""
    return attribute(kind, struct.pack("=Q", bytes_per_s)) if bytes_per_s >= _U32_MAX else b""


def _burst_ticks(bytes_per_s: int, burst_bytes: int | None) -> int:
    """How long it takes to send the burst at that rate."""
    if burst_bytes is None:
        burst_bytes = max(int(bytes_per_s * BURST_S), _BURST_BYTES_MIN)
    return min(burst_bytes * NS_PER_S // bytes_per_s // _TICK_NS, _U32_MAX)
