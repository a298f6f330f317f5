"""Mounts the kernel's resctrl for a test, and writes to its files as a shell would."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/resctrl")
LIMBO_S = 20
"""Within this the kernel has cleaned an RMID that was given back."""


@contextmanager
def mounted(*options: str) -> Iterator[Path]:
    """resctrl with these mount options; what the test made in it goes with it. OSError: it cannot be mounted so."""
    command = ["mount", "-t", "resctrl", "-o", ",".join(("rw", *options)), "resctrl", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(done.stderr.strip())
    try:
        yield ROOT
    finally:
        subprocess.run(["umount", str(ROOT)], check=True)


def write(file: Path, text: str) -> OSError | None:
    """In one write. The kernel's refusal, if it refuses."""
    descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, f"{text}\n".encode())
    except OSError as error:
        return error
    finally:
        os.close(descriptor)
    return None


def make(path: Path) -> OSError | None:
    """A group, also where RMIDs of earlier tests have to leave the kernel's limbo first. Why there is none."""
    end_s = time.monotonic() + LIMBO_S
    while True:
        try:
            path.mkdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end_s:
                return error
        else:
            return None
        time.sleep(0.2)


def last_words() -> str:
    """What the kernel says of the last command."""
    return (ROOT / "info" / "last_cmd_status").read_text().strip()


def schemata(group: Path) -> dict[str, dict[int, str]]:
    """Resource -> cache id -> value as printed, without padding; empty where nothing can be set."""
    file = group / "schemata"
    if not file.exists():
        return {}
    lines = (line.strip().split(":") for line in file.read_text().splitlines())
    return {name: dict(_domain(part) for part in rest.split(";")) for name, rest in lines}


def state() -> str:
    """All that an agent could have changed: how it is mounted, groups with their schemata, groups of counters."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    lines = [line.partition(" - ")[2] for line in mounts if f" {ROOT} " in line]
    for folder in sorted(path.parent for path in ROOT.rglob("tasks")):
        file = folder / "schemata"
        text = file.read_text() if file.exists() else ""
        lines.append(f"{folder}: {' '.join(text.split())}")
    return "\n".join(lines)


def place(thread: int) -> list[str]:
    """Groups that list it, of counters too; that of the default one is ""."""
    files = sorted(ROOT.rglob("tasks"))
    return [str(file.parent.relative_to(ROOT)) for file in files if str(thread) in file.read_text().split()]


def _domain(part: str) -> tuple[int, str]:
    number, value = part.split("=")
    return int(number), value.strip()
