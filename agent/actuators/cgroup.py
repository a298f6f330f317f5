"""The files of one group, found by its id and held by descriptor. Reads and writes them; decides nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from agent.actuators.knobs import KnobFile, knob_file, parse_period_us, text_of
from agent.control import Knob
from agent.errors import is_gone
from agent.host import Hierarchy, Host

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class Gone(Exception):
    """The group is not there any more, or its path is another group's now."""


class Unsupported(Exception):
    """This host has no such knob for this group."""


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where the controllers are whose knobs are written."""

    cpu: Hierarchy
    cpuset: Hierarchy | None
    freezer: Hierarchy | None

    @classmethod
    def of(cls, host: Host) -> Hierarchies | None:
        """None: there is no cpu controller, and so there are no groups."""
        return cls(host.cpu, host.cpuset, host.freezer) if host.cpu else None

    def of_knob(self, knob: Knob) -> tuple[Hierarchy, KnobFile]:
        """Unsupported: its controller is not mounted."""
        place = {Knob.CPUSET: self.cpuset, Knob.FREEZE: self.freezer}.get(knob, self.cpu)
        if place is None:
            raise Unsupported
        return place, knob_file(knob, place.version)


class Group:
    """One group. Its id is that of its directory in the cpu hierarchy; on v1 the directories of the same path in the
    hierarchies of cpuset and freezer are its, too. Descriptors are opened when needed and kept until `close`.
    """

    def __init__(self, hierarchies: Hierarchies, path: str, id: int | None = None) -> None:
        """Gone: no directory, or not of this id (None: whatever id it has)."""
        self.path = path
        self._hierarchies = hierarchies
        self._directories: dict[str, int] = {}
        self._files: dict[tuple[Knob, str], int] = {}
        try:
            self.id = os.fstat(self._directory(hierarchies.cpu)).st_ino
        except Unsupported:
            raise Gone from None
        if id is not None and self.id != id:
            self.close()
            raise Gone

    def file_of(self, knob: Knob) -> KnobFile:
        """Unsupported: its controller is not mounted."""
        return self._hierarchies.of_knob(knob)[1]

    def directory_id(self, knob: Knob) -> int:
        """Inode of the directory that has the knob. Unsupported: there is none."""
        return os.fstat(self._directory(self._hierarchies.of_knob(knob)[0])).st_ino

    def read(self, knob: Knob) -> str:
        """The knob's text. Unsupported, Gone, OSError."""
        return text_of(self._read(knob, self.file_of(knob).name))

    def period_us(self) -> int:
        """That of the quota. Unsupported, Gone, OSError, ValueError."""
        name = self.file_of(Knob.QUOTA).period_name
        assert name
        return parse_period_us(self._read(Knob.QUOTA, name))

    def write(self, knob: Knob, text: str) -> None:
        """Unsupported, Gone; OSError: the kernel refuses."""
        file = self.file_of(knob)
        fd = self._file(knob, file.set_by or file.name)
        try:
            os.write(fd, file.content(text))
        except OSError as err:
            if err.errno == errno.EBADF:  # it could be opened to be read only
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
            raise (Gone() if is_gone(err) else err) from None

    def children(self) -> Iterator[Group]:
        """The groups just below, in the cpu hierarchy, each to be closed by the caller."""
        with os.scandir(self._directory(self._hierarchies.cpu)) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for name in names:
            try:
                yield Group(self._hierarchies, f"{self.path.rstrip('/')}/{name}")
            except Gone:
                continue

    def narrows_newcomers(self) -> bool:
        """On v1 a child cannot have a CPU that its parent has not: a runtime that gives a new container the CPUs of its
        specification would be refused. So only groups without children may have a narrower set. Unsupported.
        """
        place, _ = self._hierarchies.of_knob(Knob.CPUSET)
        without_children = 2
        return place.version == 1 and os.fstat(self._directory(place)).st_nlink > without_children

    def close(self) -> None:
        for fd in (*self._files.values(), *self._directories.values()):
            os.close(fd)
        self._files.clear()
        self._directories.clear()

    def _read(self, knob: Knob, name: str) -> bytes:
        fd = self._file(knob, name)
        try:
            return os.pread(fd, 1 << 16, 0)
        except OSError as err:
            raise (Gone() if is_gone(err) else err) from None

    def _file(self, knob: Knob, name: str) -> int:
        fd = self._files.get((knob, name))
        if fd is None:
            directory = self._directory(self._hierarchies.of_knob(knob)[0])
            fd = self._files[knob, name] = self._opened(directory, name)
        return fd

    def _opened(self, directory: int, name: str) -> int:
        for mode in (os.O_RDWR, os.O_RDONLY):
            try:
                return os.open(name, mode | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
            except PermissionError:
                if mode == os.O_RDONLY:
                    raise
            except FileNotFoundError:
                raise (Unsupported if _is_there(directory) else Gone)() from None
        raise AssertionError

    def _directory(self, place: Hierarchy) -> int:
        """Unsupported: the group has no directory in this hierarchy."""
        fd = self._directories.get(place.mount)
        if fd is None:
            try:
                fd = os.open(place.mount + self.path, _DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                raise Unsupported from None
            self._directories[place.mount] = fd
        return fd


def _is_there(directory: int) -> bool:
    """Whether the group of a descriptor still exists: each has this file."""
    try:
        os.stat("cgroup.procs", dir_fd=directory)
    except FileNotFoundError:
        return False
    return True
