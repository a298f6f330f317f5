"""What the running agent is doing, as a file that anybody may read: it is there whole, or not at all.

The loop writes it every tick to /run, which is memory; `slackwater status` reads it. Whoever reads it must ask whether
its writer still lives (`life_of`): a pid alone may have passed to another process.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

from agent.config_control import SliConfig
from agent.config_explain import one_line
from agent.control import Decision, Enforce, Hold, Knob, KnobState, KnobValue, Outcome, SliValue
from agent.errors import HostError
from agent.history.entries import Moment, sameness_of_hold
from agent.history.schema import stored
from agent.records import NetworkProfile
from agent.samples.files import read_file
from agent.status_partitions import PartitionStatus
from agent.units import NS_PER_S, ticks_to_ns

SCHEMA = 1
DECISIONS_MAX = 5
STALE_TICKS, STALE_S_MIN = 3, 3.0


class _Part(msgspec.Struct, frozen=True):
    """Of the document. Keys may be added, never renamed or removed."""


class Process(_Part, frozen=True):
    """`start_ticks` since boot tells it from the next process with its pid, which means nothing in other namespaces."""

    pid: int
    start_ticks: int | None
    boot_id: str
    pid_namespace: str


class HoldStatus(_Part, frozen=True):
    """Nothing is done by `controller` (None: by nobody)."""

    controller: str | None
    reason: str
    since_wall_ns: int


class KnobStatus(_Part, frozen=True):
    """A setting that is not as its owner set it (`base`), or that is left alone because others write it too often."""

    group_id: int
    path: str | None
    knob: Knob
    base: KnobValue
    current: KnobValue
    is_foreign: bool


class DeviceStatus(_Part, frozen=True):
    """A network device that is shaped, or would be. Rates over the last tick, by class; None: not known."""

    name: str
    link_bytes_per_s: int | None
    is_ours: bool
    class_bytes_per_s: dict[str, float | None]
    class_backlog_bytes: dict[str, int]
    class_dropped_packets: dict[str, int]


class SliStatus(_Part, frozen=True):
    """`value_ns` None: not known, `error` says why."""

    name: str
    group: str
    target_ns: float
    value_ns: float | None
    error: str | None = None


class DecisionStatus(_Part, frozen=True):
    """`path` of the group for whose sake; `results`: of the outcomes, each once."""

    wall_ns: int
    controller: str
    path: str | None
    cause: str | None
    reason: str
    gives_back: bool
    results: tuple[str, ...]


class HistoryStatus(_Part, frozen=True):
    """Entries since the start. `error`: why none can be written now."""

    path: str
    written: int
    dropped: int
    error: str | None


class Status(_Part, frozen=True):
    """The document. `enforce` as a whole, `controllers`: of each."""

    schema: int
    version: str
    process: Process
    started_wall_ns: int
    written_wall_ns: int
    written_monotonic_ns: int
    tick_s: float
    enforce: Enforce
    controllers: dict[str, Enforce]
    groups: int
    holds: tuple[HoldStatus, ...]
    knobs: tuple[KnobStatus, ...]
    slis: tuple[SliStatus, ...]
    decisions: tuple[DecisionStatus, ...]
    """The last ones, the newest last."""
    history: HistoryStatus | None
    devices: tuple[DeviceStatus, ...] = ()
    sends_bytes_per_s: dict[str, float] = {}
    """Of groups that have sent by these devices in the last tick, by path."""
    partitions: tuple[PartitionStatus, ...] = ()


def knobs_that_differ(
    knobs: Mapping[tuple[int, Knob], KnobState],
    paths: Mapping[int, str],
    names: Mapping[Knob, Mapping[int, str]],
) -> tuple[KnobStatus, ...]:
    """By path; a group without one is gone. `names`: of what is no group, by knob (devices, by ifindex; partitions)."""
    differ = (
        KnobStatus(
            group_id,
            _path(names.get(knob, paths).get(group_id)),
            knob,
            state.base,
            state.current,
            state.is_foreign,
        )
        for (group_id, knob), state in knobs.items()
        if state.current != state.base or state.is_foreign
    )
    return tuple(sorted(differ, key=lambda item: (item.path or "", item.group_id, item.knob)))


def device_statuses(network: NetworkProfile | None) -> tuple[DeviceStatus, ...]:
    """None: the network is not looked at."""
    return tuple(
        DeviceStatus(
            name=stored(device.sample.name),
            link_bytes_per_s=device.sample.link_bytes_per_s,
            is_ours=bool(device.sample.classes),
            class_bytes_per_s={
                name: None if math.isnan(rate) else rate for name, rate in device.class_bytes_per_s.items()
            },
            class_backlog_bytes={name: each.backlog_bytes for name, each in device.sample.classes.items()},
            class_dropped_packets={name: each.dropped_packets for name, each in device.sample.classes.items()},
        )
        for device in (network.devices if network else ())
    )


def sends_of(network: NetworkProfile | None, paths: Mapping[int, str]) -> dict[str, float]:
    """What groups send, without those that send nothing. Bytes per s."""
    rates = network.group_bytes_per_s if network else {}
    return {stored(paths[group_id]): rate for group_id, rate in rates.items() if rate and group_id in paths}


class SliSource(Protocol):
    """What is used of agent.samples.sli.SliSampler."""

    def values(self, now_ns: int) -> Mapping[str, SliValue]: ...
    def problems(self) -> Mapping[str, str]: ...


def sli_statuses(slis: Iterable[SliConfig], source: SliSource | None) -> tuple[SliStatus, ...]:
    """Now, in the order of the configuration."""
    values, problems = (source.values(time.monotonic_ns()), source.problems()) if source else ({}, {})
    return tuple(
        SliStatus(
            sli.name,
            sli.group,
            sli.target_ns,
            values[sli.name].value if sli.name in values else None,
            problems.get(sli.name),
        )
        for sli in slis
    )


class StatusFile:
    """Keeps what a status needs of the past, and writes it. No call raises: what fails is in `error`."""

    def __init__(
        self,
        path: Path,
        *,
        version: str,
        tick_s: float,
        enforce: Enforce,
        controllers: Mapping[str, Enforce],
        clock: Callable[[], Moment],
        proc: Path = Path("/proc"),
    ) -> None:
        self.error: str | None = None
        self._path = path
        self._temporary = f"{path}.new"
        self._version, self._tick_s = version, tick_s
        self._enforce, self._controllers = enforce, dict(controllers)
        self._clock = clock
        self._process = own_process(proc)
        self._started_wall_ns = clock().wall_ns - own_age_ns(self._process)
        self._hold_since: dict[object, int] = {}
        self._decisions: deque[DecisionStatus] = deque(maxlen=DECISIONS_MAX)

    def decided(self, decision: Decision, outcomes: Iterable[Outcome], path: str | None) -> None:
        """`path` of the group for whose sake."""
        self._decisions.append(
            DecisionStatus(
                self._clock().wall_ns,
                decision.controller,
                _path(path),
                decision.cause,
                stored(decision.reason),
                decision.gives_back,
                tuple(dict.fromkeys(outcome.result.value for outcome in outcomes)),
            )
        )

    def write(
        self,
        *,
        groups: int,
        holds: Iterable[Hold],
        knobs: tuple[KnobStatus, ...],
        slis: tuple[SliStatus, ...],
        history: HistoryStatus | None,
        devices: tuple[DeviceStatus, ...] = (),
        sends_bytes_per_s: dict[str, float] | None = None,
        partitions: tuple[PartitionStatus, ...] = (),
    ) -> None:
        """To be called every tick. `knobs`: see `knobs_that_differ`."""
        now = self._clock()
        status = Status(
            schema=SCHEMA,
            version=self._version,
            process=self._process,
            started_wall_ns=self._started_wall_ns,
            written_wall_ns=now.wall_ns,
            written_monotonic_ns=now.monotonic_ns,
            tick_s=self._tick_s,
            enforce=self._enforce,
            controllers=self._controllers,
            groups=groups,
            holds=self._holds(holds, now),
            knobs=knobs,
            slis=slis,
            decisions=tuple(self._decisions),
            history=history,
            devices=devices,
            sends_bytes_per_s=sends_bytes_per_s or {},
            partitions=partitions,
        )
        try:
            write_atomically(self._path, self._temporary, msgspec.json.encode(status))
            self.error = None
        except OSError as err:
            self.error = f"{self._path}: {err.strerror}"

    def close(self) -> None:
        """No agent, no status."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _holds(self, holds: Iterable[Hold], now: Moment) -> tuple[HoldStatus, ...]:
        unique = {sameness_of_hold(hold): hold for hold in holds}
        self._hold_since = {key: self._hold_since.get(key, now.wall_ns) for key in unique}
        return tuple(
            HoldStatus(hold.controller, stored(hold.reason), self._hold_since[key]) for key, hold in unique.items()
        )


def write_atomically(path: Path, temporary: str, data: bytes) -> None:
    """Readers see the old content or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with open(fd, "wb") as stream:
        os.fchmod(fd, 0o644)  # whatever the umask
        stream.write(data)
    os.replace(temporary, path)


def read_status(path: Path) -> Status | None:
    """None: no agent has left one. Raises HostError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as err:
        raise HostError.of(err, str(path)) from err
    try:
        return msgspec.json.decode(data, type=Status)
    except msgspec.DecodeError as err:
        raise HostError(f"not a status of this version of slackwater: {one_line(str(err))}", path=str(path)) from err


class Life(StrEnum):
    """Of the writer of a status."""

    RUNNING = "running"
    SILENT = "silent"
    """It lives, and has not written for STALE_TICKS."""
    DEAD = "dead"


def life_of(status: Status, now: Moment, proc: Path = Path("/proc")) -> Life:
    """In another pid namespace than the writer's only the age of the status can tell."""
    here = own_process(proc)
    writer = status.process
    stale_ns = max(STALE_TICKS * status.tick_s, STALE_S_MIN) * NS_PER_S
    is_fresh = 0 <= now.monotonic_ns - status.written_monotonic_ns <= stale_ns
    if writer.boot_id != here.boot_id:
        return Life.DEAD
    if writer.pid_namespace == here.pid_namespace and process_start_ticks(writer.pid, proc) != writer.start_ticks:
        return Life.DEAD
    if is_fresh:
        return Life.RUNNING
    return Life.SILENT if writer.pid_namespace == here.pid_namespace else Life.DEAD


def own_process(proc: Path = Path("/proc")) -> Process:
    pid = os.getpid()
    try:
        boot_id = read_file(f"{proc}/sys/kernel/random/boot_id").decode().strip()
        namespace = os.readlink(f"{proc}/self/ns/pid")
    except OSError:
        boot_id = namespace = ""
    return Process(pid, process_start_ticks(pid, proc), boot_id, namespace)


def own_age_ns(own: Process) -> int:
    """How long this process has run; 0 where that is not known."""
    if own.start_ticks is None:
        return 0
    since_boot_ns = ticks_to_ns(own.start_ticks, os.sysconf("SC_CLK_TCK"))
    return max(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - since_boot_ns, 0)


# 4242 (a) b) S 1 4242 4242 0 -1 4194560 120 0 0 0 1 2 0 0 20 0 1 0 123456 ...
def process_start_ticks(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)), counted from the last ")" since a name may hold anything; None: no such."""
    try:
        fields = read_file(f"{proc}/{pid}/stat").rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _path(path: str | None) -> str | None:
    return None if path is None else stored(path)
