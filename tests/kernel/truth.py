"""What the kernel itself says of run-queue waits: taskstats records of tasks that end.

Every task that ends while `exits()` is open is recorded with `cpu_delay_total`, its whole run-queue wait in ns
(the same sched_info.run_delay that /proc/PID/schedstat shows as field 2). Source:
Documentation/accounting/taskstats.rst, include/uapi/linux/{taskstats,genetlink}.h; fields are only added at the end.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NETLINK_GENERIC = 16
GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_REGISTER_CPUMASK = 1, 3
TASKSTATS_TYPE_STATS, TASKSTATS_TYPE_AGGR_PID = 3, 4
NLM_F_REQUEST, NLM_F_ACK, NLMSG_ERROR = 1, 4, 2
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER_BYTES = 256 << 20

# Offsets in struct taskstats: cpu_delay_total, ac_pid + ac_ppid, ac_tgid (since version 12, Linux 5.19).
DELAY_OFFSET, PIDS_OFFSET, TGID_OFFSET = 24, 128, 368


@dataclass(frozen=True)
class Exit:
    """One task that ended."""

    pid: int
    tgid: int
    ppid: int
    waited_ns: int


class Exits:
    """The records so far, held by the socket; `read` proves that it did not overflow."""

    def __init__(self, netlink: socket.socket, family: int) -> None:
        self._netlink = netlink
        self._family = family

    def read(self) -> list[Exit]:
        """All records since the last read. OSError(ENOBUFS): some were lost."""
        exits: list[Exit] = []
        while True:
            try:
                data = self._netlink.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return exits
            for kind, payload in _messages(data):
                if kind == self._family:
                    exits.extend(_exits(payload[4:]))

    def of_tree(self, pid: int) -> list[Exit]:
        """The records since the last read of the process `pid`, its threads and its children."""
        return [e for e in self.read() if pid in (e.pid, e.tgid, e.ppid)]


@contextlib.contextmanager
def exits() -> Iterator[Exits]:
    """Listen to the end of every task on every CPU."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        netlink.bind((0, 0))
        name = _attribute(CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0")
        reply = _ask(netlink, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name)
        family = int.from_bytes(dict(_attributes(reply[4:]))[CTRL_ATTR_FAMILY_ID], "little")
        cpus = Path("/sys/devices/system/cpu/possible").read_text().strip().encode() + b"\0"
        _ask(netlink, family, TASKSTATS_CMD_GET, _attribute(TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, cpus))
        yield Exits(netlink, family)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += size + -size % 4


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, offset)
        yield kind, data[offset + 16 : offset + size]
        offset += size + -size % 4


def _ask(netlink: socket.socket, family: int, command: int, attributes: bytes) -> bytes:
    """Send one request; its answer, b"" when that is an acknowledgement. OSError: refused."""
    body = struct.pack("=BBH", command, 1, 0) + attributes
    flags = NLM_F_REQUEST | (0 if family == GENL_ID_CTRL else NLM_F_ACK)
    netlink.send(struct.pack("=IHHII", 16 + len(body), family, flags, 1, 0) + body)
    kind, payload = next(_messages(netlink.recv(65536)))
    if kind != NLMSG_ERROR:
        return payload
    error = -struct.unpack_from("=i", payload)[0]
    if error:
        raise OSError(error, "taskstats request refused")
    return b""


def _exits(attributes: bytes) -> Iterator[Exit]:
    for kind, value in _attributes(attributes):
        if kind != TASKSTATS_TYPE_AGGR_PID:
            continue
        stats = dict(_attributes(value))[TASKSTATS_TYPE_STATS]
        pid, ppid = struct.unpack_from("=II", stats, PIDS_OFFSET)
        (tgid,) = struct.unpack_from("=I", stats, TGID_OFFSET)
        (waited_ns,) = struct.unpack_from("=Q", stats, DELAY_OFFSET)
        yield Exit(pid, tgid, ppid, waited_ns)
