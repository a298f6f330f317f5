"""The probe for Python: open it, drain it often, cut a tick now and then. All in one thread; the GIL is released in C.

What the figures mean: bpf/sched_wait.h, bpf/throttle.h, native/groups.h. This is I/O only; the records of the
stages are made from it in agent/samples/wait.py.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from native._slackwater import ffi, lib

OBJECT_PATH = Path(__file__).with_name("slackwater.bpf.o")

TOTAL_SCHEMA: int = lib.TOTAL_SCHEMA
"""Schema of the cumulative histograms (`Probe.buckets`)."""


class ProbeError(OSError):
    """The probe could not be opened or used. `strerror` is one line: the step, and what the kernel said."""


class Unthrottle(IntEnum):
    """How the end of a throttle is seen. OFF: by the first switch to a task of the group."""

    OFF = lib.PROBE_UNTHROTTLE_OFF
    KPROBE = lib.PROBE_UNTHROTTLE_KPROBE
    FENTRY = lib.PROBE_UNTHROTTLE_FENTRY


_UNTHROTTLE = {
    "off": lib.PROBE_UNTHROTTLE_OFF,
    "kprobe": lib.PROBE_UNTHROTTLE_KPROBE,
    "fentry": lib.PROBE_UNTHROTTLE_FENTRY,
    "auto": lib.PROBE_UNTHROTTLE_AUTO,
}


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """`exclude_self`: the waits of this process are counted, not sent. `cgroup_root`: directory of the
    cpu hierarchy, for `cgroup_stats`; None: do without. `unthrottle`: auto, fentry, kprobe or off."""

    force_wakeup_stamps: bool = False
    unthrottle: str = "auto"
    ring_bytes: int = 1 << 20
    cpus_per_ring: int = 8
    max_groups: int = 16384
    exclude_self: bool = True
    cgroup_root: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeFeatures:
    """What this kernel gave. An errno is 0 where it works, else the reason (ENOENT: the kernel does not have it)."""

    sched_info: bool
    throttle_source: str
    """"task": tasks are throttled one by one (6.18 and later); "cfs_rq": whole run queues."""
    unthrottle: str | None
    """fentry or kprobe: the true end of a throttle is seen; None: its end is the next run of the group."""
    fentry_errno: int
    kprobe_errno: int
    cgroup_events_errno: int
    cgroup_stats_errno: int


class CgroupEvent(NamedTuple):
    """A birth ("mkdir"), death ("rmdir") or "rename". `path` is None if it may be cut off: ask the file system."""

    kind: str
    id: int
    path: str | None


class Throttle(NamedTuple):
    """The quota of group `owner_id` ran out on a CPU. `time_ns`: CLOCK_MONOTONIC, in the kernel."""

    owner_id: int
    cpu: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Counters:
    """struct probe_counters and struct groups_counters, since the probe was opened."""

    switches: int
    waits: int
    produced: int
    dropped: int
    sampled_out: int
    own: int
    own_wait_ns: int
    unknown: int
    events_lost: int
    consumed: int
    groups_refused: int
    sketch_refused: int
    pairs_refused: int
    malformed: int
    groups_live: int
    groups_born: int
    groups_reused: int

    @property
    def pending(self) -> int:
        """Samples in batches that are being filled; 0 after `detach` and `tick`."""
        return self.waits - self.produced - self.sampled_out - self.own - self.unknown


@dataclass(frozen=True, slots=True)
class ProbeTick:
    """All since the last tick. Structured arrays: struct group_tick and struct group_pair."""

    groups: NDArray[np.void]
    pairs: NDArray[np.void]


def struct_dtype(name: str) -> np.dtype[np.void]:
    """The numpy type of a C struct, from the layout that cffi has compiled in."""
    kinds = {"uint64_t": "<u8", "uint32_t": "<u4", "int32_t": "<i4", "double": "<f8"}
    struct = ffi.typeof(f"struct {name}")
    names, formats, offsets = [], [], []
    for field, member in struct.fields:
        kind = member.type
        shape = () if kind.kind == "primitive" else (kind.length,)
        names.append(field)
        formats.append((kinds[kind.cname if not shape else kind.item.cname], shape))
        offsets.append(member.offset)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": ffi.sizeof(struct)})


def cpu_hierarchy(proc_root: str = "/proc") -> tuple[int, bool]:
    """(hierarchy id, whether it is cgroup2) of the hierarchy that has the cpu controller. Source: cgroups(7)."""
    for line in Path(proc_root, "self/cgroup").read_text(errors="surrogateescape").splitlines():
        number, controllers, _ = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return int(number), False
    return 0, True


class Probe:
    """The BPF programs in the running kernel and the groups that they fill. A context manager."""

    def __init__(self, handle: Any, groups: Any, features: ProbeFeatures) -> None:
        """Not for use: `Probe.open`."""
        self._probe = handle
        self._groups = groups
        self.features = features
        self.drain_cpu_ns = 0
        """CPU time of all `drain`s: what the number of samples costs us."""
        self._group_dtype = struct_dtype("group_tick")
        self._pair_dtype = struct_dtype("group_pair")
        self._bucket_dtype = struct_dtype("group_bucket")
        self._stat_dtype = struct_dtype("cgroup_cpu_stat")
        self._counters = ffi.new("struct probe_counters *")
        self._groups_counters = ffi.new("struct groups_counters *")
        self._stat_rows = ffi.new("struct cgroup_cpu_stat **")
        self._buckets_rows = 1024
        self._events = ffi.new("struct cgroup_event[64]")
        self._throttles = ffi.new("struct throttle_event[64]")

    @classmethod
    def open(cls, options: ProbeOptions) -> Self:
        """Load and attach. ProbeError: errno and one line that names the step (no BTF, no permission, ...)."""
        hierarchy_id, is_v2 = cpu_hierarchy()
        root = -1 if options.cgroup_root is None else os.open(options.cgroup_root, os.O_RDONLY | os.O_DIRECTORY)
        c_options = ffi.new(
            "struct probe_options *",
            {
                "ring_bytes": options.ring_bytes,
                "max_groups": options.max_groups,
                "cpus_per_ring": options.cpus_per_ring,
                "exclude_caller": options.exclude_self,
                "cpu_hierarchy_id": hierarchy_id,
                "groups_are_cgroup2": is_v2,
                "force_wakeup_stamps": options.force_wakeup_stamps,
                "trace_unthrottle": _UNTHROTTLE[options.unthrottle],
                "cgroup_root_fd": root,
            },
        )
        features, error = ffi.new("struct probe_features *"), ffi.new("int *")
        message = ffi.new("char[]", lib.PROBE_MESSAGE_BYTES)
        groups = lib.groups_new(options.max_groups)
        try:
            if groups == ffi.NULL:
                raise ProbeError(errno.ENOMEM, f"no memory for {options.max_groups} groups")
            image = OBJECT_PATH.read_bytes()
            handle = lib.probe_open(image, len(image), c_options, groups, features, error, message)
        except ProbeError:
            raise
        except OSError as err:
            lib.groups_free(groups)
            raise ProbeError(err.errno, f"BPF object: {err.strerror}: {OBJECT_PATH.name} (run make)") from err
        finally:
            if root >= 0:
                os.close(root)
        if handle == ffi.NULL:
            lib.groups_free(groups)
            raise ProbeError(-error[0], ffi.string(message).decode("utf-8", "replace"))
        return cls(handle, groups, _features(features))

    def close(self) -> None:
        """Detach and unload; again: nothing."""
        if self._probe:
            lib.probe_close(self._probe)
            lib.groups_free(self._groups)
        self._probe = self._groups = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def detach(self) -> None:
        """Nothing new from now on; what was measured can still be read: after a tick the counters add up exactly."""
        lib.probe_detach(self._probe)

    @property
    def event_fd(self) -> int:
        """Readable when a throttle began. `drain` makes it quiet again."""
        return int(lib.probe_event_fd(self._probe))

    def drain(self) -> int:
        """Take what the kernel has sent. Number of records; ProbeError EBADMSG: a ring was broken and was reset."""
        begin_ns = time.thread_time_ns()
        records = lib.probe_drain(self._probe)
        self.drain_cpu_ns += time.thread_time_ns() - begin_ns
        return int(_checked(records, "ring"))

    def drain_events(self) -> int:
        """As `drain`, but events only (throttles, births, deaths): what is in a hurry."""
        return int(_checked(lib.probe_drain_events(self._probe), "event ring"))

    def queue_throttles(self, on: bool) -> None:
        """Keep throttles that begin for `throttles`, or not, which is so at first."""
        lib.probe_queue_throttles(self._probe, on)

    def throttles(self) -> tuple[list[Throttle], int]:
        """Throttles that began and that a drain brought, in order, and how many more did not fit (4096)."""
        lost, lost_now = 0, ffi.new("uint64_t *")
        throttles: list[Throttle] = []
        while True:
            n = lib.probe_take_throttles(self._probe, self._throttles, len(self._throttles), lost_now)
            lost += lost_now[0]
            if not n:
                return throttles, lost
            events = self._throttles[0:n]
            throttles += [Throttle(int(event.owner_id), int(event.cpu), int(event.time_ns)) for event in events]

    def flush(self) -> int:
        """Have part-filled batches sent. Number of CPUs that had one."""
        return int(_checked(lib.probe_flush(self._probe), "flush"))

    def tick(self) -> ProbeTick:
        """Flush, drain, and cut: everything since the last tick."""
        self.flush()
        self.drain()
        n_rows, n_pairs = ffi.new("size_t *"), ffi.new("size_t *")
        lib.groups_size(self._groups, n_rows, n_pairs)
        groups = np.zeros(n_rows[0], self._group_dtype)
        pairs = np.zeros(n_pairs[0], self._pair_dtype)
        _checked(
            lib.groups_tick(
                self._groups,
                ffi.from_buffer("struct group_tick[]", groups),
                len(groups),
                n_rows,
                ffi.from_buffer("struct group_pair[]", pairs),
                len(pairs),
                n_pairs,
            ),
            "tick",
        )
        return ProbeTick(groups, pairs)

    def buckets(self) -> NDArray[np.void]:
        """The cumulative histograms as of the last tick: struct group_bucket, sparse, at TOTAL_SCHEMA."""
        while True:
            out = np.zeros(self._buckets_rows, self._bucket_dtype)
            n = lib.groups_buckets(self._groups, ffi.from_buffer("struct group_bucket[]", out), len(out))
            if n >= 0:
                return out[:n]
            self._buckets_rows *= 2

    def cgroup_events(self) -> tuple[list[CgroupEvent], int]:
        """Births, deaths and renames that `drain` brought, in order, and how many were lost (then re-scan)."""
        lost, lost_now = 0, ffi.new("uint64_t *")
        events: list[CgroupEvent] = []
        while True:
            n = lib.probe_take_cgroup_events(self._probe, self._events, len(self._events), lost_now)
            lost += lost_now[0]
            if not n:
                return events, lost
            events += [_cgroup_event(self._events[i]) for i in range(n)]

    def cgroup_stats(self) -> NDArray[np.void] | None:
        """The scheduler's accounts of each group but the root: struct cgroup_cpu_stat. None: not on this kernel."""
        if self.features.cgroup_stats_errno:
            return None
        n = int(_checked(lib.probe_cgroup_stats(self._probe, self._stat_rows), "cgroup iterator"))
        if not n:
            return np.zeros(0, self._stat_dtype)
        return np.frombuffer(ffi.buffer(self._stat_rows[0], n * self._stat_dtype.itemsize), self._stat_dtype).copy()

    def forget(self, ids: Iterable[int]) -> None:
        """Free the rows of groups that are known to be gone, after a while."""
        for group_id in ids:
            lib.groups_on_removed(self._groups, group_id)

    def set_sampling(self, factor: int) -> None:
        """Send one wait in `factor` (>= 1) from now on."""
        lib.probe_set_sampling_factor(self._probe, factor)

    def counters(self) -> Counters:
        """Everything that was counted, summed over CPUs."""
        lib.probe_counters(self._probe, self._counters)
        lib.groups_read_counters(self._groups, self._groups_counters)
        ours = dir(self._groups_counters[0])
        return Counters(
            **{
                f.name: int(getattr(self._groups_counters if f.name in ours else self._counters, f.name))
                for f in fields(Counters)
            }
        )

    def run_stats(self) -> tuple[int, int]:
        """(run time in ns, runs) of our programs in other tasks' time, as far as the kernel was counting."""
        out = ffi.new("struct probe_run_stats *")
        _checked(lib.probe_run_stats(self._probe, out), "BPF statistics")
        return int(out.run_ns), int(out.runs)


def enable_run_stats() -> int:
    """The kernel counts the run time of all BPF programs while the returned descriptor is open. ProbeError."""
    return int(_checked(lib.probe_stats_enable(), "BPF statistics"))


def _checked(result: int, step: str) -> int:
    if result < 0:
        raise ProbeError(-result, f"{step}: {os.strerror(-result)}")
    return result


def _features(found: Any) -> ProbeFeatures:
    return ProbeFeatures(
        sched_info=bool(found.sched_info),
        throttle_source="task" if found.throttle_per_task else "cfs_rq",
        unthrottle=Unthrottle(found.unthrottle).name.lower() if found.unthrottle else None,
        fentry_errno=found.fentry_errno,
        kprobe_errno=found.kprobe_errno,
        cgroup_events_errno=found.cgroup_events_errno,
        cgroup_stats_errno=found.cgroup_stats_errno,
    )


def _cgroup_event(event: Any) -> CgroupEvent:
    kind = {lib.EVENT_CGROUP_MKDIR: "mkdir", lib.EVENT_CGROUP_RMDIR: "rmdir", lib.EVENT_CGROUP_RENAME: "rename"}
    path = os.fsdecode(ffi.string(event.path)) if 1 < event.path_bytes < lib.CGROUP_PATH_BYTES else None
    return CgroupEvent(kind[event.kind], int(event.id), path)
