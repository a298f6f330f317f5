"""Joins the stages of the caches for the enforcer: what is read, who is in which partition, what is written.

Made only where [cache] is on: nobody else pays for rdt/.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from agent.actuators.cache import CacheExecutor
from agent.actuators.executor import Executor
from agent.actuators.partition import Member, Partition
from agent.actuators.report import Restored
from agent.config import Config
from agent.config_cache import CacheConfig
from agent.control import Enforce, Intent, Knob, KnobState, KnobValue, Outcome, PartitionView
from agent.decisions.partitions import Member as Lies
from agent.decisions.partitions import Part, Partitions
from agent.decisions.tree import Tree
from agent.host import Host
from agent.profiles.cache import CacheProfiler
from agent.records import CacheProfile, Group
from agent.samples import cache as samples
from agent.units import NS_PER_S
from rdt.errors import RdtError
from rdt.group import Tree as Resctrl
from rdt.info import DEFAULT_ROOT, Info
from rdt.layout import Range

log = logging.getLogger(__name__)

REST = "(rest)"
"""What lies in no partition: the default group of resctrl."""


class CacheStages:
    """Of one configuration: another one begins with other stages, after these gave everything back."""

    def __init__(self, config: Config, host: Host, executor: Executor, root: Path = DEFAULT_ROOT) -> None:
        self._partitions = Partitions(config)
        self._cgroups = host.cpu.mount if host.cpu else ""
        self._resctrl = Resctrl(root)
        is_on = Enforce.ON is config.enforce.mode is config.cache.enforce
        self._executor = CacheExecutor(
            executor.journal,
            time.monotonic_ns,
            root=root,
            mount_options=_options(config.cache),
            may_mount=config.cache.mount and is_on,
        )
        self._executor.foreign_writes_max = config.enforce.foreign_writes_per_min
        self._executor.retry_ns = int(config.enforce.retry_s * NS_PER_S)
        self._profiler = CacheProfiler()
        self._profile: CacheProfile | None = None
        self._arranged: tuple[Tree | None, Info | None] = None, None
        self._parts: tuple[Part, ...] = ()
        self._members: tuple[Member, ...] = ()
        self._failed: str | None = None
        self._noted: str | None = None

    @property
    def knobs(self) -> dict[tuple[int, Knob], KnobState]:
        return dict(self._executor.knobs)

    @property
    def names(self) -> dict[int, str]:
        """Of all partitions: those that are configured, and those that are held still."""
        return {**self._executor.names, **{part.id: part.title for part in self._parts}}

    def watch(self) -> tuple[Outcome, ...]:
        """What somebody else has written."""
        return self._executor.watch()

    def read(self) -> CacheProfile | None:
        """Of this tick; None: resctrl is not there, or cannot be read, which is said once."""
        self._profile = self._read()
        return self._profile

    def arrange(self, tree: Tree) -> None:
        """Which partitions there are to be, before they are asked for, and who lies in them."""
        info = self._executor.info
        if tree is self._arranged[0] and info is self._arranged[1]:
            return
        self._arranged = tree, info
        self._parts, members = self._partitions.of(tree)
        self._executor.partitions = {part.id: _partition(part, info) for part in self._parts}
        self._members = tuple(self._member(tree.groups[each.row], each) for each in members)

    def follow(self) -> None:
        """Put their threads there: at each tick, since threads come and go."""
        self._executor.follow(self._members)

    def apply(self, intents: Sequence[Intent]) -> tuple[Outcome, ...]:
        return self._executor.apply(intents)

    def restore(self) -> tuple[Restored, ...]:
        return self._executor.restore()

    def views(self) -> tuple[PartitionView, ...]:
        """All partitions that there are now, and the rest."""
        if self._profile is None:
            return ()
        knobs, is_mib_per_s = self._executor.knobs, self._profile.sample.offer.is_mib_per_s

        def now(id: int, knob: Knob) -> KnobValue:
            state = knobs.get((id, knob))
            return state.current if state else None

        found, there = [], self._executor.groups
        for part in self._parts:
            if part.id in there:
                ways, bandwidth = now(part.id, Knob.CACHE_WAYS), now(part.id, Knob.MEMORY_BANDWIDTH)
                found.append(
                    PartitionView(
                        id=part.id,
                        name=part.name,
                        members=tuple(each.path for each in self._members if each.place(there) == part.id),
                        ways_pct=(ways[0], ways[1]) if isinstance(ways, tuple) else None,
                        bandwidth=bandwidth if isinstance(bandwidth, int) else None,
                        is_mib_per_s=is_mib_per_s,
                        profile=self._profile.partitions.get(part.id),
                    )
                )
        if self._profile.rest:
            found.append(PartitionView(None, REST, (), None, None, is_mib_per_s, self._profile.rest))
        return tuple(found)

    def _member(self, group: Group, lies: Lies) -> Member:
        return Member(group.id, group.path, lies.partition_id, Path(f"{self._cgroups}{group.path}"), lies.otherwise)

    def _read(self) -> CacheProfile | None:
        if why := self._executor.open():
            self._unread(why)
            return None
        info = self._executor.info
        if info is None:
            return None
        try:
            sample = samples.read(self._executor.groups, self._resctrl.group(), info, time.monotonic_ns())
        except RdtError as err:
            self._unread(str(err))
            return None
        self._failed = None
        if self._executor.note != self._noted:
            self._noted = self._executor.note
            log.warning("resctrl: %s", self._noted)
        return self._profiler.update(sample)

    def _unread(self, why: str) -> None:
        """Said once while it lasts."""
        if why != self._failed:
            log.warning("no caches are looked at: %s", why)
            self._failed = why


def _options(config: CacheConfig) -> tuple[str, ...]:
    chosen = {"cdp": config.cdp, "cdpl2": config.cdpl2, "mba_MBps": config.mba_mbps}
    return tuple(name for name, is_on in chosen.items() if is_on)


def _partition(part: Part, info: Info | None) -> Partition:
    """With an L2 only where it is not the last cache."""
    config = part.config
    levels = {name[:2] for name in info.caches} if info else set()
    others = {"L2": Range(*config.l2_pct)} if config.l2_pct and levels == {"L2", "L3"} else {}
    return Partition(part.id, part.name, Range(*config.ways_pct, config.exclusive), others)
