"""The knobs that are not as their owners left them, each on record, and the owners who are left alone."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.actuators.cgroup import Gone, Group, Unsupported
from agent.actuators.journal import Journal
from agent.actuators.journal_records import Entry, KnobKey
from agent.control import Knob, KnobState, KnobValue
from agent.units import NS_PER_S

FOREIGN_WRITES_MAX, FOREIGN_WINDOW_S = 3, 60


@dataclass(slots=True)
class Held:
    """A knob that is not at its base, or that we are about to write."""

    group: Group
    entry: Entry
    text: str
    """What is there as long as nobody else writes."""
    is_companion: bool = False

    @property
    def base(self) -> KnobValue:
        return self.value(self.entry.base)

    @property
    def current(self) -> KnobValue:
        return self.value(self.text)

    def value(self, text: str) -> KnobValue:
        """ValueError."""
        return self.group.file_of(self.entry.knob).parse(text)

    def is_ours(self, text: str) -> bool:
        """cpu.idle changes the weight, whoever writes it."""
        by_idle = self.group.file_of(self.entry.knob).by_idle
        return text == self.text or (text in by_idle and text in self.entry.wrote)


class Holdings(dict[KnobKey, Held]):
    """Held knobs by group and knob."""

    def __init__(self, journal: Journal, now_ns: Callable[[], int]) -> None:
        super().__init__()
        self.journal = journal
        self.states: dict[KnobKey, KnobState] = {}
        """Of those held, and of those left to their owners."""
        self.foreign_writes_max = FOREIGN_WRITES_MAX
        self._now_ns = now_ns
        self._foreign_ns: dict[KnobKey, deque[int]] = {}

    def announce(self, group: Group, knob: Knob, base: str, wrote: tuple[str, ...]) -> Held:
        """One of `wrote` is about to be written. OSError: it is not on record, and must not be."""
        entry = Entry(group.id, group.directory_id(knob), group.path, knob, base, wrote)
        self.journal.announce(entry)
        held = self.setdefault(entry.key, Held(group, entry, base))
        held.entry = entry
        return held

    def settle(self, held: Held, text: str) -> None:
        """This is what is there now; at its base the knob is held no more."""
        held.text = text
        if text == held.entry.base:
            self.free(held.entry.key)
        else:
            self.states[held.entry.key] = KnobState(held.base, held.current)

    def free(self, key: KnobKey) -> None:
        """Nothing of ours is on it."""
        del self[key]
        self.states.pop(key, None)
        with contextlib.suppress(OSError):  # then it will be found as it was
            self.journal.free(key)

    def yield_to_owner(self, held: Held, text: str) -> KnobValue:
        """The owner has written this text; its value. One who does so too often is left alone from now on."""
        key, value, now_ns = held.entry.key, held.value(text), self._now_ns()
        self.free(key)
        times_ns = self._foreign_ns.setdefault(key, deque())
        times_ns.append(now_ns)
        while now_ns - times_ns[0] > FOREIGN_WINDOW_S * NS_PER_S:
            times_ns.popleft()
        if len(times_ns) > self.foreign_writes_max:
            self.states[key] = KnobState(value, value, is_foreign=True)
        return value

    def forget(self, group_ids: frozenset[int]) -> None:
        """These groups are gone."""
        for key in [key for key in self if key[0] in group_ids]:
            self.free(key)
        for key in [key for key in self._foreign_ns if key[0] in group_ids]:
            del self._foreign_ns[key]
            self.states.pop(key, None)


# sched_group_set_idle, kernel/sched/fair.c: idle = 1 overwrites the weight, idle = 0 makes it the default.


def keep_weight(holdings: Holdings, group: Group) -> None:
    """Before cpu.idle is made 1: the weight is on record, unless it is the default. OSError: it is not."""
    try:
        text, by_idle = group.read(Knob.WEIGHT), group.file_of(Knob.WEIGHT).by_idle
    except (Gone, Unsupported):
        return
    held = holdings.get((group.id, Knob.WEIGHT))
    if held or text not in by_idle[-1:]:
        base = held.entry.base if held else text
        holdings.announce(group, Knob.WEIGHT, base, (text, *by_idle)).is_companion = True


def look_at_weight(holdings: Holdings, group: Group) -> None:
    """After cpu.idle was written. While we make it 1, a weight that looks like its base is not: it will be lost."""
    held = holdings.get((group.id, Knob.WEIGHT))
    if held is None:
        return
    with contextlib.suppress(Gone, OSError):
        text = group.read(Knob.WEIGHT)
        if not held.is_ours(text):
            return
        held.text = text
        if (group.id, Knob.IDLE) not in holdings or group.read(Knob.IDLE) == "0":
            holdings.settle(held, text)
        else:
            holdings.states[held.entry.key] = KnobState(held.base, held.current)
