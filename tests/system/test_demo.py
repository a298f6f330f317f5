"""`make demo`: nothing of it is left, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.groups import PREFIX, own_tree
from tests.kernel.needs import cpu_hierarchy, needs
from tests.system.command import wait_for

pytestmark = [needs("root", "cgroup:cpu"), pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def demo(out: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "demo", "suppress", "--out", str(out)]
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(out)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        try:
            yield popen
        finally:
            popen.kill()


def tree_of(popen: subprocess.Popen[str]) -> Path:
    hierarchy = cpu_hierarchy()
    assert hierarchy
    return hierarchy[0] / f"{PREFIX}{popen.pid}"


def processes_of(popen: subprocess.Popen[str]) -> dict[str, int]:
    """Of its service and its load, once both run."""

    def ask() -> dict[str, int] | None:
        pids = {}
        for name in ("service", "load"):
            file = tree_of(popen) / name / "cgroup.procs"
            text = file.read_text() if file.exists() else ""
            if not text or f"/{name}\0" not in Path(f"/proc/{text.split()[0]}/cmdline").read_text():
                return None
            pids[name] = int(text.split()[0])
        return pids

    return wait_for(ask, "service and load")


def is_dead(pid: int) -> bool:
    """Gone, or waiting to be collected by whoever it has been left to."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """Neither groups nor processes, however impatient its user is."""
    with demo(tmp_path) as popen:
        pids = processes_of(popen)
        while popen.poll() is None:
            popen.send_signal(signal.SIGINT)
            time.sleep(0.005)
        _, words = popen.communicate(timeout=30)
    assert popen.returncode == 130
    assert words.splitlines()[-1] == "interrupted; groups and processes are gone"
    assert not tree_of(popen).exists()
    assert all(map(is_dead, pids.values()))


def test_a_demo_whose_service_is_killed_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    """One line, status 1."""
    with demo(tmp_path) as popen:
        pids = processes_of(popen)
        os.kill(pids["service"], signal.SIGKILL)
        _, words = popen.communicate(timeout=30)
    assert popen.returncode == 1
    assert "the service has ended, status -9" in words.splitlines()
    assert not tree_of(popen).exists()
    assert all(map(is_dead, pids.values()))


def test_a_killed_demo_leaves_empty_groups_that_the_next_removes(tmp_path: Path) -> None:
    """The kernel ends the programs with it."""
    with demo(tmp_path) as popen:
        pids = processes_of(popen)
        popen.kill()
        popen.wait()
    wait_for(lambda: all(map(is_dead, pids.values())) or None, "the end of its programs")
    assert tree_of(popen).exists()
    with own_tree(None, heavy=False):
        assert not tree_of(popen).exists()
