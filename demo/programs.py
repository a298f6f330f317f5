"""The demo's programs: compiled, started in their groups, asked for their CPU time, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernel.workloads import Group

STOP_S = 10
REAL_TIME_PRIORITY = 2
"""Before the agent, which has 1."""
CONNECTIONS, GRACE_MS, LEAD_S = 512, 5000, 0.5
"""Of the load: more connections than the service has requests at once; how long it waits for late answers; how long
before its first request it starts."""


@dataclass
class Program:
    """A running process. It dies with the demo, however that dies."""

    popen: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        """Of all its threads, by its CPU clock, clock_getcpuclockid(3), which also the dead have until waited for."""
        return time.clock_gettime(~self.popen.pid << 3 | 2)

    def has_ended(self) -> bool:
        """Not waited for yet."""
        return os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        self.popen.terminate()
        try:
            self.popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


@dataclass
class Batch(Program):
    counts: Path

    def units(self) -> int:
        """Done so far, by all threads."""
        return int(np.fromfile(self.counts, np.uint64)[::8].sum())


@dataclass
class Service(Program):
    port: int


@dataclass(frozen=True)
class Latencies:
    """Of one run of the load, a row per request; s after its start, NaN: never."""

    start_s: float
    """CLOCK_MONOTONIC."""
    due_s: NDArray[np.float64]
    sent_s: NDArray[np.float64]
    answered_s: NDArray[np.float64]

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """From when it was due; infinite when it was not answered."""
        return np.nan_to_num(self.answered_s - self.due_s, nan=np.inf)

    @property
    def late_s(self) -> NDArray[np.float64]:
        """By how much it was sent after it was due, where a connection was free."""
        return self.sent_s - self.due_s


@dataclass
class Load(Program):
    start_s: float
    result: Path

    def latencies(self) -> Latencies:
        """After its end."""
        if self.popen.returncode:
            raise SystemExit(f"the load has failed, status {self.popen.returncode}")
        ns = np.fromfile(self.result, np.int64).reshape(-1, 3).astype(np.float64)
        ns[ns < 0] = np.nan
        return Latencies(self.start_s, *(ns.T / 1e9))


@dataclass
class Programs:
    """Starts programs. `folder`: for what they write, but `log` for what the agent says."""

    binaries: Path
    folder: Path
    log: Path
    running: list[Program] = field(default_factory=list)

    def start(
        self, command: Sequence[object], group: Group | None = None, *, when_demo_dies: str = "KILL", **popen: Any
    ) -> subprocess.Popen[bytes]:
        """In `group`, or where the demo is. Ctrl-C reaches the demo only, which ends the others in order."""

        def enter() -> None:
            if group:
                (group.path / "cgroup.procs").write_text("0")

        words = ["setpriv", "--pdeathsig", when_demo_dies, *map(str, command)]
        process: subprocess.Popen[bytes] = subprocess.Popen(words, start_new_session=True, preexec_fn=enter, **popen)
        self.running.append(Program(process))
        return process

    def service(self, group: Group, threads: int, rounds: int) -> Service:
        popen = self.start([self.binaries / "service", 0, threads, rounds], group, stdout=subprocess.PIPE)
        assert popen.stdout
        return Service(popen, int(popen.stdout.readline()))

    def batch(self, group: Group, threads: int, rounds: int) -> Batch:
        counts = self.folder / "counts"
        counts.write_bytes(bytes(64 * threads))
        return Batch(self.start([self.binaries / "batch", threads, rounds, counts], group), counts)

    def load(self, group: Group, port: int, due_s: NDArray[np.float64]) -> Load:
        """Its first moment is in LEAD_S."""
        schedule, result = self.folder / "schedule", self.folder / "latencies"
        (due_s * 1e9).astype(np.int64).tofile(schedule)
        start_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
        command = [self.binaries / "load", port, CONNECTIONS, start_ns, GRACE_MS]
        with schedule.open("rb") as stdin, result.open("wb") as stdout:
            popen = self.start(command, group, stdin=stdin, stdout=stdout)
        be_punctual(popen.pid)
        return Load(popen, start_ns / 1e9, result)

    def rounds_per_ms(self) -> int:
        """Of the work that service and batch do."""
        done = subprocess.run([self.binaries / "service", "calibrate"], capture_output=True, check=True)
        return int(done.stdout)


def compile_into(folder: Path) -> None:
    for source in ("service", "load", "batch"):
        path = Path(__file__).with_name(f"{source}.c")
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
        subprocess.run(["gcc", *flags, "-o", folder / source, path], check=True)


@contextlib.contextmanager
def programs(binaries: Path, log: Path) -> Iterator[Programs]:
    """`binaries`: see compile_into. What runs at the end is stopped, the youngest first."""
    with tempfile.TemporaryDirectory(prefix="slackwater-demo-") as folder:
        found = Programs(binaries, Path(folder), log)
        try:
            yield found
        finally:
            for program in reversed(found.running):
                program.stop()


def be_punctual(pid: int) -> None:
    """For a clock of the measurement, which sleeps nearly always: real-time priority; its children have none."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(REAL_TIME_PRIORITY))
    except PermissionError:  # a group without a share of real time
        os.sched_setscheduler(pid, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, pid, -20)
