"""The bpf(2) queries that tests and benchmarks need: which programs are loaded, and their run time.

Source: include/uapi/linux/bpf.h (union bpf_attr, struct bpf_prog_info). Needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BPF_PROG_LOAD, BPF_PROG_GET_NEXT_ID, BPF_PROG_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD = 5, 11, 13, 15
SYSCALL_NUMBER = {"x86_64": 321, "aarch64": 280}
PROG_INFO_BYTES = 232
NAME_OFFSET, RUN_TIME_OFFSET = 64, 192
STATS_SWITCH = Path("/proc/sys/kernel/bpf_stats_enabled")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Program:
    """One loaded BPF program. Run time and count grow only while kernel.bpf_stats_enabled is 1."""

    id: int
    name: str
    run_ns: int
    runs: int


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    result: int = _libc.syscall(SYSCALL_NUMBER[platform.machine()], command, attributes, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}")
    return result


def program(program_id: int) -> Program | None:
    """The program of this id; None: gone."""
    try:
        fd = _bpf(BPF_PROG_GET_FD_BY_ID, ctypes.create_string_buffer(struct.pack("=III", program_id, 0, 0), 12))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    try:
        info = ctypes.create_string_buffer(PROG_INFO_BYTES)
        request = struct.pack("=IIQ", fd, PROG_INFO_BYTES, ctypes.addressof(info))
        _bpf(BPF_OBJ_GET_INFO_BY_FD, ctypes.create_string_buffer(request, 16))
    finally:
        os.close(fd)
    name = info.raw[NAME_OFFSET : NAME_OFFSET + 16].split(b"\0")[0].decode()
    run_ns, runs = struct.unpack_from("=QQ", info.raw, RUN_TIME_OFFSET)
    return Program(program_id, name, run_ns, runs)


def programs() -> list[Program]:
    """All programs loaded on this host, in order of id."""
    found: list[Program] = []
    last = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("=III", last, 0, 0), 12)
        try:
            _bpf(BPF_PROG_GET_NEXT_ID, attributes)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return found
            raise
        last = struct.unpack_from("=I", attributes.raw, 4)[0]
        known = program(last)
        if known is not None:
            found.append(known)


def load_empty_classifier() -> int:
    """A program for tc that does nothing; its descriptor."""
    code = ctypes.create_string_buffer(bytes.fromhex("b700000000000000" + "9500000000000000"), 16)
    licence = ctypes.create_string_buffer(b"GPL")
    request = struct.pack("=IIQQ", 3, 2, ctypes.addressof(code), ctypes.addressof(licence)).ljust(72, b"\0")
    return _bpf(BPF_PROG_LOAD, ctypes.create_string_buffer(request, len(request)))


def program_of(fd: int) -> Program:
    """The program of this descriptor."""
    found = re.search(r"^prog_id:\s*(\d+)$", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.MULTILINE)
    assert found
    known = program(int(found[1]))
    assert known
    return known


def program_ids_of(pid: int) -> set[int]:
    """Ids of the programs that a descriptor of this process keeps loaded, by itself or through a link."""
    texts = []
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            texts.append(entry.read_text())
    return {int(found) for text in texts for found in re.findall(r"^prog_id:\s*(\d+)$", text, re.MULTILINE)}


@contextlib.contextmanager
def statistics() -> Iterator[None]:
    """kernel.bpf_stats_enabled is 1 inside, and afterwards what it was."""
    before = STATS_SWITCH.read_text()
    STATS_SWITCH.write_text("1")
    try:
        yield
    finally:
        STATS_SWITCH.write_text(before)
