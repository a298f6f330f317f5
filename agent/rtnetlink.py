"""Devices, qdiscs, classes and filters as the kernel has them, in the network namespace of the thread that opens it.

Options travel as the bytes that the kernel gave (`Part.options`): so what is not ours is put back as it was, of
whatever kind it is. agent/tc_options.py makes and reads those that are ours. Source: rtnetlink(7), include/uapi/linux/
{rtnetlink,pkt_sched,if_link}.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from agent import netlink
from agent.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, LinkMessage, TrafficMessage
from agent.traffic import MODULES, Link, Part, Stats, What, attribute, attributes

NO_SUCH_KIND = frozenset({errno.ENOENT, errno.EOPNOTSUPP})
"""What the kernel says of a kind of qdisc, filter or link that it does not have."""
_UP = 1
"""Source: IFF_UP."""
_LINK_KIND = 1
"""Source: IFLA_INFO_KIND."""

_NEW = {"qdisc": netlink.RTM_NEWQDISC, "class": netlink.RTM_NEWTCLASS, "filter": netlink.RTM_NEWTFILTER}
_DELETE = {"qdisc": netlink.RTM_DELQDISC, "class": netlink.RTM_DELTCLASS, "filter": netlink.RTM_DELTFILTER}
_GET = {"class": netlink.RTM_GETTCLASS, "filter": netlink.RTM_GETTFILTER}


class Rtnetlink:
    """A context manager. Its calls raise OSError with the kernel's errno: ENODEV when a device has gone."""

    def __init__(self) -> None:
        self._netlink = netlink.Netlink()
        self._ioctl = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def close(self) -> None:
        self._netlink.close()
        self._ioctl.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def links(self) -> tuple[Link, ...]:
        """All devices, by ifindex."""
        answers = self._netlink.ask(LinkMessage(), netlink.RTM_GETLINK, NLM_F_DUMP)
        return tuple(sorted(map(_link, answers), key=lambda link: link.ifindex))

    def default_devices(self) -> frozenset[int]:
        """Where default routes lead out, IPv4 and IPv6; those of several paths count each."""
        devices: set[int] = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            message = netlink.RouteMessage()
            message["family"] = family
            with contextlib.suppress(OSError):  # a kernel without IPv6
                for route in self._netlink.ask(message, netlink.RTM_GETROUTE, NLM_F_DUMP):
                    devices.update(_devices_of(route))
        return frozenset(devices)

    def namespace_of(self, pid: int) -> int | None:
        """The number that this namespace has for that of a process; None: it has none, so no device leads there."""
        message = netlink.NamespaceMessage()
        message["attrs"].append(("NETNSA_PID", pid))
        (answer,) = self._netlink.ask(message, netlink.RTM_GETNSID)
        (nsid,) = struct.unpack("=i", dict(attributes(answer[4:]))[1])
        return nsid if nsid >= 0 else None

    def speed_bytes_per_s(self, name: str) -> int | None:
        """As the driver says (ETHTOOL_GSET); None: it does not know, or the device is down."""
        command = bytearray(struct.pack("<I", 1).ljust(44, b"\0"))
        try:
            with _at(command) as address:
                request = bytearray(struct.pack("16sP16x", name.encode(), address))
                fcntl.ioctl(self._ioctl, 0x8946, request)  # SIOCETHTOOL
        except OSError:
            return None
        (low,), (high,) = struct.unpack_from("<H", command, 12), struct.unpack_from("<H", command, 28)
        mbit_per_s = high << 16 | low
        return mbit_per_s * 125_000 if 0 < mbit_per_s < 0x7FFFFFFF and low != 0xFFFF else None

    def qdiscs(self) -> Mapping[int, tuple[Part, ...]]:
        """Of all devices that have any: the kernel gives no others' less."""
        found: dict[int, tuple[Part, ...]] = {}
        for answer in self._netlink.ask(TrafficMessage(), netlink.RTM_GETQDISC, NLM_F_DUMP):
            (ifindex,) = struct.unpack_from("=4xi", answer)
            found[ifindex] = (*found.get(ifindex, ()), _part("qdisc", answer))
        return found

    def parts(self, what: What, ifindex: int, parent: int = 0) -> tuple[Part, ...]:
        """What a device has of these; of filters those at `parent`."""
        if what == "qdisc":
            return self.qdiscs().get(ifindex, ())
        message = TrafficMessage()
        message["index"], message["parent"] = ifindex, parent
        return tuple(_part(what, answer) for answer in self._netlink.ask(message, _GET[what], NLM_F_DUMP))

    def add(self, ifindex: int, part: Part, *, replaces: bool = False) -> None:
        """Make it. EEXIST: it is there; with `replaces` it is then made anew, or changed."""
        flags = NLM_F_CREATE | (NLM_F_REPLACE if replaces else NLM_F_EXCL)
        with _module_of(part.kind):
            self._netlink.ask(_message(ifindex, part, with_options=True), _NEW[part.what], NLM_F_ACK | flags)

    def change(self, ifindex: int, part: Part) -> None:
        self._netlink.ask(_message(ifindex, part, with_options=True), _NEW[part.what], NLM_F_ACK)

    def delete(self, ifindex: int, part: Part) -> None:
        self._netlink.ask(_message(ifindex, part, with_options=False), _DELETE[part.what], NLM_F_ACK)

    def add_ifb(self, name: str, alias: str, tx_queues: int = 1) -> int:
        """Make an intermediate functional block that is up; its ifindex. EOPNOTSUPP: the kernel has none."""
        message = LinkMessage()
        message["flags"] = message["change"] = _UP
        message["attrs"] += [
            ("IFLA_IFNAME", name),
            ("IFLA_NUM_TX_QUEUES", tx_queues),
            ("IFLA_LINKINFO", attribute(_LINK_KIND, b"ifb")),
        ]
        with _module_of("ifb"):
            self._netlink.ask(message, netlink.RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
        ifindex = next((link.ifindex for link in self.links() if link.name == name), None)
        if ifindex is None:
            raise OSError(errno.ENODEV, "it has gone again")
        message = LinkMessage()
        message["index"] = ifindex
        message["attrs"].append(("IFLA_IFALIAS", alias))
        self._netlink.ask(message, netlink.RTM_NEWLINK, NLM_F_ACK)
        return ifindex

    def delete_link(self, ifindex: int) -> None:
        message = LinkMessage()
        message["index"] = ifindex
        self._netlink.ask(message, netlink.RTM_DELLINK, NLM_F_ACK)


def own_namespace() -> int:
    """Identity of this thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


@contextlib.contextmanager
def _module_of(kind: str) -> Iterator[None]:
    """Names the module that the kernel lacks."""
    try:
        yield
    except OSError as err:
        if err.errno in NO_SUCH_KIND and kind in MODULES:
            raise OSError(err.errno, f"{err.strerror} (module {MODULES[kind]})") from err
        raise


@contextlib.contextmanager
def _at(memory: bytearray) -> Iterator[int]:
    """Its address."""
    yield ctypes.addressof((ctypes.c_char * len(memory)).from_buffer(memory))


def _message(ifindex: int, part: Part, *, with_options: bool) -> Any:
    message = TrafficMessage()
    message["index"], message["handle"], message["parent"], message["info"] = (
        ifindex,
        part.handle,
        part.parent,
        part.info,
    )
    message["attrs"].append(("TCA_KIND", part.kind))
    if part.chain:
        message["attrs"].append(("TCA_CHAIN", part.chain))
    if with_options and part.options:
        message["attrs"].append(("TCA_OPTIONS", part.options))
    return message


def _part(what: What, answer: bytes) -> Part:
    handle, parent, info = struct.unpack_from("=8xIII", answer)
    found = dict(attributes(answer[20:]))
    return Part(
        what=what,
        kind=_text(found.get(1)),
        handle=handle,
        parent=parent,
        info=info if what == "filter" else 0,
        options=found.get(2, b""),
        chain=_number(found.get(11)) or 0,
        stats=_stats(found.get(7, b"")),
    )


def _stats(data: bytes) -> Stats | None:
    """struct gnet_stats_basic, gnet_stats_queue. Source: include/uapi/linux/gen_stats.h."""
    found = dict(attributes(data))
    if 1 not in found or 3 not in found:
        return None
    sent_bytes, packets = struct.unpack_from("=QI", found[1])
    _, backlog_bytes, drops = struct.unpack_from("=III", found[3])
    return Stats(sent_bytes, packets, drops, backlog_bytes)


def _link(answer: bytes) -> Link:
    """Source: IFLA_*."""
    ifindex, flags = struct.unpack_from("=4xiI", answer)
    found = dict(attributes(answer[16:]))
    return Link(
        ifindex=ifindex,
        name=_text(found[3]),
        kind=_text(dict(attributes(found.get(18, b""))).get(_LINK_KIND)),
        is_up=bool(flags & _UP),
        master=_number(found.get(10)) or 0,
        tx_queues=_number(found.get(31)) or 1,
        mtu_bytes=_number(found.get(4)) or 1500,
        peer_namespace=_number(found.get(37)),
        alias=_text(found.get(20)),
    )


def _text(payload: bytes | None) -> str:
    return (payload or b"").rstrip(b"\0").decode(errors="surrogateescape")


def _number(payload: bytes | None) -> int | None:
    return int.from_bytes(payload, sys.byteorder, signed=True) if payload else None


def _devices_of(route: bytes) -> Iterator[int]:
    """Source: RTA_OIF, RTA_MULTIPATH."""
    found = dict(attributes(route[12:]))
    if ifindex := _number(found.get(4)):
        yield ifindex
    hops = found.get(9, b"")
    while len(hops) >= 8:  # struct rtnexthop, each with its own attributes
        length, ifindex = struct.unpack_from("=H2xi", hops)
        yield ifindex
        hops = hops[max(length + 3 & ~3, 8) :]
