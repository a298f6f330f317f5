"""Which threads there are: sources for Group.assign()."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def of_processes(pids: Iterable[int], proc: Path = PROC) -> set[int]:
    """The threads of these processes and of all that descend from them.

    A process whose parent has ended in between is not found. Of a cgroup all are found.
    """
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        for thread in _listed(proc / str(pid) / "task"):
            if thread not in found:
                found.add(thread)
                waiting += _numbers(proc / str(pid) / "task" / str(thread) / "children")
    return found


def of_cgroup(folder: Path) -> set[int]:
    """The threads of a cgroup and of those below it, v1 or v2. One that was removed has none."""
    file = "cgroup.threads" if (folder / "cgroup.threads").exists() else "tasks"
    return {thread for path, _, _ in os.walk(folder) for thread in _numbers(Path(path) / file)}


def _listed(folder: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder)]
    except OSError:  # it has ended
        return []


def _numbers(file: Path) -> list[int]:
    try:
        return [int(word) for word in file.read_text().split()]
    except OSError:  # it has ended, or was removed
        return []
