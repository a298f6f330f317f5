"""The live table: which keys do what (pure), and the screen that shows each tick."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TextIO

from agent.cli.status_text import device_line, partition_now
from agent.cli.table import HEADER_LINES, SortKey, View, table
from agent.cli.terminal import draw, read_keys, whole_screen
from agent.config_explain import one_line
from agent.records import Profile, Tick
from agent.status import Status

_SORT_OF_KEY: dict[str, SortKey] = {"w": "wait", "c": "cpu", "t": "throttle", "n": "name"}
_HELP = "w wait  c cpu  t throttle  n name  / filter  q quit"
_BACKSPACE, _ESCAPE, _ENTER = "\x7f\b", "\x1b", "\r\n"


@dataclass(frozen=True, slots=True)
class Keys:
    """What the keys have set so far."""

    sort: SortKey = "wait"
    filter: str = ""
    typing: str | None = None
    """The filter that is being typed; None: keys are commands."""
    quit: bool = False

    @property
    def footer(self) -> str:
        if self.typing is not None:
            return f"filter: {self.typing}_  (Enter takes it, Esc leaves it)"
        return f"sort {self.sort}  " + (f"filter {self.filter}  " if self.filter else "") + _HELP


def pressed(keys: Keys, char: str) -> Keys:
    """The state after one character. What has no meaning changes nothing."""
    if keys.typing is None:
        if char == "/":
            return replace(keys, typing="")
        if char == "q":
            return replace(keys, quit=True)
        return replace(keys, sort=_SORT_OF_KEY.get(char, keys.sort))
    if char in _ENTER:
        return replace(keys, filter=keys.typing, typing=None)
    if char == _ESCAPE:
        return replace(keys, typing=None)
    if char in _BACKSPACE:
        return replace(keys, typing=keys.typing[:-1])
    return replace(keys, typing=keys.typing + char) if char.isprintable() else keys


class LastMessage(logging.Handler):
    """Keeps the last log message: on a full screen it stands in the footer."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = one_line(record.getMessage())


class LiveTable:
    """Shows each tick on a terminal. `stop` is called when the user quits."""

    def __init__(
        self,
        out: TextIO,
        keys_fd: int,
        keys: Keys,
        messages: LastMessage,
        status: Callable[[], Status | None] = lambda: None,
    ) -> None:
        """`status`: of the agent that enforces, None: there is none; it knows of network and caches."""
        self.keys_fd = keys_fd
        self.stop: Callable[[], None] = lambda: None
        self._out = out
        self._keys = keys
        self._messages = messages
        self._status = status
        self._running: Status | None = None
        self._shown: tuple[Tick, Profile] | None = None
        self._previous: Tick | None = None

    def screen(self) -> AbstractContextManager[None]:
        """Takes the whole screen for as long as it is entered."""
        return whole_screen(self._out, self.keys_fd)

    def on_tick(self, tick: Tick, profile: Profile) -> None:
        self._previous = self._shown[0] if self._shown else None
        self._shown = tick, profile
        self._running = self._status()
        self._draw()

    def on_keys(self) -> None:
        """To be called when the terminal has characters to read."""
        typed = read_keys(self.keys_fd)
        for char in typed or "":
            self._keys = pressed(self._keys, char)
        if typed is None or self._keys.quit:
            self.stop()
        else:
            self._draw()

    def _draw(self) -> None:
        size = os.get_terminal_size(self.keys_fd)  # `_out` may be given up (agent/loop.py)
        footer = "  ".join(part for part in (self._keys.footer, self._messages.text) if part)
        view = View(size.columns or 80, size.lines or 24, self._keys.sort, self._keys.filter, footer)
        if self._shown is None:
            lines = ["slackwater: the first tick is being measured", footer]
        else:
            view = with_status(view, self._running) if self._running else view
            lines = table(*self._shown, view, self._previous)
        draw(self._out, lines, bold_line=HEADER_LINES - 1 + len(view.notes))


def with_status(view: View, status: Status) -> View:
    """With what the agent that enforces knows of network and caches."""
    alone = {each.name: each for each in status.partitions if each.name in each.members}
    shared = [each for each in status.partitions if each.name not in alone]
    alone |= {each.members[0]: each for each in shared if len(each.members) == 1}
    has_counters = any((each.llc_bytes, each.total_bytes_per_s) != (None, None) for each in status.partitions)
    return replace(
        view,
        notes=(*map(device_line, status.devices), *map(partition_now, shared)),
        sends_bytes_per_s=status.sends_bytes_per_s if status.devices else None,
        partitions=alone if has_counters else None,
    )
