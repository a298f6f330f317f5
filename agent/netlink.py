"""Messages of rtnetlink and the socket that carries them, by pyroute2. A socket is in its thread's network namespace.

Answers are the kernel's bytes (agent/traffic.py takes attributes out of them): pyroute2 decodes all of the some forty
attributes of a link, which takes 0.25 ms for each.
Source: rtnetlink(7), include/uapi/linux/{rtnetlink,if_link,net_namespace}.h.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTCLASS, RTM_DELTCLASS, RTM_GETTCLASS = 40, 41, 42
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTM_GETNSID = 90
_ROUTE = 0
"""Source: NETLINK_ROUTE."""
_HEADER_BYTES = 16
_KINDS_MIN = 16
"""Below are what an error or an end is. Source: NLMSG_MIN_TYPE."""
_DUMP_TRIES = 5
"""A list that changed while the kernel gave it is asked for again."""


@contextlib.contextmanager
def _without_its_init(package: str) -> Iterator[None]:
    """pyroute2's own imports all that it has, down to a console and a database: 16 MiB. What is used here takes 0.5."""
    if package in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ImportError(f"no {package}: pip install -r requirements.txt")
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[package]  # who wants all of it may have it


with _without_its_init("pyroute2"):
    from pyroute2.netlink import (
        NLM_F_ACK,
        NLM_F_CREATE,
        NLM_F_DUMP,
        NLM_F_DUMP_INTR,
        NLM_F_EXCL,
        NLM_F_REPLACE,
        NLM_F_REQUEST,
        nlmsg,
    )
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nlsocket import Marshal, NetlinkSocket

__all__ = ["NLM_F_ACK", "NLM_F_CREATE", "NLM_F_DUMP", "NLM_F_EXCL", "NLM_F_REPLACE"]


class TrafficMessage(nlmsg):  # type: ignore[misc]
    """struct tcmsg; its options stay bytes."""

    prefix = "TCA_"
    fields = (
        ("family", "B"),
        ("pad1", "B"),
        ("pad2", "H"),
        ("index", "i"),
        ("handle", "I"),
        ("parent", "I"),
        ("info", "I"),
    )
    nla_map = ((1, "TCA_KIND", "asciiz"), (2, "TCA_OPTIONS", "cdata"), (11, "TCA_CHAIN", "uint32"))


class LinkMessage(nlmsg):  # type: ignore[misc]
    """struct ifinfomsg."""

    prefix = "IFLA_"
    fields = (
        ("family", "B"),
        ("pad", "B"),
        ("type", "H"),
        ("index", "i"),
        ("flags", "I"),
        ("change", "I"),
    )
    nla_map = (
        (3, "IFLA_IFNAME", "asciiz"),
        (18, "IFLA_LINKINFO", "cdata"),
        (20, "IFLA_IFALIAS", "asciiz"),
        (31, "IFLA_NUM_TX_QUEUES", "uint32"),
    )


class RouteMessage(nlmsg):  # type: ignore[misc]
    """struct rtmsg."""

    fields = (("family", "B"), ("pad", "11x"))


class NamespaceMessage(nlmsg):  # type: ignore[misc]
    """struct rtgenmsg."""

    prefix = "NETNSA_"
    fields = (("family", "B"), ("pad", "3x"))
    nla_map = ((2, "NETNSA_PID", "uint32"),)


class _Marshal(Marshal):  # type: ignore[misc]
    def parse_one_message(self, key: int, flags: int, sequence_number: int, data: Any, offset: int, length: int) -> Any:
        """Of a route that is no default nothing: a router may have a million."""
        if key < _KINDS_MIN:
            return super().parse_one_message(key, flags, sequence_number, data, offset, length)
        if key == RTM_NEWROUTE and data[offset + _HEADER_BYTES + 1]:  # dst_len
            return None
        header = {"type": key, "flags": flags, "sequence_number": sequence_number, "error": None}
        return {"header": header, "payload": bytes(data[offset + _HEADER_BYTES : offset + length])}


class Netlink:
    """Its calls raise OSError with the kernel's errno and words."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(family=_ROUTE, ext_ack=True)
        self._socket.marshal = _Marshal()
        self._socket.bind()

    def close(self) -> None:
        self._socket.close()

    def ask(self, message: Any, kind: int, flags: int = 0) -> tuple[bytes, ...]:
        """What the kernel answers, from after the header on: with NLM_F_DUMP all of these.

        Not by pyroute2's nlm_request: that tries again for 9 s what the kernel refuses as busy.
        """
        for _ in range(_DUMP_TRIES):
            number = self._socket.addr_pool.alloc()
            try:
                self._socket.put(message, kind, NLM_F_REQUEST | flags, msg_seq=number)
                answers = self._socket.get(msg_seq=number)
            except NetlinkError as err:
                raise OSError(err.code, str(err.args[1] or os.strerror(err.code))) from err
            finally:
                self._socket.addr_pool.free(number, ban=0xFF)  # what comes late is nobody's
            if not any(answer["header"]["flags"] & NLM_F_DUMP_INTR for answer in answers):
                return tuple(answer["payload"] for answer in answers if answer["header"]["type"] >= _KINDS_MIN)
        raise OSError(errno.EAGAIN, "it changes while it is read")
