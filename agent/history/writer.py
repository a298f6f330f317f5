"""History as the loop sees it: calls that put something into a queue and return. A thread of its own writes it.

A disk that is full, read-only or gone is said once; what is lost meanwhile is counted, and every RETRY_S it is tried
again. A damaged file is renamed to *.damaged, and a new one is begun.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.control import Decision, Event, Hold, Outcome
from agent.history.entries import Entry, Moment, clock_now, of_agent, of_decision, of_event, of_hold, sameness_of_hold
from agent.history.scribe import Held, Item, Scribe
from agent.history.store import Store, UnusableFile, is_damage
from agent.units import NS_PER_S

log = logging.getLogger(__name__)

QUEUE_MAX = 1024
RETRY_S = 10
WELL_S = 60
"""A disk that is full takes a little now and then: it is well only after so long."""
CLOSE_S = 2.0
GATHER_S = 0.5
"""How long news may lie in the queue: kill -9 loses no more than this."""
_ROWS_PER_TRANSACTION = 500
_DAMAGED = ".damaged"


@dataclass(frozen=True, slots=True)
class HistoryCounts:
    """Since the start: new entries `written`, tellings `dropped`. `error`: why it cannot write now."""

    written: int
    dropped: int
    error: str | None


class HistoryWriter:
    """Writes from the moment it is made; the file is opened by the thread. No call but `close` waits, none raises."""

    def __init__(
        self, path: Path, *, max_entries: int, max_bytes: int, about: str, clock: Callable[[], Moment] = clock_now
    ) -> None:
        """`about`: what the entry of the start says of this agent, such as "pid 1234, enforce on"."""
        self._file = _File(path, max_entries, max_bytes, about)
        self._clock = clock
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._told_holds: frozenset[object] = frozenset()
        self._refused = 0
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    def decided(self, decision: Decision, outcomes: tuple[Outcome, ...], path: str | None) -> None:
        """`path` of the group for whose sake."""
        self._put(of_decision(decision, outcomes, path, self._clock()))

    def held(self, holds: Iterable[Hold]) -> None:
        """To be called every tick with all holds; only a change is written."""
        now = self._clock()
        unique = {sameness_of_hold(hold): hold for hold in holds}
        if unique.keys() != self._told_holds and self._put(
            Held(tuple(of_hold(hold, now) for hold in unique.values()), now)
        ):
            self._told_holds = frozenset(unique)

    def event(self, event: Event) -> None:
        self._put(of_event(event, self._clock()))

    def counts(self) -> HistoryCounts:
        return HistoryCounts(self._file.written, self._refused + self._file.lost, self._file.error)

    def close(self) -> None:
        """Write what is left; waits up to CLOSE_S for the disk. More than once does nothing."""
        self._closing.set()
        self._thread.join(CLOSE_S)

    def _put(self, item: Item) -> bool:
        if self._queue.qsize() >= QUEUE_MAX:
            self._refused += 1
            return False
        self._queue.put(item)  # takes no lock that the thread could hold while it is not running
        return True

    def _work(self) -> None:
        """The thread. It looks into the queue now and then, rather than to wake just when the loop is busy."""
        is_last = False
        while not is_last:
            is_last = self._closing.wait(GATHER_S)
            while items := self._next_items():
                self._file.write(items, self._clock())
            self._file.write_due(self._clock(), is_last=is_last)

    def _next_items(self) -> list[Item]:
        """What there is, up to a transaction's worth."""
        items: list[Item] = []
        rows = 0
        while rows < _ROWS_PER_TRANSACTION:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            items.append(item)
            rows += 1 + (len(item.outcomes) if isinstance(item, Entry) else len(item.entries))
        return items


class _File:
    """The file as the thread sees it: opened when needed, given up on an error, tried again after RETRY_S."""

    def __init__(self, path: Path, max_entries: int, max_bytes: int, about: str) -> None:
        self.written = self.lost = 0
        self.error: str | None = None
        self._path, self._max_entries, self._max_bytes, self._about = path, max_entries, max_bytes, about
        self._scribe: Scribe | None = None
        self._holds: Held | None = None
        self._was_open = self._is_checked = False
        self._lost_before = self._lost_when_told = 0
        self._told_errors: set[str] = set()
        self._failed_monotonic_ns: float = -math.inf

    def write(self, items: list[Item], now: Moment) -> None:
        """Never raises: what cannot be written is counted."""
        holds, self._holds = self._holds, next((i for i in reversed(items) if isinstance(i, Held)), self._holds)
        if self._scribe is None and not self._may_try(now):
            self.lost += len(items)
            return
        told = items
        try:
            if self._scribe is None:
                self._scribe = self._open()
                told = [self._first(self._scribe, now), *([holds] if holds else []), *items]
            unfit_before = self._scribe.unfit
            self.written += self._scribe.write(told, now)
            self.lost += self._scribe.unfit - unfit_before
        except (sqlite3.Error, OSError, UnusableFile, OverflowError) as err:
            self.lost += len(items)
            self._give_up(err, now)
        else:
            self._is_well(now)

    def write_due(self, now: Moment, *, is_last: bool) -> None:
        """What goes on, now and then; with `is_last` all of it, and that the agent stopped. Opens the file, too."""
        if self._scribe is None and self._may_try(now):
            self.write([], now)
        if self._scribe is None:
            return
        try:
            if is_last:
                self._scribe.stopped(now)
                self._close()
            else:
                self._scribe.write_due(now)
        except (sqlite3.Error, OSError) as err:
            self._give_up(err, now)

    def _may_try(self, now: Moment) -> bool:
        return now.monotonic_ns - self._failed_monotonic_ns >= RETRY_S * NS_PER_S

    def _open(self) -> Scribe:
        bounds = self._max_entries, self._max_bytes
        try:
            store = Store(self._path, *bounds, check=not self._is_checked)
        except UnusableFile as err:
            aside = f"{self._path}{_DAMAGED}"
            log.warning("history: %s cannot be used (%s); it is now %s, a new one is begun", self._path, err, aside)
            _move(self._path, aside)
            store = Store(self._path, *bounds, check=False)
        self._is_checked = True
        return Scribe(store)

    def _first(self, scribe: Scribe, now: Moment) -> Entry:
        """The entry that a file which was opened begins with."""
        if not self._was_open:
            return scribe.started(self._about, now)
        return of_agent(f"goes on; {self.lost - self._lost_before} entries are missing: {self.error}", now)

    def _is_well(self, now: Moment) -> None:
        self._was_open, self.error, self._lost_before = True, None, self.lost
        if self._told_errors and now.monotonic_ns - self._failed_monotonic_ns >= WELL_S * NS_PER_S:
            log.warning("history: written again; %d entries are missing", self.lost - self._lost_when_told)
            self._told_errors.clear()

    def _give_up(self, error: Exception, now: Moment) -> None:
        self.error = str(error)
        if not self._told_errors:
            self._lost_when_told = self._lost_before
        if self.error not in self._told_errors:
            self._told_errors.add(self.error)
            log.error("history: %s is not written: %s", self._path, self.error)
        self._is_checked &= not (isinstance(error, sqlite3.Error) and is_damage(error))
        self._failed_monotonic_ns = now.monotonic_ns
        self._close()

    def _close(self) -> None:
        """Closing empties the log, which may fail as well."""
        scribe, self._scribe = self._scribe, None
        if scribe:
            try:
                scribe.close()
            except sqlite3.Error as err:
                log.debug("history: %s", err)


def _move(path: Path, aside: str) -> None:
    """With the write-ahead log: without the file it belongs to it means nothing. One that is aside already is lost."""
    os.replace(path, aside)
    for suffix in ("-wal", "-shm"):
        if os.path.exists(f"{path}{suffix}"):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
