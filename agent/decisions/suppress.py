"""CPU suppress: batch work gives way while it makes services wait, one rung of a ladder after the other. Pure.

    idle      cpu.idle = 1; where there is none, the lowest weight
    cpuset    fewer CPUs                        limit = min(room, feedback by wait)
    quota     less CPU time                     the same
    freeze    none, for a bounded time

The steps are in suppress_ladder.py; what they mean for each BE group in suppress_settings.py, with the room from
suppress_room.py and the choice of CPUs from suppress_cpuset.py. What differs from what is set is the decision: so a BE
group that appears later gets the same, and what no rung asks for goes back to what its owner set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.config import Config
from agent.config_laws import Rung
from agent.control import Cause, Decision, Finding, Hold, Intent, Outcome, Resource, Situation
from agent.decisions.now import DONE, Memory
from agent.decisions.suppress_ladder import LIMITING, Stand
from agent.decisions.suppress_settings import KNOBS, Settings
from agent.decisions.tree import Tree, tree_of
from agent.records import Qos
from agent.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class SuppressState:
    tree: Tree | None = None
    stand: Stand = field(default_factory=Stand)
    proposed: Stand | None = None
    """Where it is when the decision just made comes true."""
    stepped_ns: int | None = None
    """When the last step was taken."""
    memory: Memory = field(default_factory=Memory)


class Suppress:
    """The controller."""

    name = "suppress"

    def __init__(self, config: Config) -> None:
        self._config = config.suppress
        self._settle_ns = int(config.enforce.settle_s * NS_PER_S)
        self._retry_ns = int(config.enforce.retry_s * NS_PER_S)
        self.claims = frozenset((Qos.BE, knob) for rung in self._config.rungs for knob in KNOBS[rung])

    def initial(self) -> SuppressState:
        return SuppressState()

    def decide(self, state: SuppressState, situation: Situation) -> tuple[SuppressState, tuple[Decision | Hold, ...]]:
        tree = tree_of(situation.tick.groups, state.tree)
        state = replace(state, tree=tree, proposed=None, memory=state.memory.without_gone(tree.row))
        parents = tree.alive(tree.be_rows, situation.tick)
        settings = Settings(self._config, situation, tree, parents, state.memory)
        stand, hold = self._next(state, settings) if len(parents) else (Stand(), None)
        stand, wanted = settings.of(state.stand, stand)
        intents = tuple(settings.changes(wanted))
        holds = (hold,) if hold else ()
        if settings.pinned_unknown and (situation.findings or self._config.always):
            why = f"which CPUs {settings.pinned_unknown} may use is not known: batch work keeps all of its own"
            holds = (*holds, Hold(self.name, why))
        if not intents:
            stepped_ns = state.stepped_ns if _same_step(stand, state.stand) else situation.now_ns
            return replace(state, stand=stand, stepped_ns=stepped_ns), holds
        decision = self._decision(state.stand, stand, intents, settings)
        return replace(state, proposed=stand), (decision, *holds)

    def learn(
        self, state: SuppressState, decision: Decision, outcomes: tuple[Outcome, ...], now_ns: int
    ) -> SuppressState:
        """The step counts when some group got it."""
        memory = state.memory.learned(outcomes, now_ns, self._retry_ns)
        if state.proposed is None or not any(outcome.result in DONE for outcome in outcomes):
            return replace(state, memory=memory, proposed=None)
        stepped_ns = state.stepped_ns if _same_step(state.proposed, state.stand) else now_ns
        return replace(state, memory=memory, stand=state.proposed, proposed=None, stepped_ns=stepped_ns)

    def _next(self, state: SuppressState, settings: Settings) -> tuple[Stand, Hold | None]:
        """Where to go on the ladder now."""
        stand, situation = state.stand, settings.situation
        if stand.frozen_until_ns is not None and situation.now_ns >= stand.frozen_until_ns:
            return settings.ladder.thawed(stand), None
        settled = state.stepped_ns is None or situation.now_ns - state.stepped_ns >= self._settle_ns
        ours = [finding for finding in situation.findings if self._is_ours(finding)]
        if not settled or (situation.findings and not ours):
            return stand, None
        if not ours:
            if settings.room is None and self._top(stand) in LIMITING:
                return stand, Hold(self.name, "the use of the machine or of a BE group is not known")
            return settings.ladder.down(stand, situation.clear_s), None
        if not any(finding.is_fresh for finding in ours):
            return stand, Hold(self.name, f"{ours[0].signal} of {ours[0].path} is absent")
        if not any(finding.is_fresh and finding.is_past for finding in ours):
            return stand, None
        if settings.room is None and self._needs_room(stand, settings):
            return stand, Hold(self.name, "the use of the machine or of a BE group is not known")
        used_cores = settings.room.be_used_cores if settings.room else math.nan
        higher = settings.ladder.up(stand, used_cores, settings.possible, situation.now_ns)
        if higher is None:
            return stand, Hold(self.name, "batch work has nothing more to give")
        return higher, None

    def _is_ours(self, finding: Finding) -> bool:
        may = not finding.controllers or self.name in finding.controllers
        return may and finding.cause is Cause.BATCH_ON_CPU

    def _needs_room(self, stand: Stand, settings: Settings) -> bool:
        """The next step up is on a rung with a limit."""
        following = next((rung for rung in self._config.rungs[stand.level :] if rung in settings.possible), None)
        return self._top(stand) in LIMITING or following in LIMITING

    def _top(self, stand: Stand) -> Rung | None:
        return self._config.rungs[stand.level - 1] if stand.level else None

    def _decision(self, before: Stand, after: Stand, intents: tuple[Intent, ...], settings: Settings) -> Decision:
        room, findings = settings.room, settings.situation.findings
        finding = next(filter(self._is_ours, findings), None)
        limits = {f"{rung}_cores": round(cores, 3) for rung, cores in after.set_cores.items()}
        used = {"be_used_cores": round(room.be_used_cores, 3), "room_cores": round(room.be_cores, 3)} if room else {}
        thaws = before.frozen_until_ns is not None and after.frozen_until_ns is None
        why = "no rule fires"
        if thaws:
            why = "it was frozen for long enough"
        elif finding:
            why = f"{finding.path}: {finding.reason}"
        elif room and (findings or self._config.always):
            why = f"others leave {room.be_cores:.2f} cores"
        return Decision(
            controller=self.name,
            resource=Resource.SUPPRESS,
            intents=intents,
            reason=f"{why}{_what(before, after, self._config.rungs)}",
            cause=finding.cause if finding else None,
            group_id=finding.group_id if finding else None,
            gives_back=after.level < before.level or (not finding and not _takes(before, after)),
            emergency=thaws,
            inputs={"rungs_in_use": after.level, **limits, **used},
        )


def _same_step(one: Stand, other: Stand) -> bool:
    """They differ at most in what was set in the end."""
    return replace(one, set_cores={}) == replace(other, set_cores={})


def _takes(before: Stand, after: Stand) -> bool:
    """Batch work loses something."""
    fell = any(cores < before.set_cores.get(rung, math.inf) for rung, cores in after.set_cores.items())
    return after.level > before.level or fell


def _what(before: Stand, after: Stand, rungs: tuple[Rung, ...]) -> str:
    """What becomes of batch work, as the end of a sentence."""
    if after.level < before.level:
        return f": batch work gets back {_LOST[rungs[before.level - 1]]}"
    lost = f": batch work loses {_LOST[rungs[after.level - 1]]}" if after.level > before.level else ""
    limits = [
        f"{rung} {before.set_cores[rung]:.2f} -> {cores:.2f} cores"
        if rung in before.set_cores
        else f"{rung} {cores:.2f} cores"
        for rung, cores in after.set_cores.items()
    ]
    return f"{lost}{'; limit by ' if limits else ''}{', '.join(limits)}"


_LOST: Mapping[Rung, str] = {"idle": "its priority", "cpuset": "CPUs", "quota": "CPU time", "freeze": "all CPU time"}
