"""Joins book and store: what the loop told becomes rows, in one transaction per batch."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from agent.history.book import Book
from agent.history.entries import BEFORE_WALL_NS, STARTED, STOPPED, Entry, Moment, of_agent
from agent.history.schema import entry_row, outcome_rows
from agent.history.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """All holds there are, from `now` on."""

    entries: tuple[Entry, ...]
    now: Moment


Item = Entry | Held


class Scribe:
    """Of one opened file. After an error it is to be thrown away: what it knows and what is written may differ."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._book = Book()
        self._next_id = store.next_id
        self.unfit = 0
        """Entries that were left out because they have something that no row can hold, as of a plug-in."""

    def started(self, about: str, now: Moment) -> Entry:
        """The entry to begin with: also says if the agent before this one ended without a word."""
        last = self._store.last_of_agent()
        words = f"{STARTED}: {about}"
        if last is None or not last[0].startswith(STARTED):
            return of_agent(words, now)
        return dataclasses.replace(
            of_agent(f"{words}; the one before was killed or crashed", now), inputs={BEFORE_WALL_NS: last[1]}
        )

    def write(self, items: Iterable[Item], now: Moment) -> int:
        """How many entries are new. Raises as Store.write does."""
        new: list[Entry] = []
        for item in items:
            if isinstance(item, Held):
                self._book.held_only(item.entries, item.now)
            for entry in item.entries if isinstance(item, Held) else (item,):
                if not self._book.goes_on(entry) and self._is_fit(entry):
                    entry = dataclasses.replace(entry, id=self._next_id)
                    self._next_id += 1
                    self._book.begun(entry)
                    new.append(entry)
        updates = self._book.due(now)
        if new or updates:
            self._store.write(new, updates)
        return len(new)

    def _is_fit(self, entry: Entry) -> bool:
        """What is not is said once."""
        try:
            entry_row(entry), outcome_rows(entry)
        except (TypeError, ValueError, AttributeError) as err:
            if not self.unfit:
                log.error("history: an entry of %s cannot be stored: %s: %s", entry.controller, type(err).__name__, err)
            self.unfit += 1
            return False
        return True

    def write_due(self, now: Moment) -> None:
        """What goes on, where it is time to say so."""
        if updates := self._book.due(now):
            self._store.write((), updates)

    def stopped(self, now: Moment) -> None:
        """The agent ends, and all holds with it."""
        self.write([Held((), now), of_agent(STOPPED, now)], now)
        self._store.write((), self._book.due(now, everything=True))

    def close(self) -> None:
        self._store.close()
