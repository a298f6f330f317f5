"""Asking the history while the agent writes it, or when there is no agent. Opens the file for reading only."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from agent.control import Knob, Outcome
from agent.discovery.rules import glob_regex
from agent.errors import HostError
from agent.history.entries import Entry, Kind
from agent.history.schema import APPLICATION_ID, SCHEMA, entry_of, outcome_of, signed, unsigned

_BUSY_S = 5.0


@dataclass(frozen=True, slots=True)
class KnownGroup:
    """A group of which the history tells. The same path may have belonged to several ids, one after the other."""

    id: int
    path: str


class HistoryReader:
    """An open history. Raises HostError when there is none or it cannot be read, here as in every call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise HostError("no history yet: no agent has written one", path=str(path))
        try:
            self._db = self._connect("mode=ro")
        except sqlite3.OperationalError:
            # Without the right to write beside the file SQLite cannot follow a log; without an agent there is none.
            if Path(f"{path}-wal").exists():
                raise HostError("cannot be read by this user", path=str(path)) from None
            self._db = self._connect("immutable=1")
        except sqlite3.Error as err:
            raise HostError(f"not a history: {err}", path=str(path)) from err

    def __enter__(self) -> HistoryReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def _connect(self, how: str) -> sqlite3.Connection:
        db = sqlite3.connect(f"file:{quote(str(self._path))}?{how}", uri=True, timeout=_BUSY_S, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            application = db.execute("PRAGMA application_id").fetchone()[0]
            schema = db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error:
            db.close()
            raise
        if (application, schema) != (APPLICATION_ID, SCHEMA):
            db.close()
            what = f"a history of schema {schema}" if application == APPLICATION_ID else "not a history"
            raise HostError(f"{what}; this slackwater reads schema {SCHEMA}", path=str(self._path))
        return db

    def groups(self) -> list[KnownGroup]:
        """All groups that any entry tells of, by path, the oldest id first."""
        columns = "SELECT group_id, path FROM"
        rows = self._all(f"{columns} entry WHERE group_id IS NOT NULL UNION {columns} outcome")
        return sorted((KnownGroup(unsigned(row[0]), row[1]) for row in rows), key=lambda item: (item.path, item.id))

    def entries(
        self,
        *,
        since_wall_ns: int = 0,
        ids: Collection[int] | None = None,
        kinds: Collection[Kind] = tuple(Kind),
        limit: int | None = None,
    ) -> list[Entry]:
        """The newest `limit` entries that were so at or after `since_wall_ns`, in the order of writing.

        With the `ids` of groups: decisions for their sake or that turned one of their knobs, and events of them.
        """
        where = f"(end_wall_ns >= ? OR lasts) AND kind IN ({', '.join('?' * len(kinds))})"
        if ids is not None:
            self._want(ids)
            where += " AND (wanted(group_id) OR id IN (SELECT entry_id FROM outcome WHERE wanted(group_id)))"
        rows = self._all(
            f"SELECT * FROM entry WHERE {where} ORDER BY id DESC LIMIT ?",
            [since_wall_ns, *kinds, -1 if limit is None else limit],
        )
        rows.reverse()
        outcomes = self._outcomes([row["id"] for row in rows])
        return [entry_of(row, tuple(outcomes[row["id"]])) for row in rows]

    def turned_for(self, groups: Iterable[KnownGroup]) -> set[tuple[int, Knob]]:
        """Settings (of whatever group) that were ever turned for the sake of these, or were theirs."""
        self._want([group.id for group in groups])
        rows = self._all(
            "SELECT DISTINCT outcome.group_id, knob FROM outcome JOIN entry ON entry.id = entry_id"
            " WHERE NOT gives_back AND (wanted(entry.group_id) OR wanted(outcome.group_id))"
        )
        return {(unsigned(row[0]), Knob(row[1])) for row in rows}

    def _want(self, ids: Iterable[int]) -> None:
        """What the SQL function `wanted` says of a group's id from now on."""
        wanted = {signed(id) for id in ids}
        self._db.create_function("wanted", 1, lambda id: id in wanted, deterministic=True)

    def _outcomes(self, ids: list[int]) -> dict[int, list[Outcome]]:
        found: defaultdict[int, list[Outcome]] = defaultdict(list)
        if ids:
            wanted = set(ids)
            for row in self._all("SELECT * FROM outcome WHERE entry_id BETWEEN ? AND ?", [ids[0], ids[-1]]):
                if row["entry_id"] in wanted:
                    found[row["entry_id"]].append(outcome_of(row))
        return found

    def _all(self, query: str, values: Iterable[int | str] = ()) -> list[sqlite3.Row]:
        try:
            return self._db.execute(query, tuple(values)).fetchall()
        except sqlite3.Error as err:
            raise HostError(f"cannot be read: {err}", path=str(self._path)) from err


def matching(groups: Iterable[KnownGroup], pattern: str) -> list[KnownGroup]:
    """By path, by a glob that begins with "/", or by a part of the path. A path that is there is only itself."""
    groups = list(groups)
    if exact := [group for group in groups if group.path == pattern]:
        return exact
    matches = glob_regex(pattern if pattern.startswith("/") else f"**{pattern}**").fullmatch
    return [group for group in groups if matches(group.path)]
