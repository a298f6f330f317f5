"""The terminal: drawing over the whole screen and reading single keys. Everything is put back on leaving."""

from __future__ import annotations

import os
import re
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # xterm: alternate screen, cursor
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[m"
_SEQUENCE = re.compile(r"\x1b[\[O][0-9;]*[ -/]*[@-~]")
"""What arrow and function keys send. Source: ECMA-48, 5.4."""


def draw(out: TextIO, lines: list[str], bold_line: int) -> None:
    """Draw `lines` from the top, one of them bold, in one write: nothing flickers.

    A line is cleared before it is drawn: after a line of full width that would take its last character.
    """
    shown = [f"{_BOLD}{line}{_PLAIN}" if i == bold_line else line for i, line in enumerate(lines)]
    out.write(_HOME + "\n".join(_CLEAR_LINE + line for line in shown) + _CLEAR_BELOW)
    out.flush()


@contextmanager
def whole_screen(out: TextIO, keys_fd: int) -> Iterator[None]:
    """The alternate screen without a cursor, and keys that arrive at once and unechoed; Ctrl-C stays a signal."""
    before = termios.tcgetattr(keys_fd)
    try:
        tty.setcbreak(keys_fd)
        out.write(_ENTER)
        out.flush()
        yield
    finally:
        termios.tcsetattr(keys_fd, termios.TCSANOW, before)  # TCSADRAIN waits for a reader
        out.write(_LEAVE)
        out.flush()


def read_keys(keys_fd: int) -> str | None:
    """The characters typed, without those of arrow and function keys; None when the terminal is gone."""
    try:
        data = os.read(keys_fd, 256)
    except OSError:
        return None
    return _SEQUENCE.sub("", data.decode(errors="ignore")) if data else None
