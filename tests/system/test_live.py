"""The live table on a terminal of its own (a pty)."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.needs import needs
from tests.kernel.workloads import Group
from tests.system.command import SLACKWATER, quiet, wait_for

pytestmark = [needs("root", "bpf", "cgroup:cpu"), pytest.mark.slow]

LEAVE = "\x1b[?25h\x1b[?1049l"


class Terminal:
    """A command on a pty. `text`: all that it has written."""

    def __init__(self, popen: subprocess.Popen[bytes], keys: int, own: int) -> None:
        self.popen = popen
        self.before = termios.tcgetattr(own)
        self.text = ""
        self._keys = keys
        self._own = own

    def read(self, seconds: float = 0.05) -> str:
        while select.select([self._keys], [], [], seconds)[0]:
            data = os.read(self._keys, 65536)
            self.text += data.decode(errors="replace")
        return self.text

    def wait_for(self, pattern: str) -> re.Match[str]:
        """In what is written from now on."""
        begin = len(self.text)
        return wait_for(lambda: re.search(pattern, self.read()[begin:], re.DOTALL), f"{pattern} on the terminal")

    def type(self, keys: str) -> None:
        os.write(self._keys, keys.encode())

    def end(self) -> int:
        """Wait for the end; the exit status. The terminal is as it was."""
        wait_for(lambda: None if self.popen.poll() is None else self.read() or True, "end")
        assert termios.tcgetattr(self._own) == self.before
        return self.popen.returncode


@contextmanager
def terminal(
    *words: str | Path, size: tuple[int, int] = (24, 120), wrapper: tuple[str, ...] = ()
) -> Iterator[Terminal]:
    """A pty of `size` (lines, columns) as the controlling terminal of a session of its own."""
    keys, own = pty.openpty()
    fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("TERM", "LANG", "LC_ALL")}
    popen = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *wrapper, SLACKWATER, *map(str, words)],
        stdin=own,
        stdout=own,
        stderr=own,
        env=environment | {"LANG": "C"},
    )
    try:
        yield Terminal(popen, keys, own)
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()
        os.close(keys)
        os.close(own)


def pid_of(screen: Terminal) -> int:
    """Of the command itself: setsid runs it as its child if it had to fork."""
    children = Path(f"/proc/{screen.popen.pid}/task/{screen.popen.pid}/children").read_text().split()
    return int(children[0]) if children else screen.popen.pid


@pytest.mark.parametrize("command", ["run", "top"])
def test_the_table_is_there_soon_and_q_leaves_the_terminal_as_it_was(command: str, tmp_path: Path) -> None:
    begin_s = time.monotonic()
    with terminal(command, *quiet(tmp_path)) as screen:
        screen.wait_for(r"group +.*p99.*culprit.*/ +SYSTEM")
        assert time.monotonic() - begin_s < 15  # 1.5 s on a machine that is not busy: benchmarks/
        screen.type("q")
        assert screen.end() == 0
        assert screen.text.endswith(LEAVE)


def test_keys_sort_and_filter(tree: Group, tmp_path: Path) -> None:
    tree.child("some-name")
    with terminal("top", "--interval", "0.2", *quiet(tmp_path)) as screen:
        screen.wait_for("sort wait")
        screen.type("n")
        screen.wait_for("sort name")
        screen.type("/me-na")
        screen.wait_for("filter: me-na_")
        screen.type("\r")
        drawn = screen.wait_for(r"culprit\x1b\[m\r\n((?!culprit).)*filter me-na").group()  # of one drawing
        assert "/some-name" in drawn
        assert "/ " not in drawn
        screen.type("\x1b[A")  # an arrow
        screen.type("\x03")
        assert screen.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(number: signal.Signals, tmp_path: Path) -> None:
    with terminal("top", *quiet(tmp_path)) as screen:
        screen.wait_for("culprit")
        os.kill(pid_of(screen), number)
        assert screen.end() == 0
        assert screen.text.endswith(LEAVE)


def test_an_error_leaves_the_terminal_as_it_was_and_is_its_last_line(tmp_path: Path) -> None:
    """The cgroups disappear, in a mount namespace of the command's own."""
    words = ["top", "--interval", "0.2", *quiet(tmp_path, "agent.rescan_s = 1")]
    with terminal(*words, wrapper=("unshare", "--mount")) as screen:
        screen.wait_for("culprit")
        mount = ["mount", "-t", "tmpfs", "none", "/sys/fs/cgroup"]
        subprocess.run(["nsenter", "--mount", "--target", str(pid_of(screen)), *mount], check=True)
        assert screen.end() == 1
        assert re.search(re.escape(LEAVE) + r"slackwater: /sys/fs/cgroup\S*: No such file[^\n]*\r\n$", screen.text)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 10), (200, 500), (0, 0)])
def test_a_terminal_of_any_size_will_do(size: tuple[int, int], tmp_path: Path) -> None:
    with terminal("top", "--interval", "0.1", *quiet(tmp_path), size=size) as screen:
        screen.wait_for(r"\x1b\[H.*\x1b\[J.*\x1b\[H.*\x1b\[J")
        screen.type("q")
        assert screen.end() == 0
        assert "Traceback" not in screen.text
