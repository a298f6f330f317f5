"""What the agent does to its own process: signals, limits, heap, priority. It is undone, or dies with the process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

UNREAD_OUTPUT_S, UNREAD_AGAIN_S = 0.5, 0.1
"""After a signal: when output that blocks is given up, and how often it is looked at again."""

REALTIME_PRIORITY = 1
"""The lowest: before all that is not real-time, behind all that is."""


@contextlib.contextmanager
def signals(selector: selectors.BaseSelector, stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """Signals call `stop` or (SIGHUP) `reload`, wake a selector that is asleep, and never cut off a clean-up.

    Under nohup SIGHUP stays ignored.
    """

    def on_stop(number: int, frame: FrameType | None) -> None:
        stop()
        if not signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, UNREAD_OUTPUT_S, UNREAD_AGAIN_S)

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: on_stop,
        signal.SIGTERM: on_stop,
        signal.SIGALRM: _drop_unread_output,
    }
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = lambda number, frame: reload()
    mine, python = socket.socketpair()
    mine.setblocking(False)
    python.setblocking(False)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    before_fd = signal.set_wakeup_fd(python.fileno())
    selector.register(mine, selectors.EVENT_READ, lambda: mine.recv(64))
    try:
        yield
    finally:
        selector.unregister(mine)
        signal.set_wakeup_fd(before_fd)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        mine.close()
        python.close()


def _drop_unread_output(number: int, frame: FrameType | None) -> None:
    """A write to a full pipe or terminal that nobody reads is begun again after each signal (PEP 475) and would never
    end. From now on what is written there goes to /dev/null, so that everything ends and is closed as usual.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, None, or a test's
            fd = stream.fileno()
            room = select.poll()
            room.register(fd, select.POLLOUT)
            if not room.poll(0):
                null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                os.dup2(null, fd)
                os.close(null)


def raise_descriptor_limit() -> None:
    """As far as this process may: files of every tick are kept open, and 1024 are few (select() is not used)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def realtime() -> Iterator[OSError | None]:
    """This thread runs before all that is not real-time; threads and processes that it starts do not. Yields what the
    kernel said where that is not allowed.

    On a CPU that batch work fills, a reader of throttle events with nice -20 was woken 14 to 48 ms late at p99 (nice
    counts within its cgroup only), with SCHED_FIFO 0.08 ms.
    """
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(REALTIME_PRIORITY))
    except OSError as error:
        yield error
        return
    try:
        yield None
    finally:
        os.sched_setscheduler(0, before, parameters)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Source: malloc.h of glibc."""


def keep_heap_small() -> None:
    """One heap for all threads, and what is freed at its end goes back to the kernel (glibc; elsewhere nothing).

    Else each thread that answers scrapes keeps a heap as large as its largest: 92 MiB, not 63, with 1,000 groups.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, 2 << 20)
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
