"""The only place where the stages meet: one thread, one epoll.

every drain_interval, or at once when a quota stops a group:  rings -> native tables
every tick:  samples -> profiles -> metrics and whoever listens (table, log, snapshot)
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Self

import agent
from agent.config import Config
from agent.decisions.sampling import SamplingLimits, SamplingState, decide_sampling
from agent.discovery import Classifier
from agent.errors import HostError
from agent.host import Host
from agent.profiles.profile import Profiler
from agent.records import Profile, SelfSample, Tick
from agent.samples.sampler import Sampler
from agent.service_manager import ServiceManager
from agent.units import NS_PER_S
from native.probe import Probe, ProbeError, ProbeFeatures, ProbeOptions

log = logging.getLogger(__name__)

FIRST_TICK_S = 0.3
"""A person who starts `run` or `top` sees the first figures after this."""

UNREAD_OUTPUT_S, UNREAD_AGAIN_S = 0.5, 0.1
"""After a signal: when output that blocks is given up, and how often it is looked at again."""

OnTick = Callable[[Tick, Profile], None]


class Agent:
    """Opens with `open` (or `with`), works in `run`, and takes everything back in `close`."""

    def __init__(
        self, config: Config, host: Host, *, on_tick: OnTick | None = None, quick_first_tick: bool = False
    ) -> None:
        self._config = config
        self._host = host
        self._on_tick = on_tick
        self._first_tick_s = min(FIRST_TICK_S, config.agent.tick_s) if quick_first_tick else config.agent.tick_s
        self._probe: Probe | None = None
        self._stack = contextlib.ExitStack()
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._sampling = SamplingState()
        self._service = ServiceManager()
        self._status = ""
        self._own_before: SelfSample | None = None
        self.features: ProbeFeatures | None = None
        """What the probe got of this kernel; None: it works without (see `probe_error`)."""
        self.probe_error: ProbeError | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def open(self) -> None:
        """Attach, and read the baseline. HostError: no cgroups, or the metrics address is taken."""
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self._stack.enter_context(self._signals())
        _raise_descriptor_limit()
        _keep_heap_small()
        self._probe = self._open_probe()
        classify = Classifier(self._config)
        self._sampler = Sampler(self._config, self._host, classify, self._probe)
        self._stack.callback(self._sampler.close)
        self._profiler = Profiler(self._config.agent.window_ticks)
        self._open_metrics()
        if self._probe:
            self._selector.register(self._probe.event_fd, selectors.EVENT_READ, self._on_event)
        self._baseline = self._tick(time.monotonic_ns())
        self._stack.callback(self._service.stopping)  # the first thing that `close` does

    def _open_probe(self) -> Probe | None:
        config, cpu = self._config, self._host.cpu
        if not config.probe.enabled or cpu is None:  # without groups the sampler refuses
            return None
        options = ProbeOptions(
            unthrottle=config.probe.unthrottle,
            ring_bytes=config.probe.ring_kib_per_8_cpus << 10,
            max_groups=config.agent.max_groups,
            cgroup_root=cpu.mount,
        )
        try:
            probe = self._stack.enter_context(Probe.open(options))
        except ProbeError as error:
            self.probe_error = error
            why = error.strerror if self._host.may_trace else f"user id {self._host.effective_uid} lacks CAP_BPF"
            log.warning("waits are read from /proc, not by BPF (slackwater doctor tells more): %s", why)
            return None
        except OSError as error:
            path = str(error.filename or cpu.mount)
            raise HostError.of(error, path) from error
        self.features = probe.features
        return probe

    def _open_metrics(self) -> None:
        self._metrics = None
        if not self._config.metrics.enabled:
            return
        from agent.metrics.live import Metrics  # here: an agent without a server does not pay for one
        from agent.metrics.server import MetricsServer

        config = self._config.metrics
        self._metrics = Metrics(version=agent.__version__, culprits_per_group=config.culprits_per_group)
        self._stack.enter_context(MetricsServer(self._metrics, config.host, config.port))

    def close(self) -> None:
        """Detach and unload everything; within a second. More than once does nothing."""
        self._stack.close()
        self._selector.close()

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back in the loop's thread whenever `fd` is readable."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def stop(self) -> None:
        """`run` returns after what it does now."""
        self._stopping = True

    def run(self, stop_after_ticks: int | None = None) -> None:
        """Work until SIGINT, SIGTERM, SIGHUP, `stop`, or so many ticks. HostError: the cgroup hierarchy went away."""
        begin_ns = self._baseline.time_ns
        self._own_before = self._baseline.agent
        tick_ns = int(self._config.agent.tick_s * NS_PER_S)
        drain_ns = self._config.agent.drain_interval_ms * 1_000_000
        next_tick_ns = begin_ns + int(self._first_tick_s * NS_PER_S)
        next_drain_ns = begin_ns + drain_ns
        ticks = 0
        self._service.ready()
        while not self._stopping:
            now_ns = time.monotonic_ns()
            if self._service.is_due(now_ns):
                self._service.alive(now_ns, self._status)
            if now_ns >= next_tick_ns:
                tick = self._tick(now_ns)
                ticks += 1
                if ticks == stop_after_ticks:
                    return
                self._adapt(tick)
                next_tick_ns += tick_ns
                if next_tick_ns <= now_ns:  # late by more than a tick (suspended, overloaded): do not catch up
                    next_tick_ns = now_ns + tick_ns
            elif now_ns >= next_drain_ns:
                self._drain()
                next_drain_ns = now_ns + drain_ns
            else:
                self._wait(min(next_tick_ns, next_drain_ns) - now_ns)

    def _wait(self, timeout_ns: int) -> None:
        for key, _ in self._selector.select(timeout_ns / NS_PER_S):
            key.data()

    def _on_event(self) -> None:
        """A group was throttled. Until the next drain more of them wake nobody: a storm must not become our load."""
        assert self._probe is not None
        self._selector.unregister(self._probe.event_fd)
        self._drain(listen=False)

    def _drain(self, *, listen: bool = True) -> None:
        if self._probe is None:
            return
        try:
            self._probe.drain()
        except ProbeError as error:
            log.error("samples were lost: %s", error.strerror)
        if listen and self._probe.event_fd not in self._selector.get_map():
            self._selector.register(self._probe.event_fd, selectors.EVENT_READ, self._on_event)

    def _tick(self, now_ns: int) -> Tick:
        tick = self._sampler.read(now_ns, self._sampling.factor)
        profile = self._profiler.update(tick)
        if self._metrics:
            self._metrics.update(tick, profile)
        if self._on_tick and tick.number:
            self._on_tick(tick, profile)
        self._status = f"{len(tick.groups)} groups, source {tick.source}, {tick.agent.lost_samples} samples lost"
        return tick

    def _adapt(self, tick: Tick) -> None:
        """Send fewer samples when we cannot keep up."""
        before, self._own_before = self._own_before, tick.agent
        if self._probe is None or before is None or not tick.interval_ns:
            return
        limits = SamplingLimits(self._config.probe.max_sampling, self._config.budget.cpu_pct)
        state, why = decide_sampling(
            self._sampling,
            limits,
            dropped=(tick.agent.dropped or 0) - (before.dropped or 0),
            drain_cpu_pct=(tick.agent.drain_cpu_ns - before.drain_cpu_ns) / tick.interval_ns * 100,
        )
        if state.factor != self._sampling.factor:
            log.warning("sampling: one wait in %d (was %d): %s", state.factor, self._sampling.factor, why)
            self._probe.set_sampling(state.factor)
        self._sampling = state

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """From open to close signals end the loop, also one that is asleep in epoll, and never cut off a clean-up.

        SIGHUP too: the terminal is gone; under nohup it stays ignored.
        """
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        mine, python = socket.socketpair()
        mine.setblocking(False)
        python.setblocking(False)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _drop_unread_output)
        before_fd = signal.set_wakeup_fd(python.fileno())
        self._selector.register(mine, selectors.EVENT_READ, lambda: mine.recv(64))
        try:
            yield
        finally:
            self._selector.unregister(mine)
            signal.set_wakeup_fd(before_fd)
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            mine.close()
            python.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        if not signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, UNREAD_OUTPUT_S, UNREAD_AGAIN_S)


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


def _raise_descriptor_limit() -> None:
    """As far as this process may: files of every tick are kept open, and 1024 are few (select() is not used)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Source: malloc.h of glibc."""


def _keep_heap_small() -> None:
    """One heap for all threads, and what is freed at its end goes back to the kernel (glibc; elsewhere nothing).

    Else each thread that answers scrapes keeps a heap as large as its largest: 92 MiB, not 63, with 1,000 groups.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, 2 << 20)
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
