"""The one writer of knobs: reads what is there, plans the order, has each knob written, and says what came of it.

A knob is held from the first write until it is at its base again. A text that is not what the executor left there is
its owner's word: it is the new base, nothing of ours is on the knob any more, and the outcome is FOREIGN; what was to
be written is not, because it was decided from another base. An owner who writes too often (`tolerate`) is
left alone for as long as the group lives.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.actuators import constraints, journal
from agent.actuators.cgroup import Gone, Group, Hierarchies, Unsupported
from agent.actuators.constraints import Key, View, Write
from agent.actuators.holdings import Held, Holdings
from agent.actuators.journal import Journal, Lock
from agent.actuators.journal_records import Contents, DeviceEntry, Entry, ResctrlEntry
from agent.actuators.report import Fate, Report, Restored
from agent.actuators.view import look
from agent.actuators.writer import Writer, refused
from agent.control import Intent, Knob, KnobState, KnobValue, Outcome, Result
from agent.errors import HostError
from agent.host import Host

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Executor:
    """Opened with `open`; there is one per journal."""

    def __init__(self, hierarchies: Hierarchies, own_path: str | None, lock: Lock, holdings: Holdings) -> None:
        self._writer = Writer(hierarchies, holdings)
        self._held = holdings
        self._lock = lock
        self._own_path = own_path
        self.recovered = Report()
        """What a predecessor had left, and what became of it."""
        self.devices: tuple[DeviceEntry, ...] = ()
        """Network devices that it had left: for actuators/network.py to put back."""
        self.resctrl: tuple[ResctrlEntry, ...] = ()
        """The same: for actuators/resctrl.py."""

    @classmethod
    def open(cls, host: Host, journal_path: Path, now_ns: Callable[[], int] = time.monotonic_ns) -> Executor:
        """Take the lock, and put back what a dead predecessor left (`recovered`).

        HostError: there are no groups, another agent enforces (its process is named), or the journal cannot be used.
        """
        hierarchies = Hierarchies.of(host)
        if hierarchies is None:
            raise HostError("no cgroup hierarchy with the cpu controller is mounted")
        lock = Lock(journal_path)
        try:
            boot_id = _BOOT_ID.read_text().strip()
            left = journal.read(journal_path, boot_id)
            record = Journal(journal_path, boot_id, left.all)
            executor = cls(hierarchies, host.own_cgroup, lock, Holdings(record, now_ns))
            executor._adopt(left)
        except OSError as err:
            lock.close()
            raise HostError.of(err, str(journal_path)) from err
        except BaseException:
            lock.close()
            raise
        return executor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def knobs(self) -> Mapping[Key, KnobState]:
        """The knobs that are held, and those that are left to their owners. A snapshot."""
        return dict(self._held.states)

    @property
    def journal(self) -> Journal:
        """The one record of all that is not as its owner left it."""
        return self._held.journal

    def tolerate(self, foreign_writes_per_min: int) -> None:
        """A knob that its owner writes more often is left alone."""
        self._held.foreign_writes_max = foreign_writes_per_min

    def apply(self, intents: Sequence[Intent]) -> tuple[Outcome, ...]:
        """Bring knobs where they are to be. One outcome per intent, in their order, then those of companions."""
        outcomes: dict[Key, Outcome] = {}
        goals: dict[Key, KnobValue] = {}
        for intent in intents:
            key = intent.group_id, intent.knob
            if key not in goals and key not in outcomes:
                refusal = self._unfit(intent)
                if refusal:
                    outcomes[key] = refusal
                else:
                    goals[key] = intent.value
        written = self._reach(goals)
        self._writer.close_unused()
        told = [_told(intent, goals, outcomes, written) for intent in intents]
        return (*told, *(outcome for key, outcome in written.items() if key not in goals))

    def watch(self) -> tuple[Outcome, ...]:
        """Look whether somebody else has written what is held, and whether what gave way can go back. Once per tick."""
        noticed = []
        for key, held in list(self._held.items()):
            intent = Intent(key[0], held.group.path, key[1], held.current)
            outcome = self._unfit(intent)
            if outcome and outcome.result is Result.FOREIGN:
                noticed.append(outcome)
        settled = self._reach({}) if noticed else {}
        self._writer.close_unused()
        with contextlib.suppress(OSError):  # the old file stands
            self._held.journal.compact()
        return (*noticed, *settled.values())

    def forget(self, group_ids: Iterable[int]) -> None:
        """These groups are gone."""
        self._held.forget(frozenset(group_ids))
        self._writer.close_unused()

    def restore(self) -> Report:
        """Put everything back, in an order that the kernel takes, and then try what is left once more: one failure ends
        nothing. What cannot be put back stays held, and on record.
        """
        left = dict(self._held)
        found = {key: _read(held) for key, held in left.items()}
        view = self._look({}, left)
        final = {**view.current, **{key: held.base for key, held in left.items() if key in view.current}}
        done = {(write.group_id, write.knob): self._writer.put(write) for write in constraints.ordered(final, view)}
        done.update((key, self._writer.put(Write(*key, held.base))) for key, held in list(self._held.items()))
        self._writer.close_unused()
        return Report(tuple(_restored(held, found[key], done.get(key)) for key, held in left.items()))

    def close(self) -> None:
        """Without restoring. A journal that has nothing on record is removed. More than once does nothing."""
        self._held.clear()
        self._held.states.clear()
        self._writer.close_unused()
        self._held.journal.close()
        self._lock.close()

    def _adopt(self, left: Contents) -> None:
        """Take over what a predecessor held, and put it back."""
        lost = []
        for key, entry in left.entries.items():
            fate = self._adopted(key, entry)
            if fate is None:
                continue
            lost.append(fate)
            # A damaged journal may lack the record of what we wrote.
            if fate.fate is Fate.GONE or (fate.fate is Fate.FOREIGN and not left.is_damaged):
                self._held.journal.free(key)
        report = self.restore()
        for key, held in self._held.items():  # what would not go back
            self._held.states[key] = KnobState(held.base, held.current)
        self.recovered = Report((*report.items, *lost), left.notes)
        self.devices = tuple(left.devices.values())
        self.resctrl = tuple(left.resctrl.values())

    def _adopted(self, key: Key, entry: Entry) -> Restored | None:
        """None: it is held now; else why not."""
        lost = Restored(entry.group_id, entry.path, entry.knob, Fate.GONE, entry.base)
        try:
            group = self._writer.group(entry.group_id, entry.path)
            if group.directory_id(entry.knob) != entry.directory_id:
                return lost
            text = group.read(entry.knob)
        except (Gone, Unsupported):
            return lost
        except OSError as err:
            return replace(lost, fate=Fate.REFUSED, why=err.strerror)
        if text not in (entry.base, *entry.wrote):
            return replace(lost, fate=Fate.FOREIGN, found=text)
        self._held[key] = Held(group, entry, text)
        return None

    def _unfit(self, intent: Intent) -> Outcome | None:
        """Why there is nothing to plan for this intent."""
        if outcome := self._writer.left_alone(intent):
            return outcome
        try:
            group = self._writer.group(intent.group_id, intent.path)
            text = group.read(intent.knob)
        except (Gone, Unsupported, OSError) as err:
            return self._writer.failed(intent, err)
        held = self._held.get((intent.group_id, intent.knob))
        if held and not held.is_ours(text):
            return self._writer.foreign(intent, held, text)
        if intent.knob is Knob.FREEZE and intent.value and self._is_mine(group):
            return refused(intent, errno.EDEADLK, "the agent is in this group, and would never thaw it")
        if intent.knob is Knob.CPUSET and not held and group.narrows_newcomers():
            return Outcome(intent, Result.UNSUPPORTED, kernel_text="cgroup v1: a new group below it could not start")
        return None

    def _is_mine(self, group: Group) -> bool:
        return self._own_path is not None and f"{self._own_path}/".startswith(f"{group.path.rstrip('/')}/")

    def _look(self, goals: Mapping[Key, KnobValue], companions: Collection[Key]) -> View:
        base = {key: self._held[key].base for key in (*goals, *companions) if key in self._held}
        return look(self._writer.groups, self._writer.hierarchies, goals, base, companions)

    def _reach(self, goals: Mapping[Key, KnobValue]) -> dict[Key, Outcome]:
        """Plan and write. Outcomes of goals that were refused or written, and of companions."""
        companions = [key for key, held in self._held.items() if held.is_companion]
        if not goals and not companions:
            return {}
        plan = constraints.plan(goals, self._look(goals, companions))
        outcomes = {
            key: refused(Intent(key[0], self._writer.groups[key[0]].path, key[1], goals[key]), errno.EINVAL, why)
            for key, why in plan.refused.items()
        }
        for key in (goals.keys() - plan.refused.keys()) & self._held.keys():
            self._held[key].is_companion = False
        for write in plan.writes:
            key = write.group_id, write.knob
            outcomes[key] = self._writer.put(write, is_companion=key not in goals or key in plan.refused)
        return outcomes


def _told(
    intent: Intent, goals: Mapping[Key, KnobValue], unfit: Mapping[Key, Outcome], written: Mapping[Key, Outcome]
) -> Outcome:
    """What came of one intent. Of two for the same knob the first counts."""
    key = intent.group_id, intent.knob
    if key in unfit:
        return replace(unfit[key], intent=intent)
    if goals[key] != intent.value:
        return refused(intent, errno.EBUSY, f"another intent of the same call sets it to {goals[key]}")
    return written.get(key) or Outcome(intent, Result.UNCHANGED, intent.value, intent.value)


def _read(held: Held) -> str | None:
    try:
        return held.group.read(held.entry.knob)
    except (Gone, Unsupported, OSError):
        return None


def _restored(held: Held, found: str | None, outcome: Outcome | None) -> Restored:
    """`outcome`: of the last write; None: it was put back along with another knob."""
    entry = held.entry
    told = Restored(entry.group_id, entry.path, entry.knob, Fate.RESTORED, entry.base, found)
    match outcome and outcome.result:
        case Result.GONE | Result.UNSUPPORTED:
            return replace(told, fate=Fate.GONE)
        case Result.FOREIGN:
            return replace(told, fate=Fate.FOREIGN)
        case Result.REFUSED:
            return replace(told, fate=Fate.REFUSED, why=outcome.kernel_text if outcome else None)
    return replace(told, fate=Fate.AS_FOUND) if found == entry.base else told
