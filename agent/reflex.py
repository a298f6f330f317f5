"""The way from a throttle in the kernel to an answer, in ms and not at the next tick.

Opened, it makes this thread a real-time one (agent/process.py says why) and has the probe keep the throttles that
begin. How often they may wake the loop is a budget (agent/wakeups.py).
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from agent.process import realtime
from agent.wakeups import WakeupBudget
from native.probe import Probe, ProbeError, Throttle

log = logging.getLogger(__name__)


class Reflex:
    """A context manager, in the loop's thread. `answer` gets the throttles that began since the last call."""

    def __init__(
        self, probe: Probe, selector: selectors.BaseSelector, answer: Callable[[list[Throttle]], None]
    ) -> None:
        self._probe, self._selector, self._answer = probe, selector, answer
        self._budget = WakeupBudget()
        self._listens = False
        self._stack = contextlib.ExitStack()
        self.listens_ns = 0
        """When it will listen again (CLOCK_MONOTONIC), if it does not now."""
        self.lost = 0
        """Throttles that came too fast to be kept."""

    def __enter__(self) -> Self:
        refusal = self._stack.enter_context(realtime())
        if refusal:
            log.warning("throttles are answered at a normal priority: SCHED_FIFO: %s", refusal.strerror)
        self._probe.queue_throttles(True)
        self._stack.callback(self._probe.queue_throttles, False)
        self._stack.callback(self._unlisten)
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def listen(self, now_ns: int) -> int | None:
        """To be called before the loop sleeps: listen if the budget allows it. Else: when it will."""
        if not self._listens and now_ns >= self.listens_ns:
            self._selector.register(self._probe.event_fd, selectors.EVENT_READ, self._on_event)
            self._listens = True
        return None if self._listens else self.listens_ns

    def drained(self) -> None:
        """Somebody has emptied the event ring: answer what was in it."""
        throttles, lost = self._probe.throttles()
        self.lost += lost
        if throttles:
            self._answer(throttles)

    def _on_event(self) -> None:
        self._unlisten()
        self.listens_ns = self._budget.spend(time.monotonic_ns())
        try:
            self._probe.drain_events()
        except ProbeError as error:
            log.error("events were lost: %s", error.strerror)
        self.drained()

    def _unlisten(self) -> None:
        if self._listens:
            self._selector.unregister(self._probe.event_fd)
            self._listens = False
