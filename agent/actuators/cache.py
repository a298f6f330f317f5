"""The one writer of resctrl: brings partitions where they are to be, and says what came of it.

    cache_ways          a partition is a control group of ours (its name begins with slackwater-) with these ways
    memory_bandwidth    the same group's MB

The first intent for a partition makes its group, None for all of its knobs removes it: its threads then are in the
default group again, from which alone they are taken. Where something is exclusive the default group has to leave it.
Groups of others, and what somebody has put into a group of his own, stay. Made from the journal of
actuators/executor.py: there is one record of all that is not as its owner left it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.actuators.journal import Journal
from agent.actuators.journal_records import ResctrlEntry
from agent.actuators.partition import Member, Partition
from agent.actuators.report import Restored
from agent.control import Intent, Knob, KnobState, Outcome
from rdt.group import Group
from rdt.info import DEFAULT_ROOT, Info

__all__ = ["CacheExecutor", "Member", "Moves", "Partition"]


@dataclass(frozen=True, slots=True)
class Moves:
    """Threads that were put elsewhere: counts."""

    taken: int = 0
    """Into a partition."""
    returned: int = 0
    """To the default group: they have left the cgroups of the partition."""


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
        raise NotImplementedError

    @property
    def knobs(self) -> Mapping[tuple[int, Knob], KnobState]:
        """Those that are held, and those of partitions that are left alone. A base is None: its owner had no group."""
        raise NotImplementedError

    @property
    def names(self) -> Mapping[int, str]:
        """Of partitions that have a group."""
        raise NotImplementedError

    @property
    def groups(self) -> Mapping[int, Group]:
        """By partition id, those that exist."""
        raise NotImplementedError

    @property
    def info(self) -> Info | None:
        """What resctrl offers; None: it is not mounted. As of the last `open`, `apply` or `watch`."""
        raise NotImplementedError

    @property
    def note(self) -> str | None:
        """What is to be said once: it was mounted with other options than configured, and is used as it is."""
        raise NotImplementedError

    def open(self) -> str | None:
        """Mount it where it is not and may be, so that counters can be read before anything is written. Why it cannot
        be used; None: it can. `apply` does so by itself.
        """
        raise NotImplementedError

    def adopt(self, entries: Iterable[ResctrlEntry]) -> tuple[Restored, ...]:
        """Give back what a dead predecessor had."""
        raise NotImplementedError

    def apply(self, intents: Sequence[Intent]) -> tuple[Outcome, ...]:
        """One outcome per intent, in their order. What is asked for in one call is laid out as a whole or not at all.

        UNSUPPORTED: no resctrl, or none with such a knob; REFUSED: no layout, out of CLOSIDs or RMIDs, refused by the
        kernel, in its words; GONE: no such partition; FOREIGN: see `watch`.
        """
        raise NotImplementedError

    def follow(self, members: Iterable[Member]) -> Moves:
        """Once per tick: these are the threads of the partitions now. Partitions whose cgroup has gone lose their
        group.
        """
        raise NotImplementedError

    def watch(self) -> tuple[Outcome, ...]:
        """Once per tick: look whether somebody has written what is ours, removed it, or unmounted resctrl; FOREIGN, and
        the knobs are held no more, so that whoever decides may ask anew. After a CPU went on- or off-line everything is
        laid out again, without a word.
        """
        raise NotImplementedError

    def restore(self) -> tuple[Restored, ...]:
        """Everything back; what cannot be put back stays held, and on record."""
        raise NotImplementedError
