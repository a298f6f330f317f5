"""What is new: a hold is an entry from its begin to its end, and what is decided again is counted. Pure.

In dry run every tick decides the same, and a write that is refused is refused again: one entry with `times`. Each
such span is written when it begins, then at most every FLUSH_S, and when it has been over for GAP_S; so a hold that
comes and goes with every tick is one entry, too.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from agent.history.entries import Entry, Kind, Moment
from agent.units import NS_PER_S

GAP_S = 10
FLUSH_S = 60


@dataclass(slots=True)
class _Span:
    entry_id: int
    sameness: Hashable
    end: Moment
    times: int
    lasts: bool
    flushed_monotonic_ns: int
    is_dirty: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """New values of an entry that is written already."""

    entry_id: int
    end_wall_ns: int
    times: int
    lasts: bool


class Book:
    """Entries that may still go on. Bounded by what happens within GAP_S and by the holds of a tick."""

    def __init__(self) -> None:
        self._spans: dict[Hashable, _Span] = {}

    def goes_on(self, entry: Entry) -> bool:
        """Whether this is an entry that is written already, going on; else it is to be written, then `begun`.

        Of decisions only the last one of a controller for a group goes on: on, off, on is three.
        """
        span = self._spans.get(_place(entry))
        if span is None or span.sameness != entry.sameness:
            return False
        if not span.lasts and _s_between(span.end, entry.begin) > GAP_S:
            return False
        if not span.lasts:
            span.times += 1
        span.end, span.lasts, span.is_dirty = entry.begin, entry.lasts, True
        return True

    def begun(self, entry: Entry) -> None:
        """The entry is written."""
        assert entry.id is not None
        now = entry.begin
        self._spans[_place(entry)] = _Span(entry.id, entry.sameness, now, entry.times, entry.lasts, now.monotonic_ns)

    def held_only(self, holds: Iterable[Entry], now: Moment) -> None:
        """All holds but these are over."""
        still = {_place(entry) for entry in holds}
        for place, span in self._spans.items():
            if span.lasts and place not in still:
                span.end, span.lasts, span.is_dirty = now, False, True

    def due(self, now: Moment, *, everything: bool = False) -> list[Update]:
        """What is to be written now. What has been over for GAP_S is forgotten."""
        updates = []
        for place, span in list(self._spans.items()):
            if span.lasts:
                span.end, span.is_dirty = now, True
            is_over = not span.lasts and _s_between(span.end, now) > GAP_S
            is_old = now.monotonic_ns - span.flushed_monotonic_ns >= FLUSH_S * NS_PER_S
            if span.is_dirty and (is_over or is_old or everything):
                updates.append(Update(span.entry_id, span.end.wall_ns, span.times, span.lasts))
                span.is_dirty, span.flushed_monotonic_ns = False, now.monotonic_ns
            if is_over:
                del self._spans[place]
        return updates


def _place(entry: Entry) -> Hashable:
    if entry.kind is Kind.DECISION:
        return entry.kind, entry.controller, entry.group_id
    return entry.sameness


def _s_between(earlier: Moment, later: Moment) -> float:
    return (later.monotonic_ns - earlier.monotonic_ns) / NS_PER_S
