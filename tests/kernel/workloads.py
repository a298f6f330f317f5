"""Cgroups and processes of the tests' own: the tree `slackwater-test-PID` of the cpu hierarchy, and work.c in it.

Everything made here is taken away again, in any case: the processes by their own handles, then the directories.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kernel.needs import cpu_hierarchy

TEST_TIMEOUT_S = 120


@dataclass
class Group:
    """One cgroup of the cpu hierarchy. `version` is the hierarchy's, 1 or 2."""

    path: Path
    version: int

    @property
    def id(self) -> int:
        return self.path.stat().st_ino

    def child(self, name: str) -> Group:
        """A new group below; on v2 this group gives its children the cpu controller first."""
        if self.version == 2:
            (self.path / "cgroup.subtree_control").write_text("+cpu")
        group = Group(self.path / name, self.version)
        group.path.mkdir()
        return group

    def set_quota(self, quota_us: int | None, period_us: int = 100_000) -> None:
        """Bandwidth limit; None: no limit."""
        if self.version == 2:
            (self.path / "cpu.max").write_text(f"{'max' if quota_us is None else quota_us} {period_us}")
            return
        (self.path / "cpu.cfs_quota_us").write_text("-1")
        (self.path / "cpu.cfs_period_us").write_text(str(period_us))
        if quota_us is not None:
            (self.path / "cpu.cfs_quota_us").write_text(str(quota_us))

    def quota_us(self) -> int | None:
        """As the file says; None: no limit."""
        if self.version == 2:
            quota = (self.path / "cpu.max").read_text().split()[0]
            return None if quota == "max" else int(quota)
        quota_us = int((self.path / "cpu.cfs_quota_us").read_text())
        return None if quota_us < 0 else quota_us

    def set_heavy(self) -> None:
        """A weight beside which the rest of the host hardly gets onto a CPU: the test's neighbours are its own."""
        name, weight = ("cpu.weight", 10_000) if self.version == 2 else ("cpu.shares", 102_400)
        (self.path / name).write_text(str(weight))

    def nr_throttled(self) -> int:
        lines = (self.path / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("nr_throttled "))

    def remove(self) -> None:
        """With everything below; a group still has its dead for a moment after they were waited for."""
        for below in [entry for entry in self.path.iterdir() if entry.is_dir()]:
            Group(below, self.version).remove()
        for _ in range(100):
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.02)
        self.path.rmdir()


@contextlib.contextmanager
def own_tree(pid: int, *, heavy: bool = True) -> Iterator[Group]:
    """The tests' own parent group; removed at the end with all that is below."""
    hierarchy = cpu_hierarchy()
    assert hierarchy is not None
    root = Group(*hierarchy)
    group = root.child(f"slackwater-test-{pid}")
    try:
        if heavy:
            group.set_heavy()
        yield group
    finally:
        group.remove()


@dataclass
class Process:
    """One run of work.c."""

    popen: subprocess.Popen[str]
    waited_before_ns: int
    """Before it joined its group, in which it was born asleep."""
    ran_ns: int = 0
    """In its life, by field 1."""
    waited_ns: int = 0
    """Since then and to its end, by /proc/PID/schedstat of the dead process; `spawn`: with its children."""

    @property
    def pid(self) -> int:
        return self.popen.pid

    def has_ended(self) -> bool:
        """Dead, perhaps not yet reaped."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def finish(self, meanwhile: Callable[[], object]) -> Process:
        """Wait for its end, which must be a success; `meanwhile` is called every 10 ms."""
        deadline = time.monotonic() + TEST_TIMEOUT_S
        while not self.has_ended():
            assert time.monotonic() < deadline, f"{self.popen.args!r}: does not end"
            time.sleep(0.01)
            meanwhile()
        self.ran_ns, waited_ns = schedstat_ns(self.pid)
        output, _ = self.popen.communicate()
        assert self.popen.returncode == 0, f"{self.popen.args!r}: status {self.popen.returncode}"
        children_ns = [int(line) for line in output.split("\n") if line.isdigit()]
        self.waited_ns = waited_ns - self.waited_before_ns + sum(children_ns)
        return self


@dataclass
class Workloads:
    """Starts work.c in groups. `stop` ends whatever a failed test has left."""

    binary: Path
    _popens: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(
        self, group: Group, cpu: int, *words: str | float, stdin: int | None = None, pass_fds: Sequence[int] = ()
    ) -> Process:
        """`words` as in work.c; cpu -1: any."""
        gate, opener = os.pipe()
        try:
            popen = subprocess.Popen(
                [str(self.binary), str(gate), *map(str, words)],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE,
                pass_fds=[gate, *pass_fds],
                text=True,
            )
            self._popens.append(popen)
            wait_until_asleep(popen.pid)
            (group.path / "cgroup.procs").write_text(str(popen.pid))
            if cpu >= 0:
                os.sched_setaffinity(popen.pid, {cpu})
            process = Process(popen, schedstat_ns(popen.pid)[1])
            os.write(opener, b"x")
        finally:
            os.close(gate)
            os.close(opener)
        return process

    def stop(self) -> None:
        for popen in self._popens:
            if popen.poll() is None:
                popen.kill()
                popen.wait()


def schedstat_ns(pid: int) -> tuple[int, int]:
    """How long a task ran and how long it waited in its life. Source: Documentation/scheduler/sched-stats.rst."""
    ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(ran), int(waited)


def wait_until_asleep(pid: int) -> None:
    """Until a new process sleeps, at its gate."""
    state = ""
    while state != "S":
        time.sleep(0.001)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state != "Z", f"process {pid} has ended at its gate"


def build() -> Path:
    """work.c, compiled into the tree's build/ unless it is there; several may do so at once."""
    source = Path(__file__).with_name("work.c")
    binary = source.parents[2] / "build/work"
    if not binary.exists() or binary.stat().st_mtime <= source.stat().st_mtime:
        binary.parent.mkdir(exist_ok=True)
        new = binary.with_name(f"work-{os.getpid()}")
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", new, source], check=True)
        new.rename(binary)
    return binary
