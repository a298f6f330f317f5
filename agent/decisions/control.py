"""All of deciding, as one pure step: rules -> causes -> controllers -> arbiter.

state, verdict = control.decide(state, situation)         at every tick
state, verdict = control.decide_event(state, situation)   when quotas ran out, between two ticks
state = control.learn(state, decision, outcomes, now_ns)  after the writes of each decision that was accepted
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.config import Config
from agent.config_check import check_controllers
from agent.control import Cause, Controller, Decision, Enforce, Finding, Hold, Outcome, Resource, Result, Situation
from agent.decisions.arbiter import Arbiter, ArbiterState
from agent.decisions.burst import Burst
from agent.decisions.cache import Cache
from agent.decisions.diagnose import batch_traffic, diagnose
from agent.decisions.diagnose_cache import batch_shares
from agent.decisions.illness import Health, after_writes, look, staleness
from agent.decisions.network import Network
from agent.decisions.rules import Firing, RuleState, rules_of
from agent.decisions.suppress import Suppress
from agent.decisions.tree import Tree, tree_of
from agent.errors import ConfigError
from agent.units import NS_PER_S

_ORDER = (Enforce.OFF, Enforce.DRY_RUN, Enforce.ON)


@dataclass(frozen=True, slots=True)
class Found:
    """A cause, and the figures that show it; not fresh: those of an earlier tick, this one does not tell."""

    cause: Cause
    why: str
    is_fresh: bool = True


_NOT_FOUND = Found(Cause.UNKNOWN, "why is not known")


@dataclass(frozen=True, slots=True)
class ControlState:
    """Everything that deciding remembers."""

    rules: tuple[RuleState, ...]
    controllers: Mapping[str, Any]
    """State of each controller, by its name."""
    tree: Tree | None = None
    tick_number: int | None = None
    """The last tick that the rules have seen."""
    firing: tuple[Firing, ...] = ()
    causes: Mapping[tuple[str, int], Found] = field(default_factory=dict)
    """By (rule, group id)."""
    clear_since_ns: int | None = None
    arbiter: ArbiterState = field(default_factory=ArbiterState)
    health: Health = field(default_factory=Health)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`accepted`: to be written, in this order. `news`: lines for the log, each said once."""

    accepted: tuple[Decision, ...] = ()
    holds: tuple[Hold, ...] = ()
    findings: tuple[Finding, ...] = ()
    news: tuple[str, ...] = ()


class Control:
    """The laws of one configuration. `plugins`: controllers of other packages (plugins.py); `own_cgroup`: the agent's,
    which it leaves alone.

    Raises ConfigError when two controllers claim the same, or a rule names one that is not there.
    """

    def __init__(
        self, config: Config, plugins: tuple[Controller[Any], ...] = (), own_cgroup: str | None = None
    ) -> None:
        self._config = config
        self._burst, self._suppress = Burst(config), Suppress(config)
        own: list[tuple[Controller[Any], Enforce]] = [
            (self._burst, config.burst.enforce),
            (self._suppress, config.suppress.enforce),
            (Network(config), config.network.enforce),
            (Cache(config), config.cache.enforce),
        ]
        known = [*own, *((plugin, config.enforce.plugins) for plugin in plugins)]
        check_controllers(config, [controller.name for controller, _ in known])
        self.modes = {controller.name: _lesser(config.enforce.mode, mode) for controller, mode in known}
        """How far each controller goes, by its name."""
        self._controllers = [controller for controller, _ in known if self.modes[controller.name] is not Enforce.OFF]
        _check_claims(self._controllers)
        self.claims = frozenset(claim for controller in self._controllers for claim in controller.claims)
        """What may be written: knobs of classes."""
        self._rules = rules_of(config)
        claims = {controller.name: controller.claims for controller in self._controllers}
        self._arbiter = Arbiter(config, claims, own_cgroup)

    def initial(self) -> ControlState:
        return ControlState(
            rules=tuple(RuleState() for _ in self._rules),
            controllers={controller.name: controller.initial() for controller in self._controllers},
        )

    def decide(self, state: ControlState, situation: Situation) -> tuple[ControlState, Verdict]:
        """At a tick. What `situation` has of findings and clear_s is found here."""
        before = state.health.reason
        state = replace(state, tree=tree_of(situation.tick.groups, state.tree))
        state = self._judged(replace(state, health=look(state.health, situation, self._config)), situation)
        findings = self._findings(state)
        clear_ns = situation.now_ns - (situation.now_ns if state.clear_since_ns is None else state.clear_since_ns)
        situation = replace(situation, findings=findings, clear_s=clear_ns / NS_PER_S)
        states, asked, holds = dict(state.controllers), [], []
        for controller in self._controllers:
            states[controller.name], items = controller.decide(states[controller.name], situation)
            asked += [item for item in items if isinstance(item, Decision)]
            holds += [item for item in items if isinstance(item, Hold)]
        news = (*_news(before, state.health.reason), *_switched_off(state.controllers, states))
        state, accepted, more = self._accept(replace(state, controllers=states), asked, situation)
        return state, Verdict(accepted, (*holds, *more), findings, news)

    def decide_event(self, state: ControlState, situation: Situation) -> tuple[ControlState, Verdict]:
        """When quotas ran out; `situation` has the last tick and its profile. Nothing is done before the first tick,
        nor long after the last.
        """
        if state.tree is None or self._burst.name not in state.controllers:
            return state, Verdict()
        if too_old := staleness(situation.now_ns - situation.tick.time_ns, self._config):
            return state, Verdict(holds=(Hold(None, too_old),))
        burst, asked = self._burst.decide_event(state.controllers[self._burst.name], situation)
        state = replace(state, controllers={**state.controllers, self._burst.name: burst})
        state, accepted, holds = self._accept(state, asked, situation)
        return state, Verdict(accepted, holds)

    def learn(
        self, state: ControlState, decision: Decision, outcomes: tuple[Outcome, ...], now_ns: int
    ) -> ControlState:
        """What became of an accepted decision."""
        writes = _writes_of_cache(outcomes) if decision.resource is Resource.CACHE else outcomes
        states = dict(state.controllers)
        for controller in self._controllers:
            if controller.name == decision.controller:
                states[controller.name] = controller.learn(states[controller.name], decision, outcomes, now_ns)
        return replace(
            state,
            controllers=states,
            arbiter=self._arbiter.learn(state.arbiter, decision, outcomes, now_ns),
            health=after_writes(state.health, writes),
        )

    def _judged(self, state: ControlState, situation: Situation) -> ControlState:
        """The state with what the rules say of this tick. A tick that they have seen already, or one of an unbelievable
        length, tells nothing new.
        """
        tick, profile = situation.tick, situation.profile
        if tick.number == state.tick_number or not tick.interval_ns:
            return state
        pairs = [
            rule.update(rule_state, tick, profile, situation.slis)
            for rule, rule_state in zip(self._rules, state.rules, strict=True)
        ]
        firing = tuple(each for _, of_rule in pairs for each in of_rule)
        assert state.tree
        causes: dict[tuple[str, int], Found] = {}
        be_sends = batch_traffic(situation.network, self._config.network)
        be_cache = batch_shares(situation.cache, state.tree)
        for each in firing:
            key = each.rule.name, each.group.id
            found = diagnose(
                each.row,
                state.tree,
                tick,
                profile,
                self._config.enforce,
                by_own_figure=each.rule.is_own_figure,
                be_sends=be_sends,
                be_cache=be_cache,
            )
            causes[key] = Found(*found) if found else replace(state.causes.get(key, _NOT_FOUND), is_fresh=False)
        clear_since_ns = situation.now_ns if state.clear_since_ns is None else state.clear_since_ns
        return replace(
            state,
            rules=tuple(rule_state for rule_state, _ in pairs),
            firing=firing,
            causes=causes,
            clear_since_ns=None if firing else clear_since_ns,
            tick_number=tick.number,
        )

    def _findings(self, state: ControlState) -> tuple[Finding, ...]:
        return tuple(_finding(firing, state.causes[firing.rule.name, firing.group.id]) for firing in state.firing)

    def _accept(
        self, state: ControlState, asked: list[Decision] | tuple[Decision, ...], situation: Situation
    ) -> tuple[ControlState, tuple[Decision, ...], tuple[Hold, ...]]:
        """What may be done of it. A node that is ill stays as it is, but for what must end (a freeze)."""
        holds: tuple[Hold, ...] = ()
        if state.health.reason is not None:
            holds = (Hold(None, state.health.reason),)
            asked = [
                each for each in asked if each.emergency and each.gives_back and each.resource is Resource.SUPPRESS
            ]
        assert state.tree
        arbiter, accepted, more = self._arbiter.judge(state.arbiter, asked, situation, state.tree)
        return replace(state, arbiter=arbiter), accepted, (*holds, *more)


def _finding(firing: Firing, found: Found) -> Finding:
    rule, group = firing.rule, firing.group
    return Finding(
        rule=rule.name,
        group_id=group.id,
        path=group.path,
        signal=rule.signal,
        value=firing.value,
        threshold=rule.threshold,
        cause=found.cause,
        reason=f"{firing.reason}; {found.why}",
        controllers=rule.controllers,
        is_fresh=firing.is_fresh and found.is_fresh,
        is_past=firing.is_past,
    )


def _writes_of_cache(outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """All partitions are one write; what does not fit this machine is none, since nobody was asked to write it."""
    return tuple(each for each in outcomes if each.result is not Result.REFUSED or each.errno is not None)[:1]


def _lesser(one: Enforce, other: Enforce) -> Enforce:
    return min(one, other, key=_ORDER.index)


def _check_claims(controllers: list[Controller[Any]]) -> None:
    """Two controllers never write the same."""
    claimed: dict[object, str] = {}
    for controller in controllers:
        for qos, knob in sorted(controller.claims):
            other = claimed.setdefault((qos, knob), controller.name)
            if other != controller.name:
                raise ConfigError(
                    f"controllers {other} and {controller.name} both claim {knob} of {qos}: allowed is one; "
                    "set enforce.plugins, or enforce of one of burst, suppress, network and cache, to off"
                )


def _news(before: str | None, now: str | None) -> tuple[str, ...]:
    """Said when it begins and when it ends."""
    if now == before:
        return ()
    return (f"nothing is changed: {now}",) if now else (f"things may be changed again: no more of: {before}",)


def _switched_off(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"controller {name} is switched off: {state.failed}"
        for name, state in after.items()
        if getattr(state, "failed", None) and not getattr(before[name], "failed", None)
    )
