"""One entry of the history, and how decisions, holds and events become one."""

from __future__ import annotations

import re
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.control import Decision, Event, Hold, Outcome

TEXT_CHARS_MAX = 500
INPUTS_MAX = 40
OUTCOMES_MAX = 1000
STARTED, STOPPED = "started", "stopped"
"""First words of the entries of kind AGENT."""
BEFORE_WALL_NS = "before_wall_ns"
"""Input of a start: when the agent before it, which ended without a word, was last heard of."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Kind(StrEnum):
    """What an entry tells of."""

    DECISION = "decision"
    HOLD = "hold"
    EVENT = "event"
    AGENT = "agent"
    """The agent itself started, stopped, or was found to have ended without a word."""


@dataclass(frozen=True, slots=True)
class Moment:
    """`wall_ns` since the epoch, for people; `monotonic_ns` for differences within one boot."""

    wall_ns: int
    monotonic_ns: int


def clock_now() -> Moment:
    return Moment(time.time_ns(), time.monotonic_ns())


@dataclass(frozen=True, slots=True)
class Entry:
    """From `begin` to `end_wall_ns` it was so, and was said `times` times. None: does not apply."""

    kind: Kind
    begin: Moment
    end_wall_ns: int
    """When it was last so; of what happened once: the begin."""
    reason: str
    controller: str | None = None
    resource: str | None = None
    group_id: int | None = None
    path: str | None = None
    cause: str | None = None
    gives_back: bool = False
    emergency: bool = False
    inputs: Mapping[str, float | str] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    times: int = 1
    lasts: bool = False
    """A hold of which the end has not been seen."""
    id: int | None = None
    """Ascending in the order of writing; None: not written yet."""

    @property
    def sameness(self) -> Hashable:
        """Equal for two entries that tell the same but for the figures in their words."""
        if self.kind is Kind.HOLD:
            return self.kind, self.controller, words(self.reason)
        outcomes = tuple((item.intent, item.result, item.errno) for item in self.outcomes)
        what = self.kind, self.controller, self.resource, self.group_id, self.cause, self.gives_back
        return *what, words(self.reason), outcomes


def of_decision(decision: Decision, outcomes: tuple[Outcome, ...], path: str | None, now: Moment) -> Entry:
    """`path` of the group for whose sake it was decided."""
    return Entry(
        Kind.DECISION,
        now,
        now.wall_ns,
        decision.reason,
        decision.controller,
        decision.resource,
        decision.group_id,
        path,
        decision.cause,
        decision.gives_back,
        decision.emergency,
        _few(decision.inputs),
        outcomes[:OUTCOMES_MAX],
    )


def of_hold(hold: Hold, now: Moment) -> Entry:
    """Of a hold that begins."""
    return Entry(Kind.HOLD, now, now.wall_ns, hold.reason, hold.controller, lasts=True)


def of_event(event: Event, now: Moment) -> Entry:
    """Of what the node cannot cure."""
    return Entry(
        Kind.EVENT,
        now,
        now.wall_ns,
        event.reason,
        group_id=event.group_id,
        path=event.path,
        cause=event.cause,
        inputs=_few(event.inputs),
    )


def sameness_of_hold(hold: Hold) -> Hashable:
    """As Entry.sameness: the figures in a reason may change from tick to tick."""
    return Kind.HOLD, hold.controller, words(hold.reason)


def clipped(text: str) -> str:
    """What one entry may hold of a text that others wrote."""
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"


def of_agent(text: str, now: Moment) -> Entry:
    """What the agent says of itself."""
    return Entry(Kind.AGENT, now, now.wall_ns, text)


def words(text: str) -> str:
    """Without the figures."""
    return _NUMBER.sub("#", text)


def _few(inputs: Mapping[str, float | str]) -> dict[str, float | str]:
    return dict(list(inputs.items())[:INPUTS_MAX])
