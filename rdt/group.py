"""Groups of resctrl: created, removed, given tasks and schemata. Every write is locked, read back, and explained.

No file is kept open, since an open one would keep others from unmounting. The lock is flock() on the root folder, as
"Locking between applications" in Documentation/filesystems/resctrl.rst has it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rdt import schemata
from rdt.errors import (
    GONE,
    Busy,
    Gone,
    Invalid,
    NotMounted,
    OutOfClosids,
    OutOfRmids,
    RdtError,
    ReadBack,
    Refused,
    Unsettled,
)
from rdt.info import DEFAULT_ROOT, Info
from rdt.schemata import Values

NOT_GROUPS = frozenset({"info", "mon_groups", "mon_data"})
LOCK_LIMIT_S = 2.0
LOCK_POLL_S = 0.01
SETTLE_S = 0.01
"""A fork that was under way while its parent was moved has ended by then: its child is seen in the next pass."""
PASSES_MAX = 200


@dataclass(frozen=True)
class Moved:
    """What became of tasks: counts. `gone`: exited meanwhile."""

    moved: int
    gone: int


class Tree:
    """A mounted resctrl."""

    def __init__(self, root: Path = DEFAULT_ROOT, lock_limit_s: float = LOCK_LIMIT_S) -> None:
        self.root = root
        self._lock_limit_s = lock_limit_s

    def group(self, name: str = "") -> Group:
        """A control group by name, a monitoring group as GROUP/mon_groups/NAME; "": the default group."""
        return Group(self, name)

    def groups(self) -> list[Group]:
        """All control groups, the default one first. Raises NotMounted."""
        self.require_mounted()
        names = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir() and entry.name not in NOT_GROUPS)
        return [self.group(name) for name in ("", *names)]

    def create(self, name: str) -> Group:
        """A new group, of full cache and bandwidth. Raises OutOfClosids, OutOfRmids, Refused, Invalid, NotMounted."""
        _check_name(name)
        group = self.group(name)
        with self.locked():
            try:
                group.path.mkdir()
            except OSError as error:
                raise self._no_group(error, group) from error
        return group

    def require_mounted(self) -> None:
        if not (self.root / "info").is_dir():
            raise NotMounted(f"no resctrl here: mount -t resctrl resctrl {self.root}", path=str(self.root))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among those who use the lock. Raises Busy, NotMounted."""
        self.require_mounted()
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._take(folder)
            yield
        finally:
            os.close(folder)

    def last_words(self) -> str | None:
        """What the kernel says of the last command that was refused; None: nothing."""
        try:
            words = (self.root / "info" / "last_cmd_status").read_text().strip()
        except OSError:
            return None
        return None if words in {"", "ok"} else words.replace("\n", "; ")

    def lost(self, error: OSError, path: Path, value: str | None = None) -> RdtError:
        """What an error of a file below the root means."""
        if not (self.root / "info").is_dir():
            return NotMounted("resctrl has been unmounted", path=str(self.root))
        if error.errno in GONE:
            return Gone("no such group", path=str(path))
        return Refused.of(error, str(path), value, self.last_words())

    def _take(self, folder: int) -> None:
        end_s = time.monotonic() + self._lock_limit_s
        while True:
            try:
                return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > end_s:
                    what = f"another program has held the lock for {self._lock_limit_s:g} s"
                    raise Busy(what, path=str(self.root)) from error
            time.sleep(LOCK_POLL_S)

    def _no_group(self, error: OSError, group: Group) -> RdtError:
        """Why a group was not created. A failed mkdir adds its words to those of earlier ones."""
        path = str(group.path)
        if error.errno in {errno.ENOSPC, errno.EBUSY}:
            if "CLOSID" in (self.last_words() or "").rpartition("; ")[2]:
                return OutOfClosids("all classes of service (CLOSIDs) are in use", path=path, errno=error.errno)
            return OutOfRmids("all monitoring ids (RMIDs) are in use", path=path, errno=error.errno)
        if error.errno == errno.EEXIST:
            return Refused.of(error, path)
        return self.lost(error, group.path)


@dataclass(frozen=True)
class Group:
    """One group; it need not exist. Raises Gone where it does not, NotMounted where nothing does."""

    tree: Tree
    name: str

    @property
    def path(self) -> Path:
        return self.tree.root / self.name

    def read(self, file: str) -> str:
        """A file of the group."""
        path = self.path / file
        try:
            return path.read_text()
        except OSError as error:
            raise self.tree.lost(error, path) from error

    def schemata(self) -> dict[str, dict[int, int]]:
        """Resource -> cache id -> value."""
        return schemata.values(schemata.parse(self.read("schemata")))

    def write(self, wanted: Values, info: Info) -> None:
        """Set these values and no others, in one write, which the kernel takes or refuses as a whole; then read back.

        On a machine with hundreds of caches it may take more than one (schemata.WRITE_BYTES).
        Raises Invalid before the kernel is asked, Refused with the kernel's words, ReadBack.
        """
        with self.tree.locked():
            wanted = checked(wanted, self.schemata(), info, str(self.path / "schemata"))
            for text in schemata.to_write(wanted):
                self._put("schemata", text)
            differs = schemata.difference(wanted, self.schemata())
        if differs:
            shown = " ".join("".join(schemata.to_write(differs)).split())
            raise ReadBack("was accepted, but is not what is read back", path=str(self.path), value=shown)

    def remove(self) -> None:
        """Its tasks go to the group above. Raises Gone, Refused."""
        with self.tree.locked():
            try:
                self.path.rmdir()
            except OSError as error:
                raise self.tree.lost(error, self.path) from error

    def tasks(self) -> set[int]:
        """Thread ids of the group."""
        return {int(word) for word in self.read("tasks").split()}

    def monitoring(self) -> list[Group]:
        """The groups of counters in it; none on a machine without."""
        path = self.path / "mon_groups"
        try:
            names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self.tree.lost(error, path) from error
        return [self.tree.group(str(Path(self.name) / "mon_groups" / name)) for name in names]

    def assign(self, tasks: Callable[[], Iterable[int]], settle_s: float = SETTLE_S) -> Moved:
        """Move the threads that `tasks` lists, and ask it again until two passes in a row find all of them here.

        A child of a thread that was moved is born in the group, one of a thread that was not yet is found by a later
        pass. A task that has exited is no error. Raises Unsettled after 200 passes, Gone, Refused.
        """
        moved = gone = clean = 0
        for _ in range(PASSES_MAX):
            found = self.move(set(tasks()) - self.tasks())
            moved, gone = moved + found.moved, gone + found.gone
            clean = clean + 1 if found.moved == 0 else 0
            if clean == 2:
                return Moved(moved, gone)
            time.sleep(settle_s)
        raise Unsettled(f"new tasks still come after {PASSES_MAX} passes, {moved} were moved", path=str(self.path))

    def move(self, tasks: Iterable[int]) -> Moved:
        """Move these threads, once. Raises Gone, Refused."""
        path = self.path / "tasks"
        moved = gone = 0
        try:
            file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self.tree.lost(error, path) from error
        try:
            for task in tasks:
                try:
                    os.write(file, b"%d\n" % task)
                    moved += 1
                except ProcessLookupError:
                    gone += 1
                except OSError as error:
                    raise self.tree.lost(error, path, str(task)) from error
        finally:
            os.close(file)
        return Moved(moved, gone)

    def _put(self, file: str, text: str) -> None:
        """In one write."""
        path = self.path / file
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            try:
                os.write(descriptor, text.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self.tree.lost(error, path, text.strip().replace("\n", " ")) from error


def checked(wanted: Values, found: Values, info: Info, path: str) -> dict[str, dict[int, int]]:
    """`wanted`, rounded as the kernel rounds. Raises Invalid for what it would refuse, with what is allowed."""
    resources = info.resources
    for name, domains in wanted.items():
        if name not in found or name not in resources:
            raise Invalid("no such resource", path=path, value=name, allowed=" ".join(found) or "none")
        for domain, value in domains.items():
            setting = str(schemata.Line(name, {domain: value}))
            if domain not in found[name]:
                ids = " ".join(map(str, found[name]))
                raise Invalid("no such cache id", path=path, value=setting, allowed=ids)
            if allowed := resources[name].refuses(value):
                raise Invalid("not on this machine", path=path, value=setting, allowed=allowed)
    rounded = {name: bandwidth.rounded for name, bandwidth in info.bandwidths.items()}
    return {
        name: {domain: rounded.get(name, int)(value) for domain, value in domains.items()}
        for name, domains in wanted.items()
    }


def _check_name(name: str) -> None:
    folder, _, last = name.rpartition("/")
    parent_is_right = not folder or folder == "mon_groups" or folder.endswith("/mon_groups")
    if not parent_is_right or not last.strip() or last in NOT_GROUPS | {".", ".."} or "\n" in name:
        raise Invalid("not a name of a group", value=name, allowed="NAME, or GROUP/mon_groups/NAME")
