"""The tables, and entries as rows of them.

Entries go in ascending order of id and the oldest go first: there are no gaps. No index: rows are appended, so that
a transaction touches few pages; a reader looks through the whole table, which its bound keeps small.

SQLite's integers are signed: an id at or past 2^63 is stored as what its 64 bits are when signed. Values of knobs are
JSON (null: no limit), so that a set of CPUs and a number are told apart.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from agent.control import Intent, Knob, KnobValue, Outcome, Result
from agent.history.entries import Entry, Kind, Moment, clipped
from agent.records import Qos

if TYPE_CHECKING:
    import sqlite3  # who only reads a status needs no database

SCHEMA = 1
APPLICATION_ID = 0x534C4B57
"""'SLKW', in the header of the file."""

TABLES = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    begin_wall_ns INTEGER NOT NULL,
    begin_monotonic_ns INTEGER NOT NULL,
    end_wall_ns INTEGER NOT NULL,
    times INTEGER NOT NULL,
    lasts INTEGER NOT NULL,
    controller TEXT,
    resource TEXT,
    group_id INTEGER,
    path TEXT,
    cause TEXT,
    reason TEXT NOT NULL,
    gives_back INTEGER NOT NULL,
    emergency INTEGER NOT NULL,
    inputs TEXT NOT NULL
);
CREATE TABLE outcome (
    entry_id INTEGER NOT NULL REFERENCES entry ON DELETE CASCADE,
    position INTEGER NOT NULL,
    group_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    knob TEXT NOT NULL,
    value TEXT NOT NULL,
    result TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    errno INTEGER,
    kernel_text TEXT,
    PRIMARY KEY (entry_id, position)
) WITHOUT ROWID;
"""

INSERT_ENTRY = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_OUTCOME = "INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def entry_row(entry: Entry) -> tuple[Any, ...]:
    """The values of INSERT_ENTRY. Paths are UTF-8 here: bytes that are none are written as \\xNN."""
    return (
        entry.id,
        entry.kind,
        entry.begin.wall_ns,
        entry.begin.monotonic_ns,
        entry.end_wall_ns,
        entry.times,
        entry.lasts,
        entry.controller,
        entry.resource,
        None if entry.group_id is None else signed(entry.group_id),
        None if entry.path is None else stored(entry.path),
        entry.cause,
        stored(entry.reason),
        entry.gives_back,
        entry.emergency,
        json.dumps({stored(name): _input(value) for name, value in entry.inputs.items()}),
    )


def outcome_rows(entry: Entry) -> list[tuple[Any, ...]]:
    """The values of INSERT_OUTCOME, one row each."""
    return [
        (
            entry.id,
            position,
            signed(item.intent.group_id),
            stored(item.intent.path),
            item.intent.knob,
            json.dumps(item.intent.value),
            item.result,
            json.dumps(item.before),
            json.dumps(item.after),
            item.errno,
            None if item.kernel_text is None else stored(item.kernel_text),
        )
        for position, item in enumerate(entry.outcomes)
    ]


def entry_of(row: sqlite3.Row, outcomes: tuple[Outcome, ...]) -> Entry:
    """The entry of a row of the table `entry`."""
    return Entry(
        kind=Kind(row["kind"]),
        begin=Moment(row["begin_wall_ns"], row["begin_monotonic_ns"]),
        end_wall_ns=row["end_wall_ns"],
        reason=row["reason"],
        controller=row["controller"],
        resource=row["resource"],
        group_id=None if row["group_id"] is None else unsigned(row["group_id"]),
        path=row["path"],
        cause=row["cause"],
        gives_back=bool(row["gives_back"]),
        emergency=bool(row["emergency"]),
        inputs={name: math.nan if value is None else value for name, value in json.loads(row["inputs"]).items()},
        outcomes=outcomes,
        times=row["times"],
        lasts=bool(row["lasts"]),
        id=row["id"],
    )


def outcome_of(row: sqlite3.Row) -> Outcome:
    """The outcome of a row of the table `outcome`."""
    intent = Intent(unsigned(row["group_id"]), row["path"], Knob(row["knob"]), _value(row["value"]))
    return Outcome(
        intent, Result(row["result"]), _value(row["before"]), _value(row["after"]), row["errno"], row["kernel_text"]
    )


def signed(id: int) -> int:
    return id - (1 << 64) if id >= 1 << 63 else id


def unsigned(id: int) -> int:
    """A partition of a class has an id below 0 (agent.control.partition_id); no kernel has given out the last ids."""
    return id if -len(Qos) <= id < 0 else id % (1 << 64)


def stored(text: str) -> str:
    """A path may hold bytes that are no UTF-8 (surrogates in Python), which SQLite does not take: \\xNN."""
    return clipped(text.encode(errors="surrogateescape").decode(errors="backslashreplace"))


def _value(text: str) -> KnobValue:
    value = json.loads(text)
    return tuple(value) if isinstance(value, list) else value


def _input(value: float | str) -> float | str | None:
    if isinstance(value, str):
        return stored(value)
    return value if math.isfinite(value) else None
