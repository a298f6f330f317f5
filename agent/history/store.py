"""The file: opened for writing by one thread, kept within its bounds of entries and bytes.

What is bounded is all that is on the disk: the database, its write-ahead log and the log's index. The database may
have `max_bytes` less what is set apart for the log; SQLite itself refuses to go past that (max_page_count). When less
than a transaction's room is left, or there are more than `max_entries`, the oldest sixteenth goes. The log is emptied
into the database every LOG_PAGES; while a reader that stays prevents this, nothing is written.

A commit does not wait for the disk (synchronous=NORMAL): kill -9 loses nothing that was committed, a power failure
the last seconds, and neither tears anything. Source: https://www.sqlite.org/wal.html, pragma.html.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.history.book import Update
from agent.history.entries import Entry, Kind
from agent.history.schema import APPLICATION_ID, INSERT_ENTRY, INSERT_OUTCOME, SCHEMA, TABLES, entry_row, outcome_rows

BYTES_MIN = 8 << 20
LOG_PAGES = 64
LOG_BYTES_MAX = 1 << 20
"""Past this nothing is written until the log has been emptied."""
_PAGE_BYTES = 4096
_TRANSACTION_BYTES = 2 << 20
"""1500 rows with the longest texts are 1.7 MB (writer: 500 rows, of which the last entry may have 1000 more)."""
_LOG_ROOM_BYTES = LOG_BYTES_MAX + _TRANSACTION_BYTES + (1 << 20)
"""Set apart: a transaction may begin when the log is nearly full; the rest is for pages in part, and the index."""
_CACHE_KIB = 256
_BUSY_S = 1.0
_FORGET_ROWS = 500
"""Per transaction when old entries go: the log is bounded, too."""


class UnusableFile(Exception):
    """The file is damaged or of another schema: it is to be moved out of the way."""


class LogFull(sqlite3.OperationalError):
    """A reader keeps the write-ahead log from being emptied."""


class Store:
    """An open history. Whatever it does raises sqlite3.Error or OSError where the disk does not do as it should."""

    def __init__(self, path: Path, max_entries: int, max_bytes: int, *, check: bool = True) -> None:
        """Opens or makes the file. `check`: read all of it for damage. Raises UnusableFile too."""
        self._log = Path(f"{path}-wal")
        self._max_entries = max_entries
        self._max_pages = (max(max_bytes, BYTES_MIN) - _LOG_ROOM_BYTES) // _PAGE_BYTES
        self._full_pages = self._max_pages - _TRANSACTION_BYTES // _PAGE_BYTES
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            self._open(check)
        except sqlite3.DatabaseError as err:
            self._db.close()
            if is_damage(err):
                raise UnusableFile(str(err)) from err
            raise
        except BaseException:
            self._db.close()
            raise

    def _open(self, check: bool) -> None:
        has_tables = bool(self._one("SELECT count(*) FROM sqlite_schema"))
        if has_tables and self._one("PRAGMA application_id") != APPLICATION_ID:
            raise sqlite3.OperationalError("this is another program's database")
        if has_tables and (schema := self._one("PRAGMA user_version")) != SCHEMA:
            raise UnusableFile(f"its schema is {schema}, not {SCHEMA}")
        for pragma in (
            f"page_size = {_PAGE_BYTES}",
            "auto_vacuum = INCREMENTAL",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            f"cache_size = -{_CACHE_KIB}",
            f"wal_autocheckpoint = {LOG_PAGES}",
            f"journal_size_limit = {LOG_BYTES_MAX}",
            "foreign_keys = ON",
        ):
            self._one(f"PRAGMA {pragma}")
        if not has_tables:
            marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA};"
            self._db.executescript(f"BEGIN; {TABLES} {marks} COMMIT")
        if check and (verdict := self._one("PRAGMA quick_check(1)")) != "ok":
            raise UnusableFile(str(verdict))
        self._db.execute("UPDATE entry SET lasts = 0 WHERE lasts")  # of an agent that was killed
        self._keep_within_bounds()
        while self._one("PRAGMA page_count") > self._max_pages and self._one("PRAGMA freelist_count"):
            self._db.execute(f"PRAGMA incremental_vacuum({LOG_PAGES})").fetchall()  # the bound was lowered
        self._one(f"PRAGMA max_page_count = {self._max_pages}")

    def close(self) -> None:
        """Empties the log. More than once does nothing."""
        self._db.close()

    @property
    def next_id(self) -> int:
        return int(self._one("SELECT ifnull(max(id), 0) + 1 FROM entry"))

    def last_of_agent(self) -> tuple[str, int] | None:
        """Reason of the last entry of kind AGENT, and when the last of all entries was still so (wall clock, ns)."""
        row = self._db.execute(
            "SELECT reason, (SELECT max(end_wall_ns) FROM entry) FROM entry WHERE kind = ? ORDER BY id DESC LIMIT 1",
            (Kind.AGENT,),
        ).fetchone()
        return (row[0], row[1]) if row else None

    def write(self, entries: Sequence[Entry], updates: Sequence[Update] = ()) -> None:
        """All in one transaction. The entries have ids, `next_id` and up."""
        with self._transaction():
            self._db.executemany(INSERT_ENTRY, map(entry_row, entries))
            self._db.executemany(INSERT_OUTCOME, [row for entry in entries for row in outcome_rows(entry)])
            self._db.executemany(
                "UPDATE entry SET end_wall_ns = ?, times = ?, lasts = ? WHERE id = ?",
                [(item.end_wall_ns, item.times, item.lasts, item.entry_id) for item in updates],
            )
        self._keep_within_bounds()

    def _keep_within_bounds(self) -> None:
        used_pages, entries = self._used_pages(), self._entries()
        if used_pages <= self._full_pages and entries <= self._max_entries:
            return
        while entries and (used_pages > self._full_pages * 15 // 16 or entries > self._max_entries * 15 // 16):
            self._forget_oldest(entries - self._max_entries * 15 // 16)
            used_pages, entries = self._used_pages(), self._entries()

    def _used_pages(self) -> int:
        return int(self._one("PRAGMA page_count")) - int(self._one("PRAGMA freelist_count"))

    def _entries(self) -> int:
        return int(self._one("SELECT ifnull(max(id) - min(id) + 1, 0) FROM entry"))

    def _forget_oldest(self, surplus: int) -> None:
        """Of the oldest entries as many as have some _FORGET_ROWS rows; at least one."""
        rows, last_id, count = 0, None, 0
        for last_id, outcomes in self._db.execute(  # noqa: B007
            "SELECT id, (SELECT count(*) FROM outcome WHERE entry_id = id) FROM entry ORDER BY id"
        ):
            rows, count = rows + 1 + outcomes, count + 1
            if rows >= _FORGET_ROWS or 0 < surplus <= count:
                break
        with self._transaction():
            self._db.execute("DELETE FROM entry WHERE id <= ?", (last_id,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._empty_log()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # after some errors SQLite has done so itself
                self._db.execute("ROLLBACK")
            raise

    def _empty_log(self) -> None:
        """Only if it has grown past its bound. Raises LogFull."""
        with contextlib.suppress(FileNotFoundError):
            if self._log.stat().st_size > LOG_BYTES_MAX and self._one("PRAGMA wal_checkpoint(TRUNCATE)"):
                raise LogFull(f"a reader keeps {self._log} from being emptied")

    def _one(self, query: str) -> Any:
        """The first value of the first row."""
        row = self._db.execute(query).fetchone()
        return row[0] if row else None


def is_damage(error: sqlite3.Error) -> bool:
    """The file's content, not the disk, is what is wrong."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
