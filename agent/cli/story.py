"""What happened to a group, told in sentences and numbers. Pure."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.cli.text import fitted
from agent.cli.words import change, clock_time, counted, elapsed, inputs_in_words, knob_value, listed, zone
from agent.config_explain import one_line
from agent.control import Knob, KnobValue, Outcome, Result
from agent.history.entries import BEFORE_WALL_NS, Entry, Kind, words
from agent.units import NS_PER_S

ENTRIES_TOLD = 60
CHANGES_TOLD = 4
"""Outcomes of one decision that are told singly."""
FLIGHT_GAP_S = 15
SHORT_HOLD_S = 5
_VALUES_TOLD = 8
_MARGIN = 10
_PATH_WIDTH = 64


@dataclass(slots=True)
class _Turned:
    """A setting that is not as it was found. `value`: before the first turn; `wall_ns`: of that turn."""

    value: KnobValue
    wall_ns: int


class Story:
    """Of entries in their order, about the groups with these paths; `now_wall_ns` is when it is told."""

    def __init__(
        self, entries: Sequence[Entry], now_wall_ns: int, width: int, *, paths: Sequence[str], is_agent_alive: bool
    ) -> None:
        self._now_wall_ns = now_wall_ns
        self._width = max(width, 40)
        self._paths = list(paths)
        self._is_agent_alive = is_agent_alive
        self._turned: dict[tuple[int, Knob], _Turned] = {}
        who = {entry.controller for entry in entries if entry.kind is Kind.DECISION} | {None}
        self._entries = [
            entry
            for entry in entries
            if entry.kind is not Kind.HOLD or entry.controller in who or self._seconds(entry) >= SHORT_HOLD_S
        ]

    def lines(self) -> Iterator[str]:
        """The entries, each with a time at the margin; what only goes on as before is one of them."""
        flights = list(_flights(self._entries))
        if (hidden := len(flights) - ENTRIES_TOLD) > 0:
            yield f"{hidden} earlier ones are left out; `slackwater history` lists them all"
        for number, flight in enumerate(flights):
            first, *rest = self._flight(flight) if len(flight) > 1 else self._sentences(flight[0])
            if number >= hidden:
                yield from self._wrapped(f"{self._time(flight[0].begin.wall_ns)}  ", first)
                for line in rest:
                    yield from self._wrapped(" " * _MARGIN, line)

    def summary(self) -> str:
        """What was done, how often, and for which cause."""
        decisions = [entry for entry in self._entries if entry.kind is Kind.DECISION]
        parts = []
        for controller in dict.fromkeys(entry.controller for entry in decisions):
            mine = [entry for entry in decisions if entry.controller == controller]
            steps = sum(entry.times for entry in mine if not entry.gives_back)
            back = sum(entry.times for entry in mine if entry.gives_back)
            causes = Counter(entry.cause for entry in mine if entry.cause and not entry.gives_back)
            because = f" because of {listed(cause for cause, _ in causes.most_common())}" if causes else ""
            parts.append(f"{counted(steps, 'step')} by {controller}{because}, {back} back")
        results = Counter(outcome.result for entry in decisions for outcome in entry.outcomes)
        parts += [
            f"{count} {words}"
            for result, words in (
                (Result.REFUSED, "refused by the kernel"),
                (Result.FOREIGN, "left as somebody else had set it"),
                (Result.DRY_RUN, "only in dry run"),
            )
            if (count := results[result])
        ]
        if not decisions:
            parts.append("nothing was decided for it")
        held_s = sum(
            self._seconds(entry) for entry in self._entries if entry.kind is Kind.HOLD and not entry.controller
        )
        if held_s >= 1:
            parts.append(f"nothing allowed for {elapsed(held_s)}")
        return "; ".join(parts)

    def _sentences(self, entry: Entry) -> Iterator[str]:
        reason = one_line(entry.reason)
        match entry.kind:
            case Kind.HOLD:
                yield self._hold(entry, reason)
            case Kind.EVENT:
                cause = f" ({entry.cause})" if entry.cause else ""
                yield f"cannot be cured on this node{cause}: {reason}{self._again(entry)}"
            case Kind.AGENT:
                yield f"the agent {reason}{self._last_heard(entry)}{self._again(entry)}"
            case Kind.DECISION:
                yield f"{self._who(entry)}: {reason}{self._again(entry)}"
                yield from self._changes(entry)
        if entry.inputs and entry.kind is not Kind.AGENT:
            yield f"seen: {one_line(inputs_in_words(entry.inputs))}"

    def _who(self, entry: Entry, steps: str = "") -> str:
        back = " gives back" if entry.gives_back else ""
        urgent = " at once" if entry.emergency else ""
        sake = f", for {_short(entry.path)}" if entry.path and self._paths != [entry.path] else ""
        cause = f", because of {entry.cause}" if entry.cause and not entry.gives_back else ""
        return f"{entry.controller}{back}{urgent}{steps}{sake}{cause}"

    def _flight(self, flight: Sequence[Entry]) -> Iterator[str]:
        """Steps of one setting, one after the other."""
        first, last = flight[0], flight[-1]
        steps = f", {len(flight)} steps until {self._time(last.begin.wall_ns)}"
        at_the_end = "" if words(last.reason) == words(first.reason) else f"; at the end: {one_line(last.reason)}"
        yield f"{self._who(first, steps)}: {one_line(first.reason)}{at_the_end}"
        knob = first.outcomes[0].intent.knob
        values = [first.outcomes[0].before, *(entry.outcomes[0].after for entry in flight)]
        told = [knob_value(knob, value) for value in values]
        if len(told) > _VALUES_TOLD:
            told[_VALUES_TOLD // 2 : -_VALUES_TOLD // 2] = ["…"]
        restored = [self._restored(entry, entry.outcomes[0]) for entry in flight][-1]
        yield f"{self._whose(first.outcomes[0])}{knob} {' -> '.join(told)}: applied{restored}"
        if last.inputs:
            yield f"seen at the end: {one_line(inputs_in_words(last.inputs))}"

    def _changes(self, entry: Entry) -> Iterator[str]:
        for number, outcome in enumerate(entry.outcomes):
            restored = self._restored(entry, outcome)
            if number < CHANGES_TOLD:
                yield f"{self._whose(outcome)}{one_line(change(outcome))}{restored}"
        if more := Counter(outcome.result.value for outcome in entry.outcomes[CHANGES_TOLD:]):
            yield f"and {more.total()} more: {listed(f'{count} {result}' for result, count in more.most_common())}"

    def _whose(self, outcome: Outcome) -> str:
        path = outcome.intent.path
        return "its " if self._paths == [path] else f"{_short(path)}: "

    def _restored(self, entry: Entry, outcome: Outcome) -> str:
        """Says so when this puts a setting back to what it was before the first turn that is told of."""
        if outcome.result is not Result.APPLIED:
            return ""
        key = outcome.intent.group_id, outcome.intent.knob
        turned = self._turned.setdefault(key, _Turned(outcome.before, entry.begin.wall_ns))
        if outcome.after != turned.value:
            return ""
        del self._turned[key]
        seconds = (entry.begin.wall_ns - turned.wall_ns) / NS_PER_S
        return f", as it was before {self._time(turned.wall_ns)} (after {elapsed(seconds)})"

    def _hold(self, entry: Entry, reason: str) -> str:
        lasts = entry.lasts and self._is_agent_alive
        if entry.controller:
            who = f"{entry.controller} {'has done' if lasts else 'did'} nothing"
        else:
            who = f"nothing {'has been' if lasts else 'was'} done"
        long = elapsed(self._seconds(entry))
        if lasts:
            when = f"for {long}"
        elif entry.lasts:  # the agent was killed meanwhile
            when = f"for at least {long}"
        else:
            when = f"for {long}, until {self._time(entry.end_wall_ns)}"
        often = f", {entry.times} times" if entry.times > 1 else ""
        return f"{who} {when}{often}, because {reason}"

    def _last_heard(self, entry: Entry) -> str:
        before_ns = entry.inputs.get(BEFORE_WALL_NS)
        return f", last heard of at {self._time(int(before_ns))}" if isinstance(before_ns, int | float) else ""

    def _seconds(self, entry: Entry) -> float:
        end_ns = self._now_wall_ns if entry.lasts and self._is_agent_alive else entry.end_wall_ns
        return max(end_ns - entry.begin.wall_ns, 0) / NS_PER_S

    def _again(self, entry: Entry) -> str:
        return f" ({entry.times} times until {self._time(entry.end_wall_ns)})" if entry.times > 1 else ""

    def _time(self, wall_ns: int) -> str:
        return clock_time(wall_ns, self._now_wall_ns)

    def _wrapped(self, margin: str, text: str) -> list[str]:
        indent = " " * (_MARGIN + 2 if margin.isspace() else _MARGIN)
        return textwrap.wrap(
            text,
            self._width,
            initial_indent=margin,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )


def heading(paths: Sequence[str], cgroups: int, since_wall_ns: int, now_wall_ns: int) -> str:
    """Of whom and of when is told."""
    who = one_line(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    if len(paths) == 1 and cgroups > 1:
        who += f" ({cgroups} cgroups, one after the other)"
    begin, end = clock_time(since_wall_ns, now_wall_ns), clock_time(now_wall_ns, now_wall_ns)
    seconds = (now_wall_ns - since_wall_ns) / NS_PER_S
    return f"{who}, the last {elapsed(seconds)} ({begin} to {end} {zone(now_wall_ns)})"


def _flights(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Steps of the same setting in the same direction that follow upon one another are one flight."""
    flight: list[Entry] = []
    for entry in entries:
        if flight and not _is_next_step(flight[-1], entry):
            yield flight
            flight = []
        flight.append(entry)
    if flight:
        yield flight


def _is_next_step(one: Entry, other: Entry) -> bool:
    if not (one.kind is other.kind is Kind.DECISION and len(one.outcomes) == len(other.outcomes) == 1):
        return False
    before, after = one.outcomes[0], other.outcomes[0]
    return (
        (one.controller, one.group_id, one.cause, one.gives_back)
        == (other.controller, other.group_id, other.cause, other.gives_back)
        and (before.intent.group_id, before.intent.knob) == (after.intent.group_id, after.intent.knob)
        and before.result is after.result is Result.APPLIED
        and before.after == after.before
        and other.begin.wall_ns - one.end_wall_ns <= FLIGHT_GAP_S * NS_PER_S
    )


def _short(path: str) -> str:
    return fitted(path, min(len(path), _PATH_WIDTH)) if len(path) > 3 else one_line(path)
