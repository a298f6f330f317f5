"""A made-up node for the laws: groups with their use and waits, and an executor that keeps knobs in memory.

It is as strict as the kernel: what that would refuse raises AssertionError.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agent.config import parse_config
from agent.control import (
    CACHE_KNOBS,
    NETWORK_KNOBS,
    Controller,
    Decision,
    Intent,
    Knob,
    KnobState,
    KnobValue,
    Outcome,
    Result,
    Situation,
    SliValue,
    ThrottleEvent,
    Topology,
)
from agent.decisions.control import Control, Verdict
from agent.records import CacheProfile, Floats, Group, NetworkProfile, Profile, Qos
from tests.agent.ticks import S_NS, tick_of

NAN, INF = float("nan"), float("inf")
PERIOD_US = 100_000
WEB, BATCH = 10, 20
"""Ids of a service and of a batch group in most tests."""
OWNERS: Mapping[Knob, KnobValue] = {
    Knob.QUOTA: None,
    Knob.BURST: 0,
    Knob.WEIGHT: 100,
    Knob.IDLE: 0,
    Knob.CPUSET: (),
    Knob.FREEZE: 0,
}
RULE = """
[enforce]
mode = "on"
[[rule]]
name = "slow"
class = "LS"
signal = "wait_p99"
threshold = "2ms"
window_s = 4
"""


def flat(cpus: int) -> Topology:
    """One node, no hyper-threads."""
    return Topology(tuple(range(cpus)), {cpu: (cpu,) for cpu in range(cpus)}, dict.fromkeys(range(cpus), 0))


@dataclass
class Look:
    """What one tick shows of a group; `p99_ms` None: it did not wait."""

    used_cores: float = 0.0
    p99_ms: float | None = None
    contention_s: float = 0.0
    throttle_s: float = 0.0
    throttled: float = 0
    culprits: Mapping[int, float] = field(default_factory=dict)
    """Group id -> its part of the contention wait."""


SLOW = Look(used_cores=0.4, p99_ms=9, contention_s=0.5, culprits={BATCH: 1})
"""A service that waits because of batch work."""
CALM = Look(used_cores=0.4, p99_ms=0.1, contention_s=0.001, culprits={BATCH: 1})


class World:
    def __init__(
        self,
        config: str = RULE,
        groups: Mapping[int, tuple[str, Qos]] | None = None,
        *,
        cpus: int = 4,
        owners: Mapping[tuple[int, Knob], KnobValue] | None = None,
        plugins: tuple[Controller[Any], ...] = (),
        topology: Topology | None = None,
    ) -> None:
        self.config = parse_config(config, "test.toml")
        self.control = Control(self.config, plugins)
        self.state = self.control.initial()
        self.groups = self.group_tuple(groups or {WEB: ("/web", Qos.LS), BATCH: ("/batch", Qos.BE)})
        self.cpus = cpus
        self.topology = topology or flat(cpus)
        self.owners = dict(owners or {})
        self.knobs: dict[tuple[int, Knob], KnobState] = {}
        self._unseen: set[tuple[int, Knob]] = set()
        self.cpusets: dict[int, tuple[int, ...]] = {}
        self.slis: dict[str, SliValue] = {}
        self.network: NetworkProfile | None = None
        self.cache: CacheProfile | None = None
        self.result: Callable[[Intent], Result] = lambda _: Result.APPLIED
        self.refusal_errno: int | None = errno.EINVAL
        """None: it is refused before the kernel is asked."""
        self.now_ns = 1_000 * S_NS
        self.number = 0
        self.situation: Situation | None = None
        self.changes: list[tuple[int, Decision, tuple[Outcome, ...]]] = []
        """(time, decision, outcomes) of all that was accepted."""

    @staticmethod
    def group_tuple(groups: Mapping[int, tuple[str, Qos]]) -> tuple[Group, ...]:
        return tuple(Group(id, path, qos) for id, (path, qos) in groups.items())

    def value(self, group_id: int, knob: Knob) -> KnobValue:
        """What it is set to."""
        state = self.knobs.get((group_id, knob))
        is_ours = (group_id, knob) not in self._unseen
        return state.current if state and is_ours else self.owner(group_id, knob)

    def owner(self, group_id: int, knob: Knob) -> KnobValue:
        return None if knob in NETWORK_KNOBS | CACHE_KNOBS else self.owners.get((group_id, knob), OWNERS[knob])

    def tick(
        self,
        looks: Mapping[int, Look] | None = None,
        *,
        node_used_cores: float | None = None,
        events: Sequence[int] = (),
        age_s: float = 0.0,
        clock_jumps: int = 0,
        dropped: int = 0,
        root_is_read_only: bool | None = None,
        seconds: float = 1.0,
    ) -> Verdict:
        """One tick, decided and written. `node_used_cores`: by default what the topmost groups use and 0.1."""
        self.now_ns += int(seconds * S_NS)
        self.number += 1
        for key in list(self._unseen):
            self._yield(key)
        shown = [(looks or {}).get(group.id, Look()) for group in self.groups]
        used = np.array([look.used_cores for look in shown])
        if node_used_cores is None:
            node_used_cores = 0.1 + sum(
                use
                for use, group in zip(used, self.groups, strict=True)
                if group.path.count("/") == 1 < len(group.path)
            )
        tick = tick_of(
            self.groups,
            number=self.number,
            time_ns=self.now_ns - int(age_s * S_NS),
            interval_ns=int(seconds * S_NS),
            cpus=self.cpus,
            dropped=dropped,
            count=[0 if look.p99_ms is None else 50 for look in shown],
            p99_ns=[NAN if look.p99_ms is None else look.p99_ms * 1e6 for look in shown],
            contention_ns=[look.contention_s * S_NS for look in shown],
            throttle_ns=[look.throttle_s * S_NS for look in shown],
            throttle_events=[look.throttled for look in shown],
            cpu_usage_ns=np.full(len(shown), 1.0),
            quota_ns=[self._ns(group.id, Knob.QUOTA) for group in self.groups],
            period_ns=np.full(len(shown), PERIOD_US * 1e3),
            burst_ns=[self._ns(group.id, Knob.BURST) for group in self.groups],
            pairs=[
                (group.id, culprit, part * look.contention_s * S_NS)
                for group, look in zip(self.groups, shown, strict=True)
                for culprit, part in look.culprits.items()
            ],
        )
        profile = profile_of(self.groups, used, node_used_cores, np.array([look.throttled for look in shown]))
        self.situation = Situation(
            now_ns=self.now_ns,
            tick=tick,
            profile=replace(profile, clock_jumps=clock_jumps),
            topology=self.topology,
            knobs=dict(self.knobs),
            slis=self.slis,
            throttled=tuple(ThrottleEvent(group_id, 0, self.now_ns) for group_id in events),
            owners=self._owners_read(),
            cpusets=self.cpusets,
            network=self.network,
            cache=self.cache,
            root_is_read_only=root_is_read_only,
        )
        self.state, verdict = self.control.decide(self.state, self.situation)
        self._write(verdict)
        return verdict

    def event(self, *group_ids: int, after_s: float = 0.1) -> Verdict:
        """Quotas of these groups run out, between two ticks."""
        assert self.situation
        self.now_ns += int(after_s * S_NS)
        events = tuple(ThrottleEvent(group_id, 0, self.now_ns) for group_id in group_ids)
        last = self.situation
        situation = Situation(
            self.now_ns, last.tick, last.profile, self.topology, knobs=dict(self.knobs), throttled=events
        )
        self.state, verdict = self.control.decide_event(self.state, situation)
        self._write(verdict)
        return verdict

    def ticks(self, count: int, looks: Mapping[int, Look] | None = None, **options: float) -> list[Verdict]:
        return [self.tick(looks, **options) for _ in range(count)]  # type: ignore[arg-type]

    def foreign_write(self, group_id: int, knob: Knob, value: KnobValue) -> None:
        """The owner sets something; the executor sees it at the next tick, or when it is to write that."""
        self.owners[group_id, knob] = value
        if (group_id, knob) in self.knobs:
            self._unseen.add((group_id, knob))

    def _yield(self, key: tuple[int, Knob]) -> None:
        """The owner's word: nothing of ours is on it any more."""
        self.knobs.pop(key, None)
        self._unseen.discard(key)
        if key[1] is Knob.IDLE:
            self.knobs.pop((key[0], Knob.WEIGHT), None)

    def _owners_read(self) -> dict[tuple[int, Knob], KnobValue]:
        """As agent/samples/settings.py reads them."""
        batch = [group.id for group in self.groups if group.qos is Qos.BE]
        return {(id, knob): self.owner(id, knob) for id in batch for knob in (Knob.IDLE, Knob.WEIGHT, Knob.FREEZE)}

    def _ns(self, group_id: int, knob: Knob) -> float:
        value = self.value(group_id, knob)
        return INF if value is None else float(value) * 1e3  # type: ignore[arg-type]

    def _write(self, verdict: Verdict) -> None:
        for decision in verdict.accepted:
            outcomes = tuple(self._outcome(intent) for intent in decision.intents)
            self.changes.append((self.now_ns, decision, outcomes))
            self.state = self.control.learn(self.state, decision, outcomes, self.now_ns)

    def _outcome(self, intent: Intent) -> Outcome:
        key = intent.group_id, intent.knob
        result = Result.FOREIGN if key in self._unseen else self.result(intent)
        before = self.value(*key)
        if result is Result.APPLIED and intent.value == before:
            result = Result.UNCHANGED
        if result is Result.APPLIED:
            self._kernel_accepts(intent)
            self._hold(key, intent.value)
        if result is Result.FOREIGN:
            self._yield(key)
        number = self.refusal_errno if result is Result.REFUSED else None
        return Outcome(intent, result, before, self.value(*key), number)

    def _hold(self, key: tuple[int, Knob], value: KnobValue) -> None:
        """As the executor does: at its base a knob is held no more, and cpu.idle takes the weight with it."""
        self.knobs[key] = KnobState(self.owner(*key), value)
        if value == self.owner(*key):
            del self.knobs[key]
        weight = key[0], Knob.WEIGHT
        if key[1] is Knob.IDLE and self.owner(*weight) != OWNERS[Knob.WEIGHT]:
            if value:
                self.knobs[weight] = KnobState(self.owner(*weight), 1)
            else:
                self.knobs.pop(weight, None)

    def _kernel_accepts(self, intent: Intent) -> None:
        value = intent.value
        match intent.knob:
            case Knob.QUOTA:
                assert value is None or (isinstance(value, int) and value >= 1000), intent
            case Knob.BURST:
                quota = self.value(intent.group_id, Knob.QUOTA)
                assert isinstance(value, int), intent
                assert isinstance(quota, int), intent
                assert 0 <= value <= quota, intent
            case Knob.CPUSET:
                assert value == self.owner(intent.group_id, Knob.CPUSET) or set(value) <= set(self.topology.cpus)  # type: ignore[arg-type]
            case Knob.WEIGHT:
                assert isinstance(value, int), intent
                assert 1 <= value <= 10_000, intent
            case Knob.CACHE_WAYS:
                assert isinstance(value, tuple), intent
                assert 0 <= value[0] < value[1] <= 100, intent
            case _ if intent.knob in NETWORK_KNOBS | {Knob.MEMORY_BANDWIDTH}:
                assert value is None or (isinstance(value, int) and value > 0), intent
            case _:
                assert value in (0, 1), intent


def profile_of(groups: Sequence[Group], used: Floats, node_used_cores: float, throttle_per_s: Floats) -> Profile:
    unknown = np.full(len(groups), NAN)
    return Profile(
        groups=tuple(groups),
        cpu_used_cores=used,
        throttle_per_s=throttle_per_s,
        io_read_bytes_per_s=unknown,
        io_write_bytes_per_s=unknown,
        node_used_cores=node_used_cores,
        wait_p99_window_ns=unknown,
        wait_trend_ns_per_s=unknown,
        cpu_p95_window_cores=used,
        main_culprit=(None,) * len(groups),
    )
