"""Made-up decisions and entries of a history. A test gives what it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.control import Cause, Decision, Hold, Intent, Knob, KnobValue, Outcome, Resource, Result
from agent.history.entries import Entry, Moment, of_decision, of_hold
from agent.units import NS_PER_S

EPOCH_S = 1_800_000_000
WEB, BATCH = (11, "/system.slice/web.service"), (22, "/batch.slice")


def at(second: float) -> Moment:
    """So long after the (made-up) boot."""
    return Moment(int((EPOCH_S + second) * NS_PER_S), int(second * NS_PER_S))


def outcome(
    after: KnobValue,
    before: KnobValue = None,
    *,
    group: tuple[int, str] = BATCH,
    knob: Knob = Knob.QUOTA,
    result: Result = Result.APPLIED,
    **rest: Any,
) -> Outcome:
    """Of a write from `before` to `after`; it took effect only if it was applied."""
    return Outcome(Intent(*group, knob, after), result, before, after if result is Result.APPLIED else before, **rest)


def decision(*outcomes: Outcome, reason: str = "p20 4 ms, past 2 ms", **changes: Any) -> Decision:
    keys: dict[str, Any] = {
        "controller": "suppress",
        "resource": Resource.SUPPRESS,
        "cause": Cause.BATCH_ON_CPU,
        "group_id": WEB[0],
        **changes,
    }
    return Decision(intents=tuple(item.intent for item in outcomes), reason=reason, **keys)


def decided(
    second: float, *outcomes: Outcome, path: str | None = WEB[1], reason: str = "p20 4 ms, past 2 ms", **changes: Any
) -> Entry:
    return of_decision(decision(*outcomes, reason=reason, **changes), tuple(outcomes), path, at(second))


def held(second: float, reason: str = "the root disk is read-only", controller: str | None = None) -> Entry:
    return of_hold(Hold(controller, reason), at(second))


def words(entries: Sequence[Entry]) -> list[tuple[str, str, int, bool]]:
    """(kind, reason, times, lasts) of each."""
    return [(str(entry.kind), entry.reason, entry.times, entry.lasts) for entry in entries]
