"""The only place where the stages meet: one thread, one epoll.

every drain_interval:  rings -> native tables
every tick:  samples -> profiles -> decisions -> actuators -> metrics and whoever listens (table, log, snapshot)
at once when a quota stops a group:  event ring -> decisions -> actuators
Without enforcement there are no decisions, and no event wakes it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from msgspec.structs import replace

import agent
from agent.config import Config
from agent.control import Enforce, Reloads
from agent.decisions.sampling import SamplingLimits, SamplingState, decide_sampling
from agent.discovery import Classifier
from agent.enforcer import Enforcer
from agent.errors import HostError, SlackwaterError
from agent.host import Host
from agent.process import keep_heap_small, raise_descriptor_limit, signals
from agent.profiles.cpi import CpiProfiler
from agent.profiles.profile import Profiler
from agent.records import Profile, SelfSample, Tick
from agent.reflex import Reflex
from agent.samples.sampler import Sampler
from agent.service_manager import ServiceManager
from agent.units import NS_PER_S
from native.probe import Probe, ProbeError, ProbeFeatures, ProbeOptions

log = logging.getLogger(__name__)

FIRST_TICK_S = 0.3
"""A person who starts `run` or `top` sees the first figures after this."""

TAKES_A_RESTART = ("agent", "cpi", "history", "metrics", "probe")
"""Sections of the configuration that a reload leaves as they were."""

OnTick = Callable[[Tick, Profile], None]


class Agent:
    """Opens with `open` (or `with`), works in `run`, and takes everything back in `close`."""

    def __init__(
        self,
        config: Config,
        host: Host,
        *,
        on_tick: OnTick | None = None,
        load: Callable[[], Config] | None = None,
        quick_first_tick: bool = False,
    ) -> None:
        """`load` reads the configuration anew at SIGHUP, or raises ConfigError; without it SIGHUP is a stop."""
        self._config = config
        self._host = host
        self._on_tick = on_tick
        self._load = load
        self._load_wanted = False
        self._reloads = Reloads()
        self._first_tick_s = min(FIRST_TICK_S, config.agent.tick_s) if quick_first_tick else config.agent.tick_s
        self._probe: Probe | None = None
        self._stack = contextlib.ExitStack()
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._enforcement = contextlib.ExitStack()
        self._enforcer: Enforcer | None = None
        self._reflex: Reflex | None = None
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
        self._stack.enter_context(signals(self._selector, self.stop, self._on_hangup))
        raise_descriptor_limit()
        keep_heap_small()
        self._probe = self._open_probe()
        self._sampler = Sampler(self._config, self._host, Classifier(self._config), self._probe)
        self._stack.callback(self._sampler.close)
        self._profiler = Profiler(self._config.agent.window_ticks, self._cpi_profiler())
        self._open_metrics()
        self._stack.callback(self._enforcement.close)
        self._baseline = self._tick(time.monotonic_ns())
        self._enforce(self._config)
        self._stack.callback(self._service.stopping)  # the first thing that `close` does

    def _cpi_profiler(self) -> CpiProfiler | None:
        cpi = self._config.cpi
        if not cpi.enabled:
            return None
        return CpiProfiler(
            min_instructions_per_s=cpi.min_instructions_per_s,
            usual_half_life_s=cpi.usual_half_life_s,
            usual_after_ticks=cpi.usual_after_ticks,
            recent_ticks=cpi.recent_ticks,
        )

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

    def _enforce(self, config: Config) -> None:
        """Begin, go on otherwise, or give everything back: as `config` says. SlackwaterError: nothing has changed."""
        if config.enforce.mode is Enforce.OFF:
            self._enforcement.close()
            self._enforcer = self._reflex = None
        elif self._enforcer:
            self._enforcer.configure(config)
        else:
            self._enforcer = self._enforcement.enter_context(Enforcer(config, self._host))
            if self._probe:
                reflex = Reflex(self._probe, self._selector, self._enforcer.throttled)
                self._reflex = self._enforcement.enter_context(reflex)

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
        """Work until SIGINT, SIGTERM, `stop`, or so many ticks. HostError: the cgroup hierarchy went away."""
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
                self._wait(min(next_tick_ns, next_drain_ns), now_ns)

    def _wait(self, until_ns: int, now_ns: int) -> None:
        """Sleep, and answer what comes meanwhile."""
        listens_ns = self._reflex and self._reflex.listen(now_ns)
        timeout_ns = min(until_ns, listens_ns or until_ns) - now_ns
        for key, _ in self._selector.select(timeout_ns / NS_PER_S):
            key.data()
        if self._load_wanted:
            self._load_wanted = False
            self._load_anew()

    def _drain(self) -> None:
        if self._probe is None:
            return
        try:
            self._probe.drain()
        except ProbeError as error:
            log.error("samples were lost: %s", error.strerror)
        if self._reflex:
            self._reflex.drained()

    def _tick(self, now_ns: int) -> Tick:
        tick = self._sampler.read(now_ns, self._sampling.factor)
        profile = self._profiler.update(tick)
        if self._reflex:
            self._reflex.drained()  # by the sampler
        if self._enforcer:
            self._enforcer.tick(tick, profile)
        if self._metrics:
            report = self._enforcer.report(self._reflex.lost if self._reflex else 0) if self._enforcer else None
            self._metrics.update(tick, profile, self._reloads, report)
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

    def _on_hangup(self) -> None:
        """SIGHUP: of a service a wish for a new configuration, of a terminal its end."""
        self._load_wanted = self._load is not None
        self._stopping |= self._load is None

    def _load_anew(self) -> None:
        """What is wrong with a configuration is said, and the old one stays, as a whole."""
        assert self._load is not None
        old = {name: getattr(self._config, name) for name in TAKES_A_RESTART}
        try:
            read = self._load()
            config = replace(read, **old)
            self._enforce(config)
        except SlackwaterError as error:
            log.error("the configuration stays as it was: %s", error)
            self._reloads = self._reloads.refused()
            return
        self._config = config
        self._sampler.configure(config, Classifier(config))
        self._reloads = self._reloads.accepted()
        log.info("the configuration was read anew")
        changed = [f"[{name}]" for name, section in old.items() if getattr(read, name) != section]
        if changed:
            log.warning("what was changed in %s takes a restart", " and ".join(changed))
