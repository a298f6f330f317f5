"""Which of the controllers' decisions come true: one resource at a time, within bounds. Pure.

After a change of one resource the others stay as they are for settle_s; giving back in an emergency does not wait. A
resource that has had to wait for settle_s is next: until it has had its turn, no other is changed. Each intent must be
claimed by its controller, be about a group that is there, neither the root nor the agent's own or above it, and keep
within bounds.py. What an owner holds on to is left alone, and a BE quota is not moved by less than dead_band_pct.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.config import Config
from agent.control import CACHE_KNOBS, DEVICE_KNOBS, Decision, Hold, Intent, Knob, Outcome, Resource, Result, Situation
from agent.decisions.bounds import bounded, bounded_device, bounded_partition
from agent.decisions.now import Key, Memory, is_left_alone, owners_value, period_us, value_now
from agent.decisions.suppress_room import dead_band_cores, floor_cores
from agent.decisions.tree import Tree
from agent.records import Qos
from agent.units import NS_PER_S

Claims = Mapping[str, frozenset[tuple[Qos, Knob]]]
"""By controller."""

_WRITTEN = frozenset({Result.APPLIED, Result.DRY_RUN})
_NOTHING = Memory()


@dataclass(frozen=True, slots=True)
class Wait:
    since_ns: int
    asked_ns: int
    """The last time."""


@dataclass(frozen=True, slots=True)
class ArbiterState:
    changed_ns: Mapping[Resource, int] = field(default_factory=dict)
    """When each was changed last."""
    waiting: Mapping[Resource, Wait] = field(default_factory=dict)


class Arbiter:
    """`claims`: of every controller that is on. `own_cgroup`: the agent's."""

    def __init__(self, config: Config, claims: Claims, own_cgroup: str | None = None) -> None:
        self._config = config
        self._own_cgroup = own_cgroup or "/"
        self._claims = claims
        self._settle_ns = int(config.enforce.settle_s * NS_PER_S)

    def judge(
        self, state: ArbiterState, asked: Iterable[Decision], situation: Situation, tree: Tree
    ) -> tuple[ArbiterState, tuple[Decision, ...], tuple[Hold, ...]]:
        """Those that come true, emergencies first, and why others do not."""
        now_ns = situation.now_ns
        accepted: list[Decision] = []
        holds: list[Hold] = []
        taken: set[Key] = set()
        waiting = {r: wait for r, wait in state.waiting.items() if now_ns - wait.asked_ns <= self._settle_ns}
        turn = self._turn(waiting, now_ns)
        settling = {r for r, at_ns in state.changed_ns.items() if now_ns - at_ns < self._settle_ns}
        for decision in sorted(asked, key=lambda decision: (not _is_emergency(decision), decision.resource != turn)):
            resource = decision.resource
            others = (settling | ({turn} if turn else set())) - {resource}
            if others and not _is_emergency(decision):
                since_ns = waiting[resource].since_ns if resource in waiting else now_ns
                waiting[resource] = Wait(since_ns, now_ns)
                holds.append(Hold(decision.controller, f"waits for {' and '.join(sorted(others))}"))
                continue
            good, refused = self._checked(decision, taken, situation, tree)
            holds += [Hold(decision.controller, why) for why in refused]
            if good is None:
                continue
            taken.update((intent.group_id, intent.knob) for intent in good.intents)
            accepted.append(good)
            settling.add(resource)  # what else is changed now is of this resource, too
            if not _is_emergency(decision):
                waiting.pop(resource, None)
        return replace(state, waiting=waiting), tuple(accepted), tuple(holds)

    def learn(self, state: ArbiterState, decision: Decision, outcomes: Iterable[Outcome], now_ns: int) -> ArbiterState:
        """Only what was really changed must settle."""
        if not any(outcome.result in _WRITTEN for outcome in outcomes):
            return state
        return replace(state, changed_ns={**state.changed_ns, decision.resource: now_ns})

    def _turn(self, waiting: Mapping[Resource, Wait], now_ns: int) -> Resource | None:
        """Who has waited for longest, and for long enough."""
        longest = min(waiting, key=lambda resource: waiting[resource].since_ns, default=None)
        return longest if longest and now_ns - waiting[longest].since_ns >= self._settle_ns else None

    def _checked(
        self, decision: Decision, taken: set[Key], situation: Situation, tree: Tree
    ) -> tuple[Decision | None, list[str]]:
        """The decision with the intents that may be, None without any; and why others may not."""
        good: list[Intent] = []
        refused: list[str] = []
        for intent in decision.intents:
            checked = self._intent(intent, decision.controller, taken, situation, tree)
            if isinstance(checked, Intent):
                good.append(checked)
            elif checked:
                refused.append(f"{intent.path} {intent.knob} = {intent.value}: {checked}")
        if good and not self._leaves_floor(good, situation, tree):
            least = floor_cores(situation.tick.node.cpus, self._config.suppress)
            return None, [*refused, f"batch work keeps {least:g} cores"]
        return (replace(decision, intents=tuple(good)) if good else None), refused

    def _intent(
        self, intent: Intent, controller: str, taken: set[Key], situation: Situation, tree: Tree
    ) -> Intent | str | None:
        """As it may be; why it may not; None: it is not worth a word."""
        if intent.knob in DEVICE_KNOBS | CACHE_KNOBS:
            claimed = any(intent.knob is knob for _, knob in self._claims.get(controller, frozenset()))
            if (intent.group_id, intent.knob) in taken:
                return None
            if not claimed:
                return f"{controller} does not claim {intent.knob}"
            return (
                bounded_device(intent, situation)
                if intent.knob in DEVICE_KNOBS
                else bounded_partition(intent, situation)
            )
        row = tree.row.get(intent.group_id)
        if row is None or (intent.group_id, intent.knob) in taken or is_left_alone(situation, row):
            return None
        group = tree.groups[row]
        if f"{self._own_cgroup}/".startswith(f"{group.path}/") or group.path == "/":
            return "the root group, the agent's own and those above it are never changed"
        if (group.qos, intent.knob) not in self._claims.get(controller, frozenset()):
            return f"{controller} does not claim {intent.knob} of {group.qos}"
        good = bounded(intent, row, situation, self._config)
        return None if isinstance(good, Intent) and self._is_in_dead_band(good, row, situation, tree) else good

    def _is_in_dead_band(self, intent: Intent, row: int, situation: Situation, tree: Tree) -> bool:
        """A step of a BE quota that is too small to be worth a write; the last one, to the owner's, always is."""
        now, period = value_now(situation, row, Knob.QUOTA, _NOTHING), period_us(situation, row)
        if intent.knob is not Knob.QUOTA or situation.tick.groups[row].qos is not Qos.BE:
            return False
        if not isinstance(intent.value, int) or not isinstance(now, int) or not period:
            return False
        groups = max(1, len(tree.be_parents))
        least_cores = dead_band_cores(situation.tick.node.cpus, groups, self._config.suppress)
        is_owners = intent.value == owners_value(situation, row, Knob.QUOTA)
        return not is_owners and abs(intent.value - now) / period < least_cores

    def _leaves_floor(self, intents: list[Intent], situation: Situation, tree: Tree) -> bool:
        """All BE groups together keep min_pct of the machine, or what their owners gave them."""
        quotas = {intent.group_id: intent.value for intent in intents if intent.knob is Knob.QUOTA}
        if not any(tree.is_be[tree.row[group_id]] for group_id in quotas):
            return True
        left, owners = 0.0, 0.0
        for row in tree.alive(tree.be_rows, situation.tick).tolist():
            period = period_us(situation, row)
            now = quotas.get(tree.groups[row].id, value_now(situation, row, Knob.QUOTA, _NOTHING))
            owned = owners_value(situation, row, Knob.QUOTA)
            left += (now + 1) / period if isinstance(now, int) and period else math.inf
            owners += owned / period if isinstance(owned, int) and period else math.inf
        return left >= min(floor_cores(situation.tick.node.cpus, self._config.suppress), owners)


def _is_emergency(decision: Decision) -> bool:
    return decision.emergency and decision.gives_back
