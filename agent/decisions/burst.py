"""CPU burst: latency-sensitive groups with a quota may use more for a while. Pure.

    static    what was not used may be used later (burst_static.py)
    dynamic   a group whose quota ran out: quota * up_ratio, at most ceil_pct of its owner's, the pod before its
              container. Not while the share pool is nearly full or its use unknown (share_pool.py), nor without tokens
              (budget.py).
    back      quota * down_ratio, never below its owner's, the container before its pod: when it was not throttled for
              decay_s; when it has no tokens; under overload, a few groups per tick, the most raised first, and these
              are not raised again for decay_s (all at once would only swing)

A throttle event between two ticks is answered by `decide_event` from what the last tick found. Where there are no
events, the growth of nr_throttled at the tick stands for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from agent.config import Config
from agent.control import Cause, Decision, Hold, Intent, Knob, Outcome, Resource, Situation
from agent.decisions.budget import Budget
from agent.decisions.burst_static import static_burst
from agent.decisions.now import DONE, Memory, Quota, is_left_alone, quota_now
from agent.decisions.share_pool import Room, SharePool
from agent.decisions.tree import Tree, tree_of
from agent.records import Qos
from agent.units import NS_PER_S, NS_PER_US

_HOLDS = {
    Room.NO_RISE: "no quota is raised: the CPUs that services share are {used:.0f} % busy, of {most:.0f} %",
    Room.OVERLOAD: "no quota is raised: the CPUs that services share are {used:.0f} % busy, of {most:.0f} %",
    Room.UNKNOWN: "no quota is raised: how busy the CPUs are that services share is not known",
}


@dataclass(frozen=True, slots=True)
class BurstState:
    """`*_ns` by group id: CLOCK_MONOTONIC."""

    tree: Tree | None = None
    pool: SharePool = field(default_factory=SharePool)
    budget: Budget = field(default_factory=Budget)
    empty_ids: frozenset[int] = frozenset()
    """Groups that have no tokens left."""
    throttled_ns: Mapping[int, int] = field(default_factory=dict)
    raised_ns: Mapping[int, int] = field(default_factory=dict)
    not_before_ns: Mapping[int, int] = field(default_factory=dict)
    """Lowered under overload: not raised again until then."""
    memory: Memory = field(default_factory=Memory)


class Burst:
    """The controller."""

    name = "burst"

    def __init__(self, config: Config) -> None:
        self._config = config.burst
        self._classes = frozenset(map(Qos, config.burst.classes))
        self._decay_ns = int(config.burst.decay_s * NS_PER_S)
        self._retry_ns = int(config.enforce.retry_s * NS_PER_S)
        self.claims = frozenset((qos, knob) for qos in self._classes for knob in (Knob.QUOTA, Knob.BURST))

    def initial(self) -> BurstState:
        return BurstState()

    def decide(self, state: BurstState, situation: Situation) -> tuple[BurstState, tuple[Decision | Hold, ...]]:
        """At a tick."""
        throttled = self._throttled(state, situation)
        state = self._seen(state, situation, throttled)
        room = state.pool.room(self._config)
        static = static_burst(self.name, situation, state.memory, self._config)
        decisions: list[Decision | Hold] = [*static, *self._back(state, situation, room)]
        if self._config.policy == "static":
            return state, tuple(decisions)
        if throttled and room in _HOLDS:
            used, most = state.pool.mean_ratio * 100, self._config.share_pool_pct
            decisions.append(Hold(self.name, _HOLDS[room].format(used=used, most=most)))
        lowered = {intent.group_id for item in decisions if isinstance(item, Decision) for intent in item.intents}
        wanting = (group_id for group_id in throttled if group_id not in lowered)
        decisions += [raised for group_id in wanting if (raised := self._raise(state, situation, group_id))]
        return state, tuple(decisions)

    def decide_event(self, state: BurstState, situation: Situation) -> tuple[BurstState, tuple[Decision, ...]]:
        """Between two ticks, when quotas ran out (`situation.throttled`)."""
        if state.tree is None or self._config.policy == "static":
            return state, ()
        throttled_ns = {event.group_id: event.time_ns for event in situation.throttled}
        state = replace(state, throttled_ns={**state.throttled_ns, **throttled_ns})
        decisions = (self._raise(state, situation, group_id) for group_id in throttled_ns)
        return state, tuple(decision for decision in decisions if decision)

    def learn(self, state: BurstState, decision: Decision, outcomes: tuple[Outcome, ...], now_ns: int) -> BurstState:
        memory = state.memory.learned(outcomes, now_ns, self._retry_ns)
        done = {
            outcome.intent.group_id: now_ns
            for outcome in outcomes
            if outcome.result in DONE and outcome.intent.knob is Knob.QUOTA
        }
        if decision.emergency:
            until_ns = dict.fromkeys(done, now_ns + self._decay_ns)
            return replace(state, memory=memory, not_before_ns={**state.not_before_ns, **until_ns})
        if decision.gives_back:
            return replace(state, memory=memory)
        return replace(state, memory=memory, raised_ns={**state.raised_ns, **done})

    def _throttled(self, state: BurstState, situation: Situation) -> dict[int, int]:
        """Groups that were throttled and have not been answered, and when: events since the last call, and groups whose
        throttling no event told of.
        """
        tick = situation.tick
        begin_ns = tick.time_ns - tick.interval_ns
        rows = np.flatnonzero(tick.throttle.events > 0).tolist()
        throttled = (tick.groups[row].id for row in rows if tick.groups[row].qos in self._classes)
        missed = {group_id: tick.time_ns for group_id in throttled if state.throttled_ns.get(group_id, -1) < begin_ns}
        return missed | {event.group_id: event.time_ns for event in situation.throttled}

    def _seen(self, state: BurstState, situation: Situation, throttled: Mapping[int, int]) -> BurstState:
        """The state with this tick's figures."""
        tick, profile = situation.tick, situation.profile
        tree = tree_of(tick.groups, state.tree)

        def of_alive(times_ns: Mapping[int, int]) -> dict[int, int]:
            return {group_id: at_ns for group_id, at_ns in times_ns.items() if group_id in tree.row}

        quota_ns, period_ns = tick.cgroup.quota_ns.copy(), tick.cgroup.period_ns
        for (group_id, knob), knob_state in situation.knobs.items():
            if knob is Knob.QUOTA and group_id in tree.row and isinstance(knob_state.base, int):
                quota_ns[tree.row[group_id]] = knob_state.base * NS_PER_US
        use_pct = profile.cpu_used_cores / np.where(np.isfinite(quota_ns), quota_ns / period_ns, np.nan) * 100
        budget = state.budget.after(tick.wait.ids, use_pct, tick.interval_ns / NS_PER_S, self._config)
        return BurstState(
            tree=tree,
            pool=state.pool.after(tick, profile, tree, self._config),
            budget=budget,
            empty_ids=budget.empty_ids(),
            throttled_ns=of_alive({**state.throttled_ns, **throttled}),
            raised_ns=of_alive(state.raised_ns),
            not_before_ns=of_alive(state.not_before_ns),
            memory=state.memory.without_gone(tree.row),
        )

    def _back(self, state: BurstState, situation: Situation, room: Room) -> Iterator[Decision]:
        """Raises that are taken back, containers before their pods."""
        raised = self._raised(state, situation)
        decay_before_ns = situation.now_ns - self._decay_ns
        by_excess = sorted(raised, key=lambda row: raised[row].now_cores - raised[row].base_cores, reverse=True)
        overload = by_excess[: self._config.lower_groups_per_tick] if room is Room.OVERLOAD else []
        assert state.tree
        for row in sorted(raised, key=lambda row: state.tree.groups[row].path.count("/"), reverse=True):  # type: ignore[union-attr]
            group_id = state.tree.groups[row].id
            if row in overload:
                why = f"the CPUs that services share are {state.pool.mean_ratio * 100:.0f} % busy"
            elif group_id in state.empty_ids:
                why = f"it has used up what it may use beyond it in {self._config.budget_s:g} s"
            elif max(state.throttled_ns.get(group_id, 0), state.raised_ns.get(group_id, 0)) <= decay_before_ns:
                why = f"it was not throttled for {self._config.decay_s:g} s"
            else:
                continue
            if lowered := self._lower(state, situation, row, raised, why, emergency=row in overload):
                yield lowered

    def _raised(self, state: BurstState, situation: Situation) -> dict[int, Quota]:
        """Groups whose quota is above their owner's."""
        assert state.tree
        ours = {key[0] for key in (*situation.knobs, *state.memory.said) if key[1] is Knob.QUOTA}
        rows = [state.tree.row[group_id] for group_id in ours if group_id in state.tree.row]
        quotas = {row: quota for row in rows if (quota := quota_now(situation, row, state.memory))}
        return {
            row: quota
            for row, quota in quotas.items()
            if quota.now_us > quota.base_us and state.tree.groups[row].qos in self._classes
        }

    def _lower(
        self,
        state: BurstState,
        situation: Situation,
        row: int,
        raised: Mapping[int, Quota],
        why: str,
        *,
        emergency: bool,
    ) -> Decision | None:
        """One step towards the owner's quota, not below what a group in it was raised to."""
        assert state.tree
        quota, group = raised[row], state.tree.groups[row]
        inner_cores = max((raised[below].now_cores for below in state.tree.below(row) if below in raised), default=0.0)
        target_us = max(int(quota.now_us * self._config.down_ratio), quota.base_us, int(inner_cores * quota.period_us))
        may = state.memory.may_try((group.id, Knob.QUOTA), situation.now_ns)
        if target_us >= quota.now_us or is_left_alone(situation, row) or not may:
            return None
        return self._decision(
            (Intent(group.id, group.path, Knob.QUOTA, target_us),),
            f"quota {quota.now_us} -> {target_us} us (its owner's: {quota.base_us} us): {why}",
            situation,
            state,
            row,
            gives_back=True,
            emergency=emergency,
        )

    def _raise(self, state: BurstState, situation: Situation, group_id: int) -> Decision | None:
        """One step up, if it may be."""
        tree, now_ns, config = state.tree, situation.now_ns, self._config
        row = tree.row.get(group_id) if tree else None
        if tree is None or row is None or tree.groups[row].qos not in self._classes:
            return None
        if group_id in state.empty_ids or now_ns < state.not_before_ns.get(group_id, now_ns):
            return None
        quota = quota_now(situation, row, state.memory)
        if quota is None or state.pool.room(config) is not Room.FREE:
            return None
        if group_id in state.raised_ns and now_ns - state.raised_ns[group_id] < quota.period_us * NS_PER_US:
            return None  # one raise answers all events of a period, which come from every CPU
        target_us = min(int(quota.now_us * config.up_ratio), int(quota.base_us * config.ceil_pct / 100))
        above, target_us = self._above(state, situation, row, target_us, quota)
        may = state.memory.may_try((group_id, Knob.QUOTA), now_ns)
        if target_us <= quota.now_us or is_left_alone(situation, row) or not may:
            return None
        return self._decision(
            (*above, Intent(group_id, tree.groups[row].path, Knob.QUOTA, target_us)),
            f"quota {quota.now_us} -> {target_us} us (its owner's: {quota.base_us} us): it ran out",
            situation,
            state,
            row,
        )

    def _above(
        self, state: BurstState, situation: Situation, row: int, target_us: int, quota: Quota
    ) -> tuple[tuple[Intent, ...], int]:
        """What must be raised first of the groups that this one is in, from the top, and how far it itself may then go:
        a child has no use for more than its parent's quota, and on cgroup v1 may not have it.
        """
        assert state.tree
        intents = []
        for above in [*state.tree.above(row)][::-1]:
            outer = quota_now(situation, above, state.memory)
            if outer is None:
                continue
            wanted_us = -(-target_us * outer.period_us // quota.period_us)
            group = state.tree.groups[above]
            if wanted_us > outer.now_us:
                may = group.qos in self._classes and not is_left_alone(situation, above)
                ceil_us = int(outer.base_us * self._config.ceil_pct / 100) if may else outer.now_us
                wanted_us = max(outer.now_us, min(wanted_us, ceil_us))
                if wanted_us > outer.now_us:
                    intents.append(Intent(group.id, group.path, Knob.QUOTA, wanted_us))
                target_us = min(target_us, wanted_us * quota.period_us // outer.period_us)
        return tuple(intents), target_us

    def _decision(
        self,
        intents: tuple[Intent, ...],
        reason: str,
        situation: Situation,
        state: BurstState,
        row: int,
        *,
        gives_back: bool = False,
        emergency: bool = False,
    ) -> Decision:
        return Decision(
            controller=self.name,
            resource=Resource.BURST,
            intents=intents,
            reason=reason,
            cause=Cause.OWN_QUOTA,
            group_id=situation.tick.groups[row].id,
            gives_back=gives_back,
            emergency=emergency,
            inputs={"share_pool_pct": round(state.pool.mean_ratio * 100, 1)},
        )
