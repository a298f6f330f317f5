"""What is ours of resctrl: each thing on record before it is made or written, and given back.

That may be its mount (agent/mounts.py), control groups, and masks of the default group that leave room for exclusive
ways. Tasks are on no record: they are taken from the default group, to which the kernel gives them when theirs goes.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agent import mounts
from agent.actuators.executor import Executor
from agent.actuators.journal import Journal
from agent.actuators.journal_records import Cell, ResctrlEntry
from agent.actuators.report import Fate, Restored
from agent.control import Knob
from rdt import schemata
from rdt.errors import Gone, NotMounted, RdtError, Refused
from rdt.group import LOCK_LIMIT_S, Group, Tree
from rdt.info import DEFAULT_ROOT, Info, read
from rdt.schemata import Values

FILESYSTEM = "resctrl"
_ERRORS = (RdtError, OSError)
_NO_SUCH_FILESYSTEM = frozenset({errno.ENODEV, errno.ENOENT})


class Resctrl:
    """At one root. What a predecessor has left on record there is ours."""

    def __init__(self, journal: Journal, root: Path = DEFAULT_ROOT, lock_limit_s: float = LOCK_LIMIT_S) -> None:
        self.tree = Tree(root, lock_limit_s)
        self._journal = journal
        found = journal.entry(str(root))
        self._entry = found if isinstance(found, ResctrlEntry) else ResctrlEntry(str(root))

    @property
    def is_mounted(self) -> bool:
        return (self.tree.root / "info").is_dir()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the groups that are ours."""
        return self._entry.groups

    @property
    def default(self) -> Values:
        """Masks of the default group that are ours, as we left them."""
        return _values((key, cell.wrote[-1]) for key, cell in self._entry.cells.items())

    def base(self, found: Values) -> dict[str, dict[int, int]]:
        """Of the default group, `found`, what it would be without us."""
        return _values((key, self._cell(key, value).base) for key, value in _cells(found))

    def mount(self, options: tuple[str, ...]) -> None:
        """NotMounted: there is none on this machine. Refused, OSError."""
        if not self.tree.root.is_dir():  # asked at every tick, and nothing to be put on record
            raise NotMounted("this machine has no resctrl", path=self._entry.root)
        self._announce(ResctrlEntry(self._entry.root, mounts=True))
        try:
            mounts.mount(self.tree.root, FILESYSTEM, options)
        except OSError as error:
            self.forget()
            if error.errno in _NO_SUCH_FILESYSTEM:
                raise NotMounted("this machine has no resctrl", path=self._entry.root) from error
            command = f"mount -o {','.join(options)}" if options else "mount"
            raise Refused.of(error, self._entry.root, command) from error

    def make(self, names: Sequence[str]) -> None:
        """All of them or none. RdtError, OSError."""
        if not names:
            return
        self._announce(replace(self._entry, groups=(*self._entry.groups, *names)))
        made: list[str] = []
        try:
            for name in names:
                self.tree.create(name)
                made.append(name)
        except _ERRORS:
            self._note(replace(self._entry, groups=_without(self._entry.groups, set(names) - set(made))))
            with contextlib.suppress(*_ERRORS):
                self.remove(made)
            raise

    def remove(self, names: Iterable[str]) -> None:
        """What is there of them; one that cannot be removed stays on record. RdtError, OSError: that one."""
        failed: RdtError | OSError | None = None
        removed = set()
        for name in names:
            try:
                with contextlib.suppress(Gone):
                    self.tree.group(name).remove()
                removed.add(name)
            except _ERRORS as error:
                failed = error
        self._note(replace(self._entry, groups=_without(self._entry.groups, removed)))
        if failed:
            raise failed

    def set_default(self, wanted: Values, info: Info) -> None:
        """Masks of the default group; one that is its base is not ours any more. RdtError, OSError."""
        group = self.tree.group()
        found = group.schemata()
        wanted = _values((key, value) for key, value in _cells(wanted) if key[1] in found.get(key[0], {}))
        differs = schemata.difference(wanted, found)
        cells = dict(self._entry.cells)
        for (resource, id), value in _cells(differs):
            now = found[resource][id]
            cells[resource, id] = Cell(self._cell((resource, id), now).base, tuple(dict.fromkeys((now, value))))
        if differs:
            self._announce(replace(self._entry, cells=cells))
            group.write(differs, info)
        cells |= {key: Cell(self._cell(key, value).base, (value,)) for key, value in _cells(wanted)}
        self._note(replace(self._entry, cells={key: cell for key, cell in cells.items() if cell.wrote != (cell.base,)}))

    def yield_default(self, found: Values) -> bool:
        """Whether somebody else has written masks of the default group that were ours: now they are not."""
        theirs = {key for key, value in _cells(found) if key in self._entry.cells and not self._is_ours(key, value)}
        self._drop_cells(theirs)
        return bool(theirs)

    def drop_caches(self, found: Values) -> None:
        """Of caches that went off-line nothing is ours: they come again as the kernel gives them."""
        self._drop_cells(self._entry.cells.keys() - dict(_cells(found)).keys())

    def forget(self) -> None:
        """It has been unmounted: nothing of ours is left."""
        self._note(ResctrlEntry(self._entry.root))

    def others(self) -> list[Group]:
        """Groups that are not ours. NotMounted, Gone."""
        groups = self.tree.groups()
        theirs = [group for group in groups if group.name and group.name not in self._entry.groups]
        return [*theirs, *(each for group in groups for each in group.monitoring())]

    def give_back(self) -> tuple[Restored, ...]:
        """All of it. What cannot be given back stays on record."""
        entry = self._entry
        if not self.is_mounted:
            self.forget()
            gone = [_told(f"{entry.root}/{name}", Fate.GONE, "no group") for name in entry.groups]
            return (*gone, _told(entry.root, Fate.GONE, "not mounted")) if entry.mounts else tuple(gone)
        done = [told for name in entry.groups if (told := self._give_back_group(name))]
        if entry.cells:
            done.append(self._give_back_default())
        if entry.mounts:
            done.append(self._give_back_mount(done))
        return tuple(done)

    def _give_back_group(self, name: str) -> Restored | None:
        """None: it was never made, or is gone."""
        group = self.tree.group(name)
        told = _told(str(group.path), Fate.RESTORED, "no group")
        try:
            told = replace(told, found=_text(group.schemata()))
            self.remove([name])
        except Gone:
            self._note(replace(self._entry, groups=_without(self._entry.groups, {name})))
            return None
        except _ERRORS as error:
            return replace(told, fate=Fate.REFUSED, why=str(error))
        return told

    def _give_back_default(self) -> Restored:
        cells = self._entry.cells
        bases = {key: cell.base for key, cell in cells.items()}
        told = _told(self._entry.root, Fate.AS_FOUND, _text(_values(bases.items())))
        try:
            found = {key: value for key, value in _cells(self.tree.group().schemata()) if key in cells}
            told = replace(told, found=_text(_values(found.items())))
            ours = {key for key, value in found.items() if self._is_ours(key, value)}
            if any(found[key] != bases[key] for key in ours):
                self.tree.group().write(_values((key, bases[key]) for key in ours), read(self.tree.root))
                told = replace(told, fate=Fate.RESTORED)
        except _ERRORS as error:
            return replace(told, fate=Fate.REFUSED, why=str(error))
        self._drop_cells(set(cells))
        is_foreign = any(value != bases[key] for key, value in found.items() if key not in ours)
        return replace(told, fate=Fate.FOREIGN) if is_foreign else told

    def _give_back_mount(self, done: Sequence[Restored]) -> Restored:
        told = replace(_told(self._entry.root, Fate.RESTORED, "not mounted"), found="mounted")
        if not mounts.is_ours(self.tree.root, FILESYSTEM):
            self._note(replace(self._entry, mounts=False))
            return replace(told, fate=Fate.FOREIGN)
        try:
            others = [group.name for group in self.others()]
            if others or any(item.fate in (Fate.FOREIGN, Fate.REFUSED) for item in done):
                return replace(told, fate=Fate.REFUSED, why=f"somebody uses it: {' '.join(others) or 'see above'}")
            mounts.unmount(self.tree.root)
        except _ERRORS as error:
            return replace(told, fate=Fate.REFUSED, why=str(error))
        self.forget()
        return told

    def _cell(self, key: tuple[str, int], value: int) -> Cell:
        """Of a mask that is this now: on record, unless somebody else has written it since."""
        cell = self._entry.cells.get(key)
        return cell if cell and value in (cell.base, *cell.wrote) else Cell(value, (value,))

    def _is_ours(self, key: tuple[str, int], value: int) -> bool:
        return value in self._entry.cells[key].wrote

    def _drop_cells(self, keys: set[tuple[str, int]]) -> None:
        if keys & self._entry.cells.keys():
            left = {key: cell for key, cell in self._entry.cells.items() if key not in keys}
            self._note(replace(self._entry, cells=left))

    def _announce(self, entry: ResctrlEntry) -> None:
        """OSError: what it tells of must not be done."""
        self._journal.announce(entry)
        self._entry = entry

    def _note(self, entry: ResctrlEntry) -> None:
        """What it no longer tells of is ours no more. A record that is too long does no harm."""
        if entry == self._entry:
            return
        with contextlib.suppress(OSError):
            if entry == ResctrlEntry(entry.root):
                self._journal.free(entry.key)
            else:
                self._journal.announce(entry)
        self._entry = entry


def restore_resctrl(executor: Executor) -> tuple[Restored, ...]:
    """Without an agent: give back what a dead one had."""
    left = [Resctrl(executor.journal, Path(entry.root)) for entry in executor.resctrl]
    return tuple(told for resctrl in left for told in resctrl.give_back())


def _cells(values: Values) -> Iterator[tuple[tuple[str, int], int]]:
    for resource, domains in values.items():
        for id, value in domains.items():
            yield (resource, id), value


def _values(cells: Iterable[tuple[tuple[str, int], int]]) -> dict[str, dict[int, int]]:
    values: dict[str, dict[int, int]] = {}
    for (resource, id), value in cells:
        values.setdefault(resource, {})[id] = value
    return values


def _text(values: Values) -> str:
    """On one line."""
    return " ".join("".join(schemata.to_write(values)).split())


def _without(names: Iterable[str], removed: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in removed)


def _told(path: str, fate: Fate, base: str) -> Restored:
    return Restored(0, path, Knob.CACHE_WAYS, fate, base)
