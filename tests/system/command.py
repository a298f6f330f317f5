"""The command as a user starts it, and what a test wants to know of its process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from tests.kernel import bpf_sys
from tests.kernel.workloads import Process

SLACKWATER = str(Path(sys.executable).with_name("slackwater"))
TIMEOUT_S = 60
"""Long, because the machine may be busy; nothing here takes that long by itself."""


def slackwater(*words: str | Path, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run to its end. `wrapper`: a command that runs another (setpriv, unshare)."""
    return subprocess.run(
        [*wrapper, SLACKWATER, *map(str, words)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def document(text: str) -> dict[str, Any]:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in the document")

    found: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return found


@dataclass
class Running:
    """A command that runs until it is stopped. `lines`: of its standard error, as they come."""

    popen: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    reader: Thread | None = None

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_for_line(self, text: str) -> str:
        """The first line that contains `text`."""
        return wait_for(lambda: next((line for line in list(self.lines) if text in line), None), f"{text!r} in log")

    def stop(self, number: signal.Signals) -> float:
        """Send the signal; seconds until its end."""
        begin_s = time.monotonic()
        self.popen.send_signal(number)
        self.popen.wait(TIMEOUT_S)
        seconds = time.monotonic() - begin_s
        assert self.reader
        self.reader.join(TIMEOUT_S)
        return seconds


@contextmanager
def running(*words: str | Path, wrapper: tuple[str, ...] = ()) -> Iterator[Running]:
    """Ended at the end of the block, if it has not been before."""
    popen = subprocess.Popen(
        [*wrapper, SLACKWATER, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    command = Running(popen)
    assert popen.stderr
    command.reader = Thread(target=command.lines.extend, args=[popen.stderr])
    command.reader.start()
    try:
        yield command
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()
        command.reader.join()
        popen.stderr.close()


T = TypeVar("T")


def wait_for(ask: Callable[[], T | None], what: str, *, limit_s: float = TIMEOUT_S, pause_s: float = 0.005) -> T:
    """The first answer that is not None."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(pause_s)
    raise AssertionError(f"not in {limit_s:g} s: {what}")


def wait_until_ready_for_signals(pid: int) -> None:
    """Until the interpreter has begun with our code, which takes over SIGTERM first of all."""

    def catches_sigterm() -> bool | None:
        caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert caught
        return True if int(caught[1], 16) >> (signal.SIGTERM - 1) & 1 else None

    wait_for(catches_sigterm, "SIGTERM caught")


def wait_until_attached(pid: int) -> set[int]:
    """Until the command holds BPF programs; their ids."""
    return wait_for(lambda: bpf_sys.program_ids_of(pid) or None, "BPF programs")


def idle() -> None:
    """What a test does while a process works."""


def end(process: Process) -> None:
    """Of work that has no end of its own."""
    process.popen.kill()
    process.popen.communicate()


def unloaded(program_ids: set[int]) -> bool:
    """Whether the kernel has freed them all, within a second of the last use: it does so in the background."""
    deadline_s = time.monotonic() + 1
    while any(bpf_sys.program(id) for id in program_ids):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def config_file(directory: Path, text: str) -> Path:
    file = directory / "slackwater.toml"
    file.write_text(text)
    return file


def quiet(directory: Path, text: str = "") -> tuple[str, str]:
    """Options: a configuration without the server, with `text`."""
    return "--config", os.fspath(config_file(directory, f"metrics.enabled = false\n{text}\n"))
