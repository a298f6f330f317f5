"""What has to be put back, on record before it is changed. One line per record, in a file of /run: it outlives the
agent, not the machine.

    d87f7e0c {"format": 1, "boot": "5b4b3c1e-...", "pid": 4711}
    5f1e2a90 {"group": 81, "directory": 81, "path": "/be", "knob": "quota", "base": "max", "wrote": ["50000"]}
    0b1d93aa {"group": 81, "knob": "quota", "free": true}
    7c1be214 {"device": 3, "namespace": 4026531840, "name": "eth0", "base": [["qdisc", "fq", ...]], ...}
    a2f6e7d1 {"device": 3, "free": true}
    58d02c4e {"resctrl": "/sys/fs/resctrl", "mounts": false, "groups": ["slackwater-BE"], "cells": []}

The first word is the CRC-32 of the rest. A record that announces a write stands before the write is done, so that
whatever is in a file is its base, or on record, or a foreigner's. A last line that is not whole announced a write that
was not done. A line that is damaged anywhere else is skipped and said; every record has the base with it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agent.actuators.journal_records import AnyEntry, Contents, Key, announcing, contents, freeing, replayed
from agent.errors import HostError

FORMAT = 1
RECORDS_MAX = 4_096
"""Then what still counts is written to a new file: 4096 lines are about 0.7 MB."""


class Lock:
    """One writer per journal. Held until `close`, or until the process ends, however it ends."""

    def __init__(self, journal: Path) -> None:
        """HostError: another process has it, or the directory cannot be written."""
        path = journal.with_name(journal.name + ".lock")
        try:
            journal.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as err:
            raise HostError.of(err, str(path)) from err
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise HostError(f"another agent enforces: process {holder or 'unknown'}", path=str(journal)) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        """More than once does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Journal:
    """Written by the one that has the lock."""

    def __init__(self, path: Path, boot_id: str, entries: Iterable[AnyEntry]) -> None:
        """Begin anew with these entries; what else the file held is gone. OSError."""
        self._path = path
        self._boot_id = boot_id
        self._fd = -1
        self._live: dict[Key, AnyEntry] = {entry.key: entry for entry in entries}
        self.rewrite()

    def announce(self, entry: AnyEntry) -> None:
        """What it tells of is about to be written. OSError: it must not be."""
        self._append(announcing(entry))
        self._live[entry.key] = entry

    def free(self, key: Key) -> None:
        """Nothing of ours is there any more."""
        self._append(freeing(key))
        self._live.pop(key, None)

    def entry(self, key: Key) -> AnyEntry | None:
        """What is on record of it."""
        return self._live.get(key)

    def compact(self) -> None:
        """When it has grown long; to be called when all announced writes are done."""
        if self._records > RECORDS_MAX:
            self.rewrite()

    def rewrite(self) -> None:
        """What counts, in a new file in place of the old. OSError: the old one stands."""
        header = {"format": FORMAT, "boot": self._boot_id, "pid": os.getpid()}
        lines = [_line(header), *(_line(announcing(entry)) for entry in self._live.values())]
        new = self._path.with_name(self._path.name + ".new")
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_whole(fd, b"".join(lines))
            os.rename(new, self._path)
        except OSError:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._records = fd, len(lines)

    def close(self) -> None:
        """One that has nothing on record is removed. More than once does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if not self._live:
                self._path.unlink(missing_ok=True)

    def _append(self, record: Mapping[str, Any]) -> None:
        _write_whole(self._fd, _line(record))
        self._records += 1


def read(path: Path, boot_id: str) -> Contents:
    """What a predecessor left. HostError: it cannot be read, or is of a format that this version does not know."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Contents()
    except OSError as err:
        raise HostError.of(err, str(path)) from err
    lines = data.split(b"\n")
    whole, tail = lines[:-1], lines[-1]
    records = [_parsed(line) for line in whole]
    damaged = records.count(None)
    header = records[0] if records else None
    notes = []
    if tail:
        notes.append("its last line is not whole: that write was not done")
    if damaged:
        notes.append(f"{damaged} of its lines {'is' if damaged == 1 else 'are'} damaged and count for nothing")
    if header is not None and header.get("format", FORMAT) != FORMAT:
        raise HostError(
            f"of format {header['format']}; the version that wrote it can restore it",
            path=str(path),
            allowed=str(FORMAT),
        )
    if header is not None and header.get("boot", boot_id) != boot_id:
        return Contents(notes=("it is of another boot: there is nothing left of what it tells",))
    good = [record for record in records if record]
    return contents(replayed(good), tuple(notes), is_damaged=damaged > 0)


def _line(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """None: damaged."""
    crc, _, text = line.partition(b" ")
    if crc != b"%08x" % zlib.crc32(text):
        return None
    record: dict[str, Any] = json.loads(text)
    return record


def _write_whole(fd: int, data: bytes) -> None:
    """All of it or nothing: what a full file system took of it is taken back."""
    written = os.write(fd, data)
    if written != len(data):
        os.ftruncate(fd, os.fstat(fd).st_size - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
