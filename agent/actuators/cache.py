"""The one writer of resctrl: brings partitions where they are to be, and says what came of it.

    cache_ways          a partition is a control group of ours (its name begins with slackwater-) with these ways
    memory_bandwidth    the same group's MB

The first intent for a partition makes its group, None for all of its knobs removes it: its threads then are in the
default group again, from which alone they are taken. A knob that was not asked for is as it is configured. Where
something is exclusive the default group has to leave it. Groups of others, and what somebody has put into a group of
his own, stay. Made from the journal of actuators/executor.py: there is one record of all that is not as its owner left
it. Nothing of resctrl is kept open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from agent.actuators.cache_groups import Groups
from agent.actuators.cache_layout import BANDWIDTH, Wish, last_cache
from agent.actuators.cache_tasks import Mover, Moves
from agent.actuators.journal import Journal
from agent.actuators.partition import Member, Partition
from agent.actuators.report import Restored
from agent.actuators.resctrl import Resctrl
from agent.control import Intent, Knob, KnobState, KnobValue, Outcome, Result
from agent.units import NS_PER_S
from rdt.errors import Gone, NoLayout, NotMounted, RdtError, Refused
from rdt.group import Group
from rdt.info import DEFAULT_ROOT, Info

__all__ = ["CacheExecutor", "Member", "Moves", "Partition"]

Key = tuple[int, Knob]

_KNOBS = (Knob.CACHE_WAYS, Knob.MEMORY_BANDWIDTH)
_MOUNT_OPTIONS = frozenset({"cdp", "cdpl2", "mba_MBps"})
_FOREIGN_WINDOW_NS = 60 * NS_PER_S
_LOCK_LIMIT_S = 0.2
"""The loop does not stand still for longer because of another program; it is refused, and tried again later."""


class CacheExecutor:
    """There is one per journal. No method raises an error of rdt or an OSError."""

    def __init__(
        self,
        journal: Journal,
        now_ns: Callable[[], int],
        *,
        root: Path = DEFAULT_ROOT,
        mount_options: tuple[str, ...] = (),
        may_mount: bool,
    ) -> None:
        """`mount_options`: of cdp, cdpl2, mba_MBps."""
        self.partitions: Mapping[int, Partition] = {}
        """By id. One that is left out loses its group at the next `follow`."""
        self.foreign_writes_max = 3
        """In a minute; who is written more often by somebody else is left alone."""
        self.retry_ns = 60 * NS_PER_S
        """A mount that was refused is not tried again before."""
        self._now_ns = now_ns
        self._mount_options, self._may_mount = mount_options, may_mount
        self._journal = journal
        self._resctrl = Resctrl(journal, root, _LOCK_LIMIT_S)
        self._groups = Groups(self._resctrl)
        self._mover = Mover(self._resctrl.tree)
        self._no_mount: tuple[int, Refused] | None = None
        """Until when, and why."""
        self._states: dict[Key, KnobState] = {}
        self._foreign_ns: dict[int, deque[int]] = {}
        self._members: tuple[Member, ...] = ()
        self._unsaid: tuple[Outcome, ...] = ()
        """What `apply` has noticed of partitions that it was not about."""

    @property
    def knobs(self) -> Mapping[Key, KnobState]:
        """Those that are held, and those of partitions that are left alone. A base is None: its owner had no group."""
        return dict(self._states)

    @property
    def names(self) -> Mapping[int, str]:
        """Of partitions that have a group: the group's."""
        return dict(self._groups.names)

    @property
    def groups(self) -> Mapping[int, Group]:
        """By partition id, those that exist."""
        return {id: self._resctrl.tree.group(name) for id, name in self._groups.names.items()}

    @property
    def info(self) -> Info | None:
        """What resctrl offers; None: it is not mounted. As of the last `open`, `apply` or `watch`."""
        return self._groups.info

    @property
    def note(self) -> str | None:
        """What is to be said once: it was mounted with other options than configured, and is used as it is."""
        if self.info is None or self.info.mount_options & _MOUNT_OPTIONS == frozenset(self._mount_options):
            return None
        found = ",".join(sorted(self.info.mount_options)) or "none"
        return f"resctrl is mounted with other options than configured ({found}), and is used as it is"

    def open(self) -> str | None:
        """Mount it where it is not and may be, so that counters can be read before anything is written. Why it cannot
        be used; None: it can. `apply` does so by itself.
        """
        try:
            self._mount()
        except (RdtError, OSError) as error:
            return str(error)
        return None

    def apply(self, intents: Sequence[Intent]) -> tuple[Outcome, ...]:
        """One outcome per intent, in their order. What is asked for in one call is laid out as a whole; what does not
        fit together, one partition after the other, in their order. What the kernel refuses is not done at all.

        UNSUPPORTED: no resctrl, or none with such a knob; REFUSED: no layout, out of CLOSIDs or RMIDs, refused by the
        kernel, in its words; GONE: no such partition; FOREIGN: see `watch`.
        """
        said = self.watch()
        noticed = {outcome.intent.group_id: outcome for outcome in said}
        about = {intent.group_id for intent in intents}
        self._unsaid = tuple(outcome for outcome in said if outcome.intent.group_id not in about)
        unfit = {intent: outcome for intent in intents if (outcome := self._unfit(intent, noticed))}
        goals = {(intent.group_id, intent.knob): intent for intent in intents if intent not in unfit}
        before = {key: self._current(key) for key in goals}
        errors = self._reach_all({key: intent.value for key, intent in goals.items()})
        return tuple(
            unfit.get(intent) or self._told(intent, before[intent.group_id, intent.knob], errors[intent.group_id])
            for intent in intents
        )

    def follow(self, members: Iterable[Member]) -> Moves:
        """Once per tick: these are the threads of the partitions now. Partitions whose cgroup has gone lose their
        group.
        """
        self._members = tuple(members)
        there = {member.partition_id for member in self._members}
        known = self._groups.names.keys() | {id for id, _ in self._states}
        gone = {id for id in known if id not in self.partitions or (id > 0 and id not in there)}
        if gone:
            self._reach({(id, knob): None for id in gone for knob in _KNOBS})
        return self._move()

    def watch(self) -> tuple[Outcome, ...]:
        """Once per tick: look whether somebody has written what is ours, removed it, or unmounted resctrl; FOREIGN, and
        the knobs are held no more, so that whoever decides may ask anew. After a CPU went on- or off-line everything is
        laid out again, without a word.
        """
        said, self._unsaid = self._unsaid, ()
        try:
            changes = self._groups.look(self.partitions)
        except (RdtError, OSError):  # the next look will say what it is
            return said
        lost = tuple(outcome for id, why in changes.lost.items() if (outcome := self._lost(id, why)))
        if changes.is_stale:
            self._groups.is_stale = self._reach({}) is not None
        return said + lost

    def restore(self) -> tuple[Restored, ...]:
        """Everything back; what cannot be put back stays held, and on record."""
        done = self._resctrl.give_back()
        self._groups.forget_removed()
        self._drop_states()
        if not self._resctrl.is_mounted:
            self._groups.info = None
        return done

    def _mount(self) -> Info:
        """RdtError, OSError: it cannot be used."""
        if not self._resctrl.is_mounted:
            if not self._may_mount:
                self._resctrl.tree.require_mounted()
            if self._no_mount and self._now_ns() < self._no_mount[0]:
                raise self._no_mount[1].with_traceback(None)
            try:
                self._resctrl.mount(self._mount_options)
            except Refused as error:
                self._no_mount = self._now_ns() + self.retry_ns, error
                raise
            self._groups.info = None
        return self._groups.info or self._groups.read_info()

    def _current(self, key: Key) -> KnobValue:
        state = self._states.get(key)
        return state.current if state else None

    def _is_foreign(self, id: int) -> bool:
        return any(state.is_foreign for key, state in self._states.items() if key[0] == id)

    def _unfit(self, intent: Intent, noticed: Mapping[int, Outcome]) -> Outcome | None:
        """Why there is nothing to write for this intent."""
        before = self._current((intent.group_id, intent.knob))
        if self._is_foreign(intent.group_id):
            return Outcome(intent, Result.FOREIGN, before, before)
        if lost := noticed.get(intent.group_id):
            return Outcome(intent, Result.FOREIGN, before, before, kernel_text=lost.kernel_text)
        if before == intent.value:
            return Outcome(intent, Result.UNCHANGED, before, before)
        if intent.group_id not in self.partitions:
            return Outcome(intent, Result.GONE)
        try:
            offered = self._mount()
        except (RdtError, OSError) as error:
            return self._told(intent, before, error)
        if intent.knob is Knob.CACHE_WAYS and last_cache(offered) is None:
            return Outcome(intent, Result.UNSUPPORTED, kernel_text="this machine's caches cannot be divided")
        if intent.knob is Knob.MEMORY_BANDWIDTH and BANDWIDTH not in offered.bandwidths:
            return Outcome(intent, Result.UNSUPPORTED, kernel_text="this machine's bandwidth cannot be divided")
        return None

    def _told(self, intent: Intent, before: KnobValue, error: RdtError | OSError | None) -> Outcome:
        """What came of an intent that was tried."""
        is_removed = intent.value is None and intent.group_id not in self._groups.names
        if error is None or is_removed:
            return Outcome(intent, Result.APPLIED, before, intent.value)
        return Outcome(intent, _result(error), before, before, error.errno, str(error))

    def _reach_all(self, goals: Mapping[Key, KnobValue]) -> dict[int, RdtError | OSError | None]:
        """Partition -> why it was not done. One that does not fit takes nothing from those that come before it."""
        ids = dict.fromkeys(id for id, _ in goals)
        error = self._reach(goals) if goals else None
        if not isinstance(error, NoLayout):
            return dict.fromkeys(ids, error)
        return {id: self._reach({key: value for key, value in goals.items() if key[0] == id}) for id in ids}

    def _reach(self, goals: Mapping[Key, KnobValue]) -> RdtError | OSError | None:
        """Partitions that are to have nothing lose their group, then all others are laid out. Why it was not done."""
        values = {key: state.current for key, state in self._states.items() if not state.is_foreign} | dict(goals)
        values = {key: value for key, value in values.items() if value is not None and key[0] in self.partitions}
        ids = dict.fromkeys(id for id, _ in values)
        released = {id for id, _ in goals if id not in ids}
        released |= {id for id, _ in self._states if id not in self.partitions}
        try:
            self._groups.release(released)
            has_new = self._groups.lay_out({id: _wish(id, values) for id in ids}, self.partitions)
        except (RdtError, OSError) as error:
            self._groups.is_stale |= bool(released)
            self._drop_states(released)
            return error
        self._drop_states(released)
        self._states = {key: state for key, state in self._states.items() if state.is_foreign}
        self._states |= {key: KnobState(None, value) for key, value in values.items()}
        if has_new:
            self._move()
        return None

    def _move(self) -> Moves:
        try:
            return self._mover.follow(self._members, self._groups.names)
        except (RdtError, OSError):  # `watch` will say what it is
            return Moves()

    def _lost(self, id: int, why: str) -> Outcome | None:
        """Somebody has taken the partition from us. None: it was not ours to say."""
        held = [knob for knob in _KNOBS if (id, knob) in self._states]
        if not held or self._is_foreign(id):
            return None
        name = self.partitions[id].name if id in self.partitions else str(id)
        intent = Intent(id, name, held[0], self._current((id, held[0])))
        times_ns, now_ns = self._foreign_ns.setdefault(id, deque()), self._now_ns()
        times_ns.append(now_ns)
        while now_ns - times_ns[0] > _FOREIGN_WINDOW_NS:
            times_ns.popleft()
        for knob in held:
            del self._states[id, knob]
            if len(times_ns) > self.foreign_writes_max:
                self._states[id, knob] = KnobState(None, None, is_foreign=True)
        return Outcome(intent, Result.FOREIGN, intent.value, None, kernel_text=why)

    def _drop_states(self, ids: Collection[int] | None = None) -> None:
        """Of partitions (of these; None: of all) that have no group any more."""
        gone = {id for id, _ in self._states} - self._groups.names.keys()
        for id in gone if ids is None else gone & set(ids):
            self._foreign_ns.pop(id, None)
            for knob in _KNOBS:
                self._states.pop((id, knob), None)


def _wish(id: int, values: Mapping[Key, KnobValue]) -> Wish:
    ways, bandwidth = values.get((id, Knob.CACHE_WAYS)), values.get((id, Knob.MEMORY_BANDWIDTH))
    assert ways is None or isinstance(ways, tuple)
    assert bandwidth is None or isinstance(bandwidth, int)
    return Wish(ways, bandwidth)


def _result(error: RdtError | OSError) -> Result:
    match error:
        case NotMounted():
            return Result.UNSUPPORTED
        case Gone():
            return Result.GONE
    return Result.REFUSED
