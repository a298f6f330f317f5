"""The tree of classes that we give to a device. Pure.

    51ac: htb                                  rate           ceil       prio
    └── :1 the link                            link           link
        ├── :2 system                          10 % of it     link
        │   └── :20 (default), :100... groups  a little       link       1
        ├── :3 latency-sensitive               50 %           link
        │   └── :30, :100...                   a little       link       0
        └── :4 batch                           low bound      what BE may send
            └── :40, :100...                   a little       the same   2
            └── 40: tbf, 100:...   cuts large packets; in it, as in all leaves, fq_codel

A group with a limit of its own has its own class, with the limit as its ceil. What a class is sure of (rate) it gets
whatever its parents' ceils say, so only the inner classes are sure of much: a limit of batch work binds all of it.

What is sent at once the link has before it when a service sends next: 64 KiB, as TCP gives them, are 2.6 ms at
200 Mbit/s. So batch work is cut into packets of the link, and sends little at once (`ahead_bytes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent import tc_options
from agent.tc_options import HtbRates
from agent.traffic import CLASS_MINORS, MAJOR, ROOT, Part

HANDLE = MAJOR << 16
GROUP_MINOR_MIN, GROUP_MINOR_MAX = 0x100, 0x5000
"""Below MAJOR: a qdisc in a class has its number."""


class NetClass(StrEnum):
    """Who shares a device."""

    SYSTEM = "system"
    LS = "LS"
    BE = "BE"


_AHEAD_S = 0.0002
_PRIORITY = {NetClass.SYSTEM: 1, NetClass.LS: 0, NetClass.BE: 2}


@dataclass(frozen=True, slots=True)
class GroupLimit:
    """What a group may send at most, as part of its class."""

    net_class: NetClass
    minor: int
    send_bytes_per_s: int


@dataclass(frozen=True, slots=True)
class Shares:
    """What classes are sure of, in per cent of the link."""

    system_pct: float
    ls_pct: float
    be_pct: float


def class_id(net_class: NetClass) -> int:
    """Where packets of that class go to."""
    return HANDLE | CLASS_MINORS[net_class] << 4


def inner_id(net_class: NetClass) -> int:
    """The class that has all of it."""
    return HANDLE | CLASS_MINORS[net_class]


def group_class_id(minor: int) -> int:
    return HANDLE | minor


def root() -> Part:
    return Part("qdisc", "htb", HANDLE, ROOT, options=tc_options.htb_root(class_id(NetClass.SYSTEM) & 0xFFFF))


def is_ours(part: Part) -> bool:
    return part.what == "qdisc" and part.handle == HANDLE and part.kind in ("htb", "tbf")


def rates_of(
    link_bytes_per_s: int, be_bytes_per_s: int, shares: Shares, limits: Iterable[GroupLimit]
) -> Mapping[int, tuple[int, HtbRates]]:
    """Class -> (its parent, its rates), parents first."""
    little = max(1, link_bytes_per_s // 1_000)
    sure = {
        NetClass.SYSTEM: int(link_bytes_per_s * shares.system_pct / 100),
        NetClass.LS: int(link_bytes_per_s * shares.ls_pct / 100),
        NetClass.BE: min(be_bytes_per_s, int(link_bytes_per_s * shares.be_pct / 100)),
    }
    ceil = dict.fromkeys(NetClass, link_bytes_per_s) | {NetClass.BE: be_bytes_per_s}
    link = HANDLE | 1
    rates = {link: (ROOT, HtbRates(link_bytes_per_s, link_bytes_per_s))}
    for net_class in NetClass:
        rates[inner_id(net_class)] = link, HtbRates(max(1, sure[net_class]), ceil[net_class])
    for net_class in NetClass:
        at_most = ceil[net_class]
        rates[class_id(net_class)] = (
            inner_id(net_class),
            HtbRates(min(little, at_most), at_most, _PRIORITY[net_class]),
        )
    for limit in limits:
        at_most = min(limit.send_bytes_per_s, link_bytes_per_s)
        rates[group_class_id(limit.minor)] = (
            inner_id(limit.net_class),
            HtbRates(min(little, at_most), at_most, _PRIORITY[limit.net_class]),
        )
    return rates


def ahead_bytes(link_bytes_per_s: int, mtu_bytes: int) -> int:
    """What batch work may have at once before a service on the link."""
    return max(int(link_bytes_per_s * _AHEAD_S), 2 * mtu_bytes)


def is_all_of_be(class_handle: int) -> bool:
    return class_handle in (inner_id(NetClass.BE), class_id(NetClass.BE))


def is_leaf(class_handle: int) -> bool:
    """It has a queue."""
    return class_handle & 0xFFFF >= class_id(NetClass.SYSTEM) & 0xFFFF


def cutter(class_handle: int, packet_bytes: int) -> Part:
    """What lies in a leaf of batch work. Qdiscs and classes have numbers of their own: this one has its class'."""
    return Part("qdisc", "tbf", class_handle << 16 & 0xFFFFFFFF, class_handle, options=tc_options.cut(packet_bytes))
