"""Joins deciding and writing for the loop: situation -> Control -> Executor -> what became of it -> history and status.

What is changed here is taken back when it is closed, unless the configuration says keep.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agent import __version__
from agent.actuators.executor import Executor
from agent.actuators.report import Fate, Report
from agent.config import Config
from agent.control import (
    CACHE_KNOBS,
    DEVICE_KNOBS,
    NETWORK_KNOBS,
    Cause,
    ControlReport,
    Decision,
    Enforce,
    Event,
    Finding,
    Hold,
    Intent,
    Knob,
    KnobState,
    Outcome,
    Result,
    Situation,
    ThrottleEvent,
)
from agent.decisions.control import Control, Verdict
from agent.decisions.plugins import load_plugins
from agent.history.entries import clock_now
from agent.history.writer import HistoryWriter
from agent.host import Host
from agent.paths import journal_path, status_path
from agent.records import CacheProfile, Group, NetworkProfile, Profile, Tick
from agent.recovery import recovered
from agent.samples.node import root_is_read_only
from agent.samples.settings import SettingsReader
from agent.samples.topology import TopologyReader
from agent.status import HistoryStatus, StatusFile, device_statuses, knobs_that_differ, sends_of, sli_statuses
from agent.status_partitions import partition_statuses
from native.probe import Throttle

if TYPE_CHECKING:
    from agent.cache import CacheStages
    from agent.network import NetworkStages

log = logging.getLogger(__name__)

REACTIONS_KEPT = 1000
REACTION_QUANTILES = (0.5, 0.99, 1.0)


class Enforcer:
    """A context manager, in the loop's thread. HostError: another agent enforces here. ConfigError: see Control."""

    def __init__(self, config: Config, host: Host) -> None:
        self._config, self._host = config, host
        self._stack = contextlib.ExitStack()
        self._settings, self._topology = SettingsReader(host), TopologyReader()
        self._last: Situation | None = None
        """Of the last tick: between two ticks only what is ours is newer."""
        self._groups: tuple[Group, ...] = ()
        self._paths: dict[int, str] = {}
        self._holds: tuple[Hold, ...] = ()
        self._told: frozenset[tuple[str, int]] = frozenset()
        self._outcomes: Counter[tuple[str, Result]] = Counter()
        self._events = self._foreign_writes = 0
        self._reactions_ns: deque[int] = deque(maxlen=REACTIONS_KEPT)
        self._network: NetworkStages | None = None
        self._seen: NetworkProfile | None = None
        self._cache: CacheStages | None = None
        self._cache_seen: CacheProfile | None = None

    def __enter__(self) -> Self:
        self._control = self._new_control(self._config)
        self._state = self._control.initial()
        try:
            self._executor = self._stack.enter_context(Executor.open(self._host, journal_path()))
            self._stack.callback(self._take_back)
            _say("a predecessor's", recovered(self._executor, self._host))
            self._executor.tolerate(self._config.enforce.foreign_writes_per_min)
            self._open_network(self._config)
            self._open_cache(self._config)
            self._open_history()
            self._open_outlets()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self._outlets.close()
        self._stack.close()

    def configure(self, config: Config) -> None:
        """From now on, and from the beginning: what was changed goes back first, since by the new classes and laws it
        may be nobody's. ConfigError: nothing is new.
        """
        control = self._new_control(config)
        self._open_network(config)
        self._open_cache(config)
        self._control = control
        self._state = self._control.initial()
        _say("", self._executor.restore())
        self._config = config
        self._executor.tolerate(config.enforce.foreign_writes_per_min)
        self._outlets.close()
        self._open_outlets()

    def tick(self, tick: Tick, profile: Profile) -> None:
        """Decide and write, once per tick."""
        if tick.groups is not self._groups:
            gone = self._paths.keys() - {group.id for group in tick.groups}
            self._groups = tick.groups
            self._paths = {group.id: group.path for group in tick.groups}
            self._executor.forget(gone)
        self._note_owners(self._executor.watch())
        self._seen = self._network.read(tick.groups) if self._network else None
        if self._cache:
            self._note_owners(self._cache.watch())
            self._cache_seen = self._cache.read()
        self._last = self._situation(tick, profile)
        self._state, verdict = self._control.decide(self._state, self._last)
        if self._network and self._state.tree:
            self._network.follow(tick.groups, self._state.tree)
        if self._cache and self._state.tree:
            self._cache.arrange(self._state.tree)
        for line in verdict.news:
            log.warning("%s", line)
        self._tell_events(verdict.findings)
        self._holds = verdict.holds
        self._carry_out(verdict)
        if self._cache:
            self._cache.follow()
        if self._history:
            self._history.held(verdict.holds)
        self._write_status(len(tick.groups))

    def throttled(self, throttles: Sequence[Throttle]) -> None:
        """Quotas ran out: answer at once."""
        if self._last is None:
            return
        events = tuple(ThrottleEvent(each.owner_id, each.cpu, each.time_ns) for each in throttles)
        situation = replace(self._last, now_ns=time.monotonic_ns(), knobs=self._knobs(), throttled=events)
        self._state, verdict = self._control.decide_event(self._state, situation)
        began_ns = {event.group_id: event.time_ns for event in reversed(events)}
        for decision, outcomes in self._carry_out(verdict):
            if decision.group_id in began_ns and any(each.result is Result.APPLIED for each in outcomes):
                self._reactions_ns.append(time.monotonic_ns() - began_ns[decision.group_id])

    def report(self, throttles_lost: int) -> ControlReport:
        """For /metrics."""
        ordered = sorted(self._reactions_ns)
        knobs = self._knobs().values()
        return ControlReport(
            mode=self._config.enforce.mode,
            holds=self._holds,
            outcomes=dict(self._outcomes),
            events=self._events,
            changed_knobs=sum(state.current != state.base and not state.is_foreign for state in knobs),
            foreign_knobs=sum(state.is_foreign for state in knobs),
            reaction_ns={q: ordered[int(q * (len(ordered) - 1))] for q in REACTION_QUANTILES if ordered},
            foreign_writes=self._foreign_writes,
            throttles_lost=throttles_lost,
            history_dropped=self._history.counts().dropped if self._history else None,
            network=self._seen,
            partitions=self._cache.views() if self._cache else (),
            slis=self._slis.views(time.monotonic_ns()) if self._slis else (),
        )

    def _knobs(self) -> dict[tuple[int, Knob], KnobState]:
        of_network = self._network.knobs if self._network else {}
        return {**self._executor.knobs, **of_network, **(self._cache.knobs if self._cache else {})}

    def _open_network(self, config: Config) -> None:
        """Begin, go on otherwise, or give everything back. SlackwaterError: nothing is new."""
        if config.network.enforce is Enforce.OFF:
            self._give_network_back()
        elif self._network:
            self._network.configure(config)
        else:
            from agent.network import NetworkStages

            self._network = NetworkStages(config, self._host, self._executor)

    def _give_network_back(self) -> None:
        if self._network:
            _say("", Report(self._network.restore()))
            self._network.close()
            self._network = None

    def _open_cache(self, config: Config) -> None:
        """Begin, or begin anew with another configuration, or give everything back."""
        self._give_cache_back()
        if config.cache.enforce is not Enforce.OFF:
            from agent.cache import CacheStages

            self._cache = CacheStages(config, self._host, self._executor)

    def _give_cache_back(self) -> None:
        if self._cache:
            _say("", Report(self._cache.restore()))
            self._cache = self._cache_seen = None

    def _new_control(self, config: Config) -> Control:
        """ConfigError: controllers that fight."""
        plugins = load_plugins()
        for line in plugins.refused:
            log.warning("%s", line)
        return Control(config, plugins.controllers, self._host.own_cgroup)

    def _situation(self, tick: Tick, profile: Profile) -> Situation:
        now_ns = time.monotonic_ns()
        knobs = self._knobs()
        settings = self._settings.read(tick, knobs)
        return Situation(
            now_ns=now_ns,
            tick=tick,
            profile=profile,
            topology=self._topology.read(),
            knobs=knobs,
            network=self._seen,
            cache=self._cache_seen,
            slis=self._slis.values(now_ns) if self._slis else {},
            owners=settings.owners,
            cpusets=settings.cpusets,
            root_is_read_only=root_is_read_only(),
        )

    def _carry_out(self, verdict: Verdict) -> list[tuple[Decision, tuple[Outcome, ...]]]:
        """What was accepted, and what became of it."""
        done = []
        for decision in verdict.accepted:
            if self._control.modes[decision.controller] is Enforce.ON:
                outcomes = self._apply(decision.intents)
            else:
                outcomes = tuple(Outcome(intent, Result.DRY_RUN) for intent in decision.intents)
            self._state = self._control.learn(self._state, decision, outcomes, time.monotonic_ns())
            self._outcomes.update((decision.controller, outcome.result) for outcome in outcomes)
            self._record(decision, outcomes)
            done.append((decision, outcomes))
        return done

    def _apply(self, intents: tuple[Intent, ...]) -> tuple[Outcome, ...]:
        of_network = tuple(intent for intent in intents if intent.knob in NETWORK_KNOBS)
        of_cache = tuple(intent for intent in intents if intent.knob in CACHE_KNOBS)
        rest = tuple(intent for intent in intents if intent.knob not in NETWORK_KNOBS | CACHE_KNOBS)
        return (
            *(self._network.apply(of_network) if self._network and of_network else ()),
            *(self._cache.apply(of_cache) if self._cache and of_cache else ()),
            *(self._executor.apply(rest) if rest else ()),
        )

    def _record(self, decision: Decision, outcomes: tuple[Outcome, ...]) -> None:
        path = None if decision.group_id is None else self._paths.get(decision.group_id)
        self._status.decided(decision, outcomes, path)
        if self._history:
            self._history.decided(decision, outcomes, path)

    def _note_owners(self, outcomes: Iterable[Outcome]) -> None:
        """Somebody else wrote what we had written; whoever does so too often is told of upwards."""
        for outcome in outcomes:
            intent = outcome.intent
            if outcome.result is not Result.FOREIGN:
                continue
            self._foreign_writes += 1
            log.info("%s %s: %s", intent.path, intent.knob, outcome.kernel_text or f"its owner wrote {outcome.after}")
            state = self._knobs().get((intent.group_id, intent.knob))
            if state and state.is_foreign:
                self._tell(
                    Event(f"{intent.knob} is left alone: its owner writes it too often", intent.group_id, intent.path)
                )

    def _tell(self, event: Event) -> None:
        self._events += 1
        log.warning("%s: %s", event.path, event.reason)
        if self._history:
            self._history.event(event)

    def _tell_events(self, findings: Iterable[Finding]) -> None:
        """What no knob of this node cures, once while it lasts."""
        beyond = {(each.rule, each.group_id): each for each in findings if each.cause is Cause.OWN_LOAD}
        for key, finding in beyond.items():
            if key not in self._told:
                self._tell(Event(finding.reason, finding.group_id, finding.path, finding.cause))
        self._told = frozenset(beyond)

    def _open_history(self) -> None:
        """It outlives a change of the configuration."""
        self._history: HistoryWriter | None = None
        config = self._config.history
        if config.enabled:
            self._history = HistoryWriter(
                Path(config.path),
                max_entries=config.max_rows,
                max_bytes=config.max_mib << 20,
                about=f"pid {os.getpid()}, enforce {self._config.enforce.mode.value}",
            )
            self._stack.callback(self._history.close)

    def _open_outlets(self) -> None:
        """What a change of the configuration replaces: the status file and the readers of services' latencies."""
        self._outlets = contextlib.ExitStack()
        self._status = StatusFile(
            status_path(),
            version=__version__,
            tick_s=self._config.agent.tick_s,
            enforce=self._config.enforce.mode,
            controllers=self._control.modes,
            clock=clock_now,
        )
        self._outlets.callback(self._status.close)
        self._slis = None
        if self._config.slis:
            from agent.samples.sli import SliSampler  # here: an HTTP client and a parser are 8 MB

            self._slis = SliSampler(self._config.slis)
            self._outlets.callback(self._slis.close)

    def _write_status(self, groups: int) -> None:
        history = None
        if self._history:
            counts = self._history.counts()
            history = HistoryStatus(self._config.history.path, counts.written, counts.dropped, counts.error)
        self._status.write(
            groups=groups,
            holds=self._holds,
            knobs=knobs_that_differ(self._knobs(), self._paths, self._names()),
            devices=device_statuses(self._seen),
            sends_bytes_per_s=sends_of(self._seen, self._paths),
            partitions=partition_statuses(self._cache.views() if self._cache else ()),
            slis=sli_statuses(self._config.slis, self._slis),
            history=history,
        )

    def _names(self) -> dict[Knob, Mapping[int, str]]:
        """Of what is no group, by knob."""
        devices = self._network.names if self._network else {}
        partitions = self._cache.names if self._cache else {}
        return {**dict.fromkeys(DEVICE_KNOBS, devices), **dict.fromkeys(CACHE_KNOBS, partitions)}

    def _take_back(self) -> None:
        if self._config.enforce.on_exit == "restore":
            self._give_cache_back()
            self._give_network_back()
            _say("", self._executor.restore())
        elif self._network:
            self._network.close()


def _say(whose: str, report: Report) -> None:
    """What became of settings that were changed, in the log."""
    for note in report.notes:
        log.warning("journal: %s", note)
    for item in report.items:
        level = logging.INFO if item.fate in (Fate.RESTORED, Fate.AS_FOUND) else logging.WARNING
        log.log(level, "%s %s %s: %s %s", item.path, whose, item.knob, item.fate, item.why or "")
