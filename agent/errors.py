"""The one error tree, and the exit status of each branch.

    SlackwaterError          1
    ├── UsageError           2   the command line is wrong
    │   └── ConfigError      2   the configuration file is wrong
    └── HostError            1   this host cannot do what is asked (no cgroup, no BPF, a file refused)

Every error prints as one line that names the thing, the value and what is allowed or what the kernel said:

    slackwater.toml: agent.tick_s = 0: allowed is 0.1 to 60 s
    /sys/fs/cgroup/cpu: Permission denied [EACCES]

A group that vanished is no error: see `is_gone`.
"""

from __future__ import annotations

import errno as errno_names
import os
from typing import ClassVar

_GONE = frozenset({errno_names.ENOENT, errno_names.ENODEV, errno_names.ESRCH})


class SlackwaterError(Exception):
    """Base. `what` says it in words; the attributes say it to programs, and are None where they mean nothing."""

    exit_status: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        path: str | None = None,
        value: object = None,
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
        parts = [part for part in (self.path, self.what) if part]
        if self.value is not None:
            parts.append(repr(self.value))
        line = ": ".join(parts)
        if self.allowed is not None:
            line += f" (allowed: {self.allowed})"
        if self.errno is not None:
            line += f" [{errno_names.errorcode.get(self.errno, self.errno)}]"
        if self.kernel_text is not None:
            line += f"; the kernel says: {self.kernel_text}"
        return " ".join(line.split())


class UsageError(SlackwaterError):
    """The command line asks for something that does not exist or is out of range."""

    exit_status = 2


class ConfigError(UsageError):
    """The configuration file has an unknown key, a wrong type or unit, or a value out of range."""


class HostError(SlackwaterError):
    """The host lacks or refuses something without which the request cannot be met."""

    @classmethod
    def of(cls, error: OSError, path: str) -> HostError:
        """The same refusal in our words: `raise HostError.of(err, path) from err`."""
        return cls(error.strerror or os.strerror(error.errno or 0), path=path, errno=error.errno)


def is_gone(error: OSError) -> bool:
    """The group, task or file no longer exists: an ordinary result, handled per item.

    ENOENT: the path is gone; ENODEV: the cgroup behind an open file was removed (kernfs_get_active);
    ESRCH: the task behind an open /proc file has exited.
    """
    return error.errno in _GONE
