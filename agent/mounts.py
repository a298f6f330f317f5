"""Mount and unmount a file system, by the C library's own calls, and tell ours from others'.

What we mount has the source `slackwater` in /proc/self/mountinfo. It is seen in this process' mount namespace.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

SOURCE = "slackwater"
MOUNTINFO = Path("/proc/self/mountinfo")
_UMOUNT_NOFOLLOW = 8


def mount(target: Path, filesystem: str, options: tuple[str, ...] = ()) -> None:
    """OSError: as the kernel says."""
    texts = SOURCE.encode(), os.fsencode(target), filesystem.encode()
    _call("mount", *texts, ctypes.c_ulong(0), ",".join(options).encode())


def unmount(target: Path) -> None:
    """OSError: EBUSY while a file of it is open. Never lazily."""
    _call("umount2", os.fsencode(target), _UMOUNT_NOFOLLOW)


def is_ours(target: Path, filesystem: str, mountinfo: Path = MOUNTINFO) -> bool:
    """Whether what is mounted there now, and is seen, is what we have mounted.

    Line: `36 25 0:31 / /sys/fs/resctrl rw,relatime shared:9 - resctrl slackwater rw,cdp`.
    """
    last = None
    for line in mountinfo.read_bytes().split(b"\n"):  # paths of other mounts may be of any bytes but this one
        place, _, rest = line.partition(b" - ")
        if place.split(b" ")[4:5] == [os.fsencode(target)]:
            last = rest.split(b" ")[:2]
    return last == [filesystem.encode(), SOURCE.encode()]


def _call(name: str, *arguments: bytes | int | ctypes.c_ulong) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
