"""Brings the classes on a device whose root is our HTB where they are to be (htb.py), each leaf with its queue."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent import tc_options
from agent.actuators import htb
from agent.actuators.htb import GroupLimit, NetClass, Shares
from agent.rtnetlink import NO_SUCH_KIND, Rtnetlink
from agent.traffic import ALL_PROTOCOLS, MAJOR, Link, Part

_FILTER_PRIORITY = 100


@dataclass(frozen=True, slots=True)
class Shape:
    """What a device is to give its classes."""

    link_bytes_per_s: int
    be_bytes_per_s: int
    shares: Shares


class Shaper:
    """Remembers which classes are its own, and which kinds of qdiscs the kernel does not have."""

    def __init__(self, rtnl: Rtnetlink) -> None:
        self._rtnl = rtnl
        self._lacks: set[str] = set()
        self._made: dict[int, set[int]] = {}
        """By device: classes that are ours. Somebody else's in our qdisc stay."""

    def shape(self, link: Link, wanted: Shape, limits: Iterable[GroupLimit]) -> None:
        """And read it back. OSError."""
        rates = htb.rates_of(wanted.link_bytes_per_s, wanted.be_bytes_per_s, wanted.shares, limits)
        ahead_bytes = htb.ahead_bytes(wanted.link_bytes_per_s, link.mtu_bytes)
        there = {part.handle: part for part in self._rtnl.parts("class", link.ifindex) if part.handle >> 16 == MAJOR}
        made = self._made.setdefault(link.ifindex, set())
        for handle in sorted((made & there.keys()) - rates.keys(), reverse=True):
            try:
                self._rtnl.delete(link.ifindex, there[handle].plain)
            except OSError as err:
                if err.errno != errno.EBUSY:  # somebody's filter leads there: theirs now
                    raise
        made.clear()
        made.update(rates)
        for handle, (parent, of_class) in rates.items():
            burst_bytes = ahead_bytes if htb.is_all_of_be(handle) else None
            options = tc_options.htb_class(of_class, link.mtu_bytes, burst_bytes)
            part = Part("class", "htb", handle, parent, options=options)
            if handle not in there:
                self._rtnl.add(link.ifindex, part)
                if htb.is_leaf(handle):
                    self._add_queue(link.ifindex, handle, ahead_bytes if parent == htb.inner_id(NetClass.BE) else None)
            elif tc_options.read_htb_class(there[handle].options) != of_class:
                self._rtnl.change(link.ifindex, part)
        self._read_back(link.ifindex, {handle: of_class for handle, (_, of_class) in rates.items()})

    def attach(self, ifindex: int, program_fd: int) -> None:
        """The classifier. OSError."""
        options = tc_options.bpf_filter(program_fd, "slackwater")
        self._rtnl.add(ifindex, Part("filter", "bpf", 1, htb.HANDLE, _FILTER_PRIORITY << 16 | ALL_PROTOCOLS, options))

    def _read_back(self, ifindex: int, rates: Mapping[int, tc_options.HtbRates]) -> None:
        parts = [part for part in self._rtnl.parts("class", ifindex) if part.handle in rates]
        if {part.handle: tc_options.read_htb_class(part.options) for part in parts} != rates:
            raise OSError(errno.EIO, "its classes read back otherwise")

    def _add_queue(self, ifindex: int, handle: int, packet_bytes: int | None) -> None:
        """Each flow its own, so that one does not delay the others, and of batch work no packet larger than this; a
        kernel without keeps one queue, and packets as they are.
        """
        if packet_bytes is not None and self._could_add(ifindex, cutter := htb.cutter(handle, packet_bytes)):
            handle = cutter.handle | 1
        self._could_add(ifindex, Part("qdisc", "fq_codel", 0, handle))

    def _could_add(self, ifindex: int, part: Part) -> bool:
        if part.kind not in self._lacks:
            try:
                self._rtnl.add(ifindex, part)
            except OSError as err:
                if err.errno not in NO_SUCH_KIND:
                    raise
                self._lacks.add(part.kind)
        return part.kind not in self._lacks
