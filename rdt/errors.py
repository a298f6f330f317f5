"""The one error tree.

    RdtError
    ├── NotMounted          there is no resctrl at the root, or it has been unmounted
    ├── Gone                the group is no longer there
    ├── Unreadable          a file is not of the form that the kernel's documentation gives
    ├── Invalid             refused by us, before the kernel
    │   └── NoLayout        the classes do not fit this machine
    ├── Busy                another program holds the lock of the tree
    ├── Unsettled           tasks fork faster than they can be moved
    └── Refused             refused by the kernel
        ├── OutOfClosids    no more control groups
        ├── OutOfRmids      no more groups with counters, or not until the kernel has cleaned some
        └── ReadBack        accepted by the kernel, and then it says something else

Every error prints as one line that names the file, the value and what is allowed or what the kernel said.
"""

from __future__ import annotations

import errno as errno_names
import os


class RdtError(Exception):
    """Base. `what` says it in words; the attributes say it to programs, and are None where they mean nothing."""

    def __init__(
        self,
        what: str,
        *,
        path: str | None = None,
        value: str | None = None,
        allowed: str | None = None,
        errno: int | None = None,
        kernel_text: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.path = path
        self.value = value
        self.allowed = allowed
        self.errno = errno
        self.kernel_text = kernel_text

    def __str__(self) -> str:
        line = ": ".join(part for part in (self.path, self.value, self.what) if part)
        if self.allowed is not None:
            line += f" (allowed: {self.allowed})"
        if self.errno is not None:
            line += f" [{errno_names.errorcode.get(self.errno, self.errno)}]"
        if self.kernel_text is not None:
            line += f"; the kernel says: {self.kernel_text}"
        return " ".join(line.split())


class NotMounted(RdtError):
    """No resctrl at the root."""


class Gone(RdtError):
    """The group was removed, by whomever: an ordinary result."""


class Unreadable(RdtError):
    """The kernel's file has a form that is not known here."""


class Invalid(RdtError):
    """The value cannot be right on this machine; the kernel was not asked."""


class NoLayout(Invalid):
    """The classes cannot be laid out on this machine; `what` says why."""


class Busy(RdtError):
    """Another program has kept the lock of the tree for too long."""


class Unsettled(RdtError):
    """New tasks kept coming while they were moved."""


class Refused(RdtError):
    """The kernel refused a write. `errno` is its own, `kernel_text` what info/last_cmd_status says."""

    @classmethod
    def of(cls, error: OSError, path: str, value: str | None = None, kernel_text: str | None = None) -> Refused:
        """In our words: `raise Refused.of(...) from error`."""
        what = error.strerror or os.strerror(error.errno or 0)
        return cls(what, path=path, value=value, errno=error.errno, kernel_text=kernel_text)


class OutOfClosids(Refused):
    """All classes of service are in use; `info/*/num_closids` says how many there are."""


class OutOfRmids(Refused):
    """All monitoring ids are in use (ENOSPC), or wait for their cache lines to leave the cache (EBUSY: try later)."""


class ReadBack(Refused):
    """What the kernel shows after the write is not what was written."""


GONE = frozenset({errno_names.ENOENT, errno_names.ENODEV})
"""What the kernel says of a group that was removed, also of its files that are open."""
