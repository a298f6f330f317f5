"""Records of traffic control: devices, and the parts that lie on them, in the kernel's terms. Pure.

Source: rtnetlink(7), include/uapi/linux/{netlink,rtnetlink,pkt_sched}.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

ROOT = 0xFFFFFFFF
"""As a parent: the root of a device. Source: TC_H_ROOT."""
INGRESS = 0xFFFFFFF1
"""As a parent: where an ingress or clsact qdisc is. Source: TC_H_INGRESS."""
INGRESS_FILTERS = 0xFFFFFFF2
"""As the parent of a filter: where an ingress or clsact qdisc looks. Source: TC_H_MIN_INGRESS."""

ALL_PROTOCOLS = 0x0300
"""Of a filter. Source: ETH_P_ALL, in network order."""
MAJOR = 0x51AC
"""Of every qdisc at a root that is ours: slackwater, as far as hexadecimal goes."""
CLASS_MINORS = {"system": 2, "LS": 3, "BE": 4}
"""Of the classes that hold all of a kind."""
MODULES = {
    "htb": "sch_htb",
    "tbf": "sch_tbf",
    "fq_codel": "sch_fq_codel",
    "bpf": "cls_bpf",
    "clsact": "sch_ingress",
    "u32": "cls_u32",
    "ifb": "ifb",
}
"""Kind -> the kernel's module that has it."""

What = Literal["qdisc", "class", "filter"]


@dataclass(frozen=True, slots=True)
class Stats:
    """Of a qdisc or class, since it was made."""

    sent_bytes: int
    sent_packets: int
    dropped_packets: int
    backlog_bytes: int


@dataclass(frozen=True, slots=True)
class Part:
    """One qdisc, class or filter of a device. Handles: major << 16 | minor; of a filter its own."""

    what: What
    kind: str
    handle: int
    parent: int
    info: int = 0
    """Of a filter: priority << 16 | protocol (in network order). Of others it means nothing, and is 0."""
    options: bytes = b""
    chain: int = 0
    stats: Stats | None = None
    """Not part of what it is."""

    @property
    def plain(self) -> Part:
        """Without the figures: what can be compared, kept and put back."""
        return replace(self, stats=None)


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. `master`: the bond or bridge that it is in, 0: none."""

    ifindex: int
    name: str
    kind: str
    """"": of hardware."""
    is_up: bool
    master: int
    tx_queues: int
    mtu_bytes: int
    peer_namespace: int | None
    """Number of the namespace that the other end (veth), or what it lies on, is in; None: this one."""
    alias: str


def root_of(parts: tuple[Part, ...]) -> Part | None:
    """None: the device has none (it was never up)."""
    return next((part for part in parts if part.what == "qdisc" and part.parent == ROOT), None)


def ifb_name(ifindex: int) -> str:
    """Of the IFB through which comes in what comes in by this device."""
    return f"slw{ifindex}"


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each netlink attribute (struct nlattr); flags in the type are left out."""
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + size]
        at += size + 3 & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """One netlink attribute, padded."""
    return struct.pack("=HH", len(payload) + 4, kind) + payload + bytes(-len(payload) % 4)
