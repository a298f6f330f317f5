"""The history as a table, one line per entry. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from agent.cli.text import begun, fitted
from agent.cli.words import change, clock_time, elapsed
from agent.history.entries import Entry, Kind
from agent.units import NS_PER_S

_TITLES = ("time", "who", "for", "what", "why")
_WIDTHS_MIN = (8, 3, 20, 24, 20)


def table(entries: Sequence[Entry], now_wall_ns: int, width: int) -> list[str]:
    """The titles, then the entries in their order. A narrow terminal takes from the widest columns."""
    rows = [_TITLES, *(_row(entry, now_wall_ns) for entry in entries)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_TITLES))]
    while sum(widths) + 2 * len(widths) > width and widths > list(_WIDTHS_MIN):
        widest = max(
            (i for i in range(len(widths)) if widths[i] > _WIDTHS_MIN[i]), key=widths.__getitem__, default=None
        )
        if widest is None:
            break
        widths[widest] -= 1
    return [_line(row, widths) for row in rows]


def _line(row: tuple[str, ...], widths: Sequence[int]) -> str:
    time, who, path, what, why = row
    cells = (
        begun(time, widths[0]),
        begun(who, widths[1]),
        fitted(path, widths[2]),
        begun(what, widths[3]),
        begun(why, widths[4]),
    )
    return "  ".join(cells).rstrip()


def _row(entry: Entry, now_wall_ns: int) -> tuple[str, ...]:
    why = f"{entry.cause}: {entry.reason}" if entry.cause and not entry.gives_back else entry.reason
    return clock_time(entry.begin.wall_ns, now_wall_ns), _who(entry), entry.path or "-", _what(entry), why


def _who(entry: Entry) -> str:
    if entry.kind is Kind.HOLD:
        return entry.controller or "all"
    return entry.controller or str(entry.kind)


def _what(entry: Entry) -> str:
    times = f"{entry.times} x " if entry.times > 1 else ""
    if entry.kind is Kind.HOLD:
        seconds = (entry.end_wall_ns - entry.begin.wall_ns) / NS_PER_S
        return f"{times}{'holds still' if entry.lasts else f'held still {elapsed(seconds)}'}"
    if not entry.outcomes:
        return f"{times}cannot be cured here" if entry.kind is Kind.EVENT else "-"
    first = entry.outcomes[0]
    whose = "" if first.intent.group_id == entry.group_id else f"{first.intent.path.rpartition('/')[2] or '/'} "
    more = f" +{len(entry.outcomes) - 1}" if len(entry.outcomes) > 1 else ""
    return f"{times}{whose}{change(first).removesuffix(': applied')}{more}"
