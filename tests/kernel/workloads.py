"""Cgroups and processes of the tests' own: the tree `slackwater-test-PID` of the cpu hierarchy, and work.c in it.

Everything made here is taken away again, in any case: the processes by their own handles, then the directories.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
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
def own_tree(pid: int) -> Iterator[Group]:
    """The tests' own parent group, heavy; removed at the end with all that is below."""
    hierarchy = cpu_hierarchy()
    assert hierarchy is not None
    root = Group(*hierarchy)
    group = root.child(f"slackwater-test-{pid}")
    try:
        group.set_heavy()
        yield group
    finally:
        group.remove()


@dataclass
class Process:
    """One run of work.c."""

    popen: subprocess.Popen[str]
    waited_before_ns: int = 0
    waited_ns: int | None = None
    """By its own /proc/self/schedstat, since it joined its group; None: it has not said (mode exec)."""

    @property
    def pid(self) -> int:
        return self.popen.pid

    def finish(self) -> Process:
        """Wait for its end, which must be a success."""
        output, _ = self.popen.communicate(timeout=TEST_TIMEOUT_S)
        assert self.popen.returncode == 0, f"{self.popen.args!r}: status {self.popen.returncode}"
        lines = output.split("\n")
        self.waited_before_ns = int(lines[0])
        self.waited_ns = int(lines[1]) if lines[1].isdigit() else None
        return self


@dataclass
class Workloads:
    """Starts work.c in groups. `stop` ends whatever a failed test has left."""

    binary: Path
    _processes: list[Process] = field(default_factory=list)

    def start(
        self, group: Group, cpu: int, *words: str | float, stdin: int | None = None, pass_fds: Sequence[int] = ()
    ) -> Process:
        """`words` as in work.c; cpu -1: any."""
        process = Process(
            subprocess.Popen(
                [str(self.binary), str(group.path), str(cpu), *map(str, words)],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE,
                pass_fds=pass_fds,
                text=True,
            )
        )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        for process in self._processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()


def build(directory: Path) -> Path:
    """work.c, compiled into `directory`."""
    binary = directory / "work"
    source = Path(__file__).with_name("work.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary, source], check=True)
    return binary
