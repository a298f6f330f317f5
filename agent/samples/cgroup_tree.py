"""Which cgroups exist in the cpu hierarchy: id -> path. The kernel's events keep it fresh, a slow scan corrects it.

A group's id is its directory's inode number, which is the kernfs id that BPF reports (kn->id). A path is relative to
the directory given as root, "/" is that directory itself. Ids do not come back while the machine is up, paths do:
a container that restarts has the old path and a new id.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import MappingProxyType

from agent.errors import HostError, is_gone


@dataclass(frozen=True, slots=True)
class GroupBorn:
    """The kernel made a cgroup. `path` is relative to the hierarchy's root, None: it was too long for the event."""

    id: int
    path: str | None


@dataclass(frozen=True, slots=True)
class GroupGone:
    """The kernel removed a cgroup."""

    id: int


@dataclass(frozen=True, slots=True)
class GroupRenamed:
    """A cgroup (v1 only) has a new path, and so has all that is below it."""

    id: int
    path: str | None


GroupEvent = GroupBorn | GroupGone | GroupRenamed


@dataclass(frozen=True, slots=True)
class Changes:
    """What became different. An id that is in both passed from one group to another: `gone` first."""

    born: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()


@dataclass(slots=True)
class TreeCounters:
    """All rise since the tree was made."""

    scans: int = 0
    births: int = 0
    deaths: int = 0
    reused: int = 0
    """A known path with a new id, or a known id at a path that is not its own by a rename: the old group is dead."""
    corrected: int = 0
    """Differences that a scan found and no event had told, the first scan left out."""
    unreadable: int = 0
    """Gauge: directories that the last scan could not list; the groups below them are unknown."""


class CgroupTree:
    """The groups below `root_path`, the mount of the cpu hierarchy (a HostError of the first scan names it).

    `subtree` is Hierarchy.subtree: the part of the hierarchy that is mounted there; events from outside it are ignored.
    Hand over all waiting events before a scan: an event older than the scan would bring back what the scan removed,
    until the matching GroupGone comes.
    """

    def __init__(self, root_path: str, subtree: str = "/") -> None:
        self.root_path = root_path
        self.counters = TreeCounters()
        self.stale = False
        """An event could not be applied (its path was cut off, its group unknown): scan soon."""
        self._prefix = subtree.rstrip("/")
        self._paths: dict[int, str] = {}
        self._ids: dict[str, int] = {}

    @property
    def paths(self) -> MappingProxyType[int, str]:
        """id -> path of every known group, the root included; a live view."""
        return MappingProxyType(self._paths)

    def scan(self) -> Changes:
        """Walk the whole hierarchy and learn what is different. Raises HostError when the root cannot be read."""
        found, unreadable = scan_tree(self.root_path)
        first = self.counters.scans == 0
        self.counters.scans += 1
        self.counters.unreadable = unreadable
        self.stale = False
        if found == self._paths:
            return Changes()
        found_ids = {path: id for id, path in found.items()}
        renamed = 0
        gone = []
        for id, path in self._paths.items():
            new_path = found.get(id)
            if new_path is None:
                gone.append(id)
                self.counters.reused += path in found_ids
            elif new_path != path:
                if self._ids.get(_parent(path)) == found_ids.get(_parent(new_path)):
                    renamed += 1
                else:
                    gone.append(id)
                    self.counters.reused += 1
        dead = set(gone)
        born = [id for id in found if id not in self._paths or id in dead]
        self._paths, self._ids = found, found_ids
        self.counters.births += len(born)
        self.counters.deaths += len(gone)
        if not first:
            self.counters.corrected += renamed + len(dead.union(born))
        return Changes(tuple(born), tuple(gone))

    def apply(self, event: GroupEvent) -> Changes:
        """Learn from one kernel event, in the order in which the kernel sent them. Reads nothing."""
        if isinstance(event, GroupGone):
            return Changes(gone=self._forget(event.id))
        path = self._own_path(event.path) if event.path is not None else None
        if event.path is None or (isinstance(event, GroupRenamed) and event.id not in self._paths):
            self.stale = True
            return Changes()
        if path is None:
            return Changes()
        if isinstance(event, GroupRenamed):
            return Changes(gone=self._rename(self._paths[event.id], path))
        return self._bear(event.id, path)

    def _bear(self, id: int, path: str) -> Changes:
        if self._paths.get(id) == path:
            return Changes()  # a scan was quicker than the event
        before = [other for other in (self._ids.get(path), id) if other is not None and other in self._paths]
        self.counters.reused += len(before)
        gone = tuple(dead for other in before for dead in self._forget(other))
        self._paths[id] = path
        self._ids[path] = id
        self.counters.births += 1
        return Changes((id,), gone)

    def _forget(self, id: int) -> tuple[int, ...]:
        path = self._paths.pop(id, None)
        if path is None:
            return ()
        del self._ids[path]
        self.counters.deaths += 1
        return (id,)

    def _rename(self, old: str, new: str) -> tuple[int, ...]:
        """The group at `old` and all below it; the only event that costs a pass over all paths, and v1 only.

        Who had one of the new paths must be gone, or the kernel had refused: its event was lost.
        """
        below = old + "/"
        moved = {
            id: new + path[len(old) :] for id, path in self._paths.items() if path == old or path.startswith(below)
        }
        for id in moved:
            del self._ids[self._paths[id]]
        gone = tuple(dead for path in moved.values() for dead in self._forget(self._ids.get(path, 0)))
        self.counters.reused += len(gone)
        for id, path in moved.items():
            self._paths[id] = path
            self._ids[path] = id
        return gone

    def _own_path(self, path: str) -> str | None:
        """From the hierarchy's root to ours; None: outside of the mounted part."""
        return path[len(self._prefix) :] if path.startswith(self._prefix + "/") else None


def scan_tree(root_path: str) -> tuple[dict[int, str], int]:
    """All groups as id -> path (parents before children), on v2 whether or not they have the cpu controller, and how
    many directories could not be read.

    A cgroup directory has 2 + subdirectories links (kernfs_refresh_inode, fs/kernfs/inode.c), so a leaf costs one
    stat and no listing of its files. A directory that vanishes meanwhile is left out.
    """
    try:
        root_id = os.stat(root_path).st_ino
        waiting = [(root_path, "")]
        os.scandir(root_path).close()
    except OSError as error:
        raise HostError.of(error, root_path) from error
    found = {root_id: "/"}
    unreadable = 0
    while waiting:
        directory, path = waiting.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        continue
                    status = entry.stat(follow_symlinks=False)
                    child = f"{path}/{entry.name}"
                    found[status.st_ino] = child
                    if status.st_nlink != 2:
                        waiting.append((entry.path, child))
        except OSError as error:
            unreadable += not is_gone(error)
    return found, unreadable


def printable(path: str) -> str:
    """A path in one line of printable characters: odd bytes as \\xff, control characters escaped."""
    if path.isprintable():
        return path
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"
