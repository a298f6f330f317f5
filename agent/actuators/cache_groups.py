"""The control groups of partitions: made, laid out as a whole, removed, and looked at for what somebody else did."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.actuators.cache_layout import Wish, as_class, group_name, is_exclusive, narrowed, order
from agent.actuators.partition import Partition
from agent.actuators.resctrl import Resctrl
from rdt import info, layout, schemata
from rdt.errors import Gone, RdtError
from rdt.info import Info
from rdt.layout import DEFAULT, Class
from rdt.schemata import Values

UNMOUNTED, REMOVED = "resctrl was unmounted", "its group was removed"


@dataclass(frozen=True, slots=True)
class Changes:
    """What is not as we left it. `lost`: partition -> what somebody has done."""

    lost: Mapping[int, str] = field(default_factory=dict)
    is_stale: bool = False
    """All is to be laid out anew: a cache went on- or off-line, or the last layout could not be written."""


class Groups:
    """Of the partitions that have one."""

    def __init__(self, resctrl: Resctrl) -> None:
        self._resctrl = resctrl
        self.info: Info | None = None
        """As last read; None: it is not mounted."""
        self.names: dict[int, str] = {}
        """Of the groups, by partition. They exist as far as we know."""
        self.is_stale = False
        self._left: dict[int, Values] = {}
        """Their schemata as we left them, or as somebody did since."""
        self._caches: frozenset[tuple[str, int]] = frozenset()
        """Those that were on-line when we last looked, by resource and id."""

    def read_info(self) -> Info:
        """RdtError."""
        self.info = info.read(self._resctrl.tree.root)
        return self.info

    def lay_out(self, wishes: Mapping[int, Wish], partitions: Mapping[int, Partition]) -> bool:
        """All of these; who has no group gets one. Whether there are new ones. RdtError, OSError: all is as it was."""
        resctrl = self._resctrl
        if not wishes and not resctrl.default:
            return False
        # What could not be removed before, by whoever had this journal, keeps its threads from all others.
        resctrl.remove(set(resctrl.names) - set(self.names.values()))
        offered, default = self.read_info(), resctrl.tree.group().schemata()
        there = {group.name for group in resctrl.tree.groups()}
        names: dict[int, str] = {}
        for id in wishes:
            names[id] = self.names.get(id) or group_name(partitions[id], {*there, *names.values()})
        classes = [as_class(names[id], partitions[id], wish, offered) for id, wish in wishes.items()]
        others = len(there - {DEFAULT, *names.values()})
        wanted: dict[str, Values] = dict(layout.solve(offered, default, classes, others)) if classes else {}
        base = resctrl.base(default)
        room = wanted.get(DEFAULT)
        wanted[DEFAULT] = _these(base, resctrl.default) if room is None else narrowed(room, base, offered)
        found = {name: resctrl.tree.group(name).schemata() for id, name in names.items() if id in self.names}
        found[DEFAULT] = _these(default, wanted[DEFAULT])
        self._write(found, wanted, classes, offered)
        has_new = bool(names.keys() - self.names.keys())
        self.names |= names
        self._left |= {id: wanted[name] for id, name in names.items()}
        self._caches = _keys(default)
        return has_new

    def release(self, ids: Collection[int]) -> None:
        """Their groups go. RdtError: one of them stays."""
        try:
            self._resctrl.remove(self.names[id] for id in ids if id in self.names)
        finally:
            self.forget_removed()

    def forget_removed(self) -> None:
        """Groups that are not on record any more."""
        for id, name in tuple(self.names.items()):
            if name not in self._resctrl.names:
                del self.names[id], self._left[id]

    def look(self, partitions: Mapping[int, Partition]) -> Changes:
        """Once per tick; a file per group. RdtError: it has changed this very moment."""
        resctrl = self._resctrl
        if not resctrl.is_mounted:
            lost = dict.fromkeys(self.names, UNMOUNTED)
            resctrl.forget()
            self.forget_removed()
            self.info = None
            return Changes(lost)
        if self.info is None:
            self.read_info()
        if not self.names and not resctrl.default:
            return Changes()
        default = resctrl.tree.group().schemata()
        there = _keys(default)
        # One that went off-line and has come back is as the kernel gives it, and that is nobody's word.
        steady = self._caches & there
        lost = {id: why for id in tuple(self.names) if (why := self._look_at(id, steady))}
        if resctrl.yield_default(_these(default, steady)):
            why = "somebody else wrote the default group's schemata"
            lost |= {id: why for id in self.names if id in partitions and is_exclusive(partitions[id])}
        resctrl.drop_caches(default)
        is_stale = self.is_stale or there != self._caches
        self._caches = there
        return Changes(lost, is_stale)

    def _look_at(self, id: int, steady: Collection[tuple[str, int]]) -> str | None:
        """What somebody has done to this group. Theirs counts from now on."""
        try:
            found = self._resctrl.tree.group(self.names[id]).schemata()
        except Gone:
            self.release([id])
            self.info = None  # perhaps it is another mount
            return REMOVED
        differs = schemata.difference(_these(self._left[id], steady), found)
        if not differs:
            return None
        self._left[id] = found
        theirs = " ".join("".join(schemata.to_write(_these(found, _keys(differs)))).split())
        return f"somebody else wrote {theirs}"

    def _write(
        self, found: Mapping[str, Values], wanted: Mapping[str, Values], classes: Sequence[Class], offered: Info
    ) -> None:
        """From `found` to `wanted`, with a new group for each that is not there; back again if it cannot be."""
        made = [name for name in wanted if name not in found]
        self._resctrl.make(made)
        try:
            for name in order(found, wanted, classes):
                self._put(name, wanted[name], offered)
        except (RdtError, OSError):
            try:
                self._resctrl.remove(made)
                for name, values in found.items():
                    self._put(name, values, offered)
            except (RdtError, OSError):
                self.is_stale = True
            raise

    def _put(self, name: str, values: Values, offered: Info) -> None:
        """What of it differs."""
        if name == DEFAULT:
            self._resctrl.set_default(values, offered)
        else:
            group = self._resctrl.tree.group(name)
            group.write(schemata.difference(values, group.schemata()), offered)


def _keys(values: Values) -> frozenset[tuple[str, int]]:
    return frozenset((resource, id) for resource, domains in values.items() for id in domains)


def _these(values: Values, keys: Values | Iterable[tuple[str, int]]) -> dict[str, dict[int, int]]:
    """Those of `values` whose keys are given, or stand in other values."""
    wanted = _keys(keys) if isinstance(keys, Mapping) else frozenset(keys)
    chosen = {
        resource: {id: value for id, value in domains.items() if (resource, id) in wanted}
        for resource, domains in values.items()
    }
    return {resource: domains for resource, domains in chosen.items() if domains}
