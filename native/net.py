"""The classifier of packets for Python: load it, say which group goes to which class, read what groups have sent.

What the figures mean: bpf/net_class.h. libbpf loads it and pyroute2 attaches its descriptor: so a filter on a device
keeps it, and nothing has to be pinned.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from native._slackwater import ffi, lib
from native.probe import ProbeError, struct_dtype

OBJECT_PATH = Path(__file__).with_name("net_class.bpf.o")

ROW_NOBODY: int = lib.NET_ROW_NOBODY
"""The row of what no group is known of."""


@dataclass(frozen=True, slots=True)
class NetCounts:
    """(bytes, packets) that were sent: by nobody that is known, by cgroup2 id, by the device where it came in."""

    nobody: tuple[int, int]
    groups: Mapping[int, tuple[int, int]]
    devices: Mapping[int, tuple[int, int]]


class NetClassifier:
    """One for all devices. A context manager."""

    def __init__(self, max_groups: int, max_devices: int = 4096, *, use_net_cls: bool = False) -> None:
        """Load it. ProbeError: errno and one line that names the step."""
        error, message = ffi.new("int *"), ffi.new("char[]", lib.PROBE_MESSAGE_BYTES)
        options = ffi.new(
            "struct net_options *",
            {"max_groups": max_groups, "max_devices": max_devices, "use_net_cls": use_net_cls},
        )
        try:
            image = OBJECT_PATH.read_bytes()
        except OSError as err:
            raise ProbeError(err.errno, f"BPF object: {err.strerror}: {OBJECT_PATH.name} (run make)") from err
        self._net = lib.net_open(image, len(image), options, error, message)
        if self._net == ffi.NULL:
            self._net = None
            raise ProbeError(-error[0], ffi.string(message).decode("utf-8", "replace"))
        self._group = ffi.new("struct net_group *")
        self._dtype = struct_dtype("net_counts")
        self._before = np.zeros(max_groups + 1, self._dtype)
        """What a row had counted when it got its owner of now."""
        self._groups: dict[int, int] = {}
        self._devices: dict[int, int] = {}
        self._free_rows: list[int] = []
        self._rows_used = 1

    def close(self) -> None:
        """Give it up; where it is attached it stays. Again: nothing."""
        if self._net:
            lib.net_close(self._net)
        self._net = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def program_fd(self) -> int:
        return int(lib.net_program_fd(self._net))

    def set_group(self, cgroup_id: int, class_id: int) -> None:
        """What sockets of this cgroup2 directory send, and of those below that are not set, goes to that class. With
        `use_net_cls` the id is a net_cls.classid.

        ProbeError: there is no room.
        """
        group = self._filled(self._groups, cgroup_id, class_id)
        self._check(lib.net_set_group(self._net, cgroup_id, group), "group")

    def forget_group(self, cgroup_id: int) -> None:
        """One that is not set is no error."""
        self._free(self._groups, cgroup_id)
        self._check(lib.net_set_group(self._net, cgroup_id, ffi.NULL), "group")

    def set_device(self, ifindex: int, class_id: int) -> None:
        """The same for what came in by this device and is forwarded."""
        group = self._filled(self._devices, ifindex, class_id)
        self._check(lib.net_set_device(self._net, ifindex, group), "device")

    def forget_device(self, ifindex: int) -> None:
        self._free(self._devices, ifindex)
        self._check(lib.net_set_device(self._net, ifindex, ffi.NULL), "device")

    def counts(self) -> NetCounts:
        """What was sent since each was set."""
        rows = np.zeros(self._rows_used, self._dtype)
        self._check(lib.net_read_counts(self._net, ffi.from_buffer("struct net_counts[]", rows), len(rows)), "counters")
        for name in ("bytes", "packets"):
            rows[name] -= self._before[name][: len(rows)]
        of = [(int(row["bytes"]), int(row["packets"])) for row in rows]
        return NetCounts(
            nobody=of[ROW_NOBODY],
            groups={key: of[row] for key, row in self._groups.items()},
            devices={key: of[row] for key, row in self._devices.items()},
        )

    def run_stats(self) -> tuple[int, int]:
        """(run time in ns, runs), as far as the kernel was counting (`native.probe.enable_run_stats`)."""
        out = ffi.new("struct probe_run_stats *")
        self._check(lib.net_run_stats(self._net, out), "BPF statistics")
        return int(out.run_ns), int(out.runs)

    def _filled(self, rows: dict[int, int], key: int, class_id: int) -> Any:
        """struct net_group of it. One that is new has a row that counts from 0."""
        if key not in rows:
            if not self._free_rows and self._rows_used == len(self._before):
                raise ProbeError(errno.ENOSPC, f"classifier: no room for more than {len(self._before) - 1} groups")
            rows[key] = self._free_rows.pop() if self._free_rows else self._rows_used
            self._rows_used = max(self._rows_used, rows[key] + 1)
        self._group.class_id, self._group.row = class_id, rows[key]
        return self._group

    def _free(self, rows: dict[int, int], key: int) -> None:
        """Its row may be another's."""
        row = rows.pop(key, None)
        if row is not None:
            all_rows = np.zeros(self._rows_used, self._dtype)
            buffer = ffi.from_buffer("struct net_counts[]", all_rows)
            self._check(lib.net_read_counts(self._net, buffer, len(all_rows)), "counters")
            self._before[row] = all_rows[row]
            self._free_rows.append(row)

    def _check(self, result: int, step: str) -> None:
        if result < 0:
            code = errno.ENOSPC if result == -errno.E2BIG else -result
            raise ProbeError(code, f"classifier: {step}: {os.strerror(code)}")
