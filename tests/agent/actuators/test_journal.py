"""agent.actuators.journal: what is read again after any end of the process that wrote it."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.actuators import journal
from agent.actuators.journal import RECORDS_MAX, Journal, Lock, read
from agent.actuators.journal_records import Cell, Contents, Entry, ResctrlEntry
from agent.control import Knob
from agent.errors import HostError

BOOT = "5b4b3c1e-0000-4000-8000-000000000000"


def entry(group: int = 7, knob: Knob = Knob.QUOTA, *wrote: str, base: str = "max") -> Entry:
    return Entry(group, group, "/be", knob, base, wrote or ("50000",))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def written(path: Path) -> Journal:
    """Two knobs announced, one of them twice, and one that is free again."""
    record = Journal(path, BOOT, {})
    record.announce(entry(7, Knob.QUOTA, "50000"))
    record.announce(entry(8, Knob.WEIGHT, "3", base="100"))
    record.announce(entry(7, Knob.QUOTA, "50000", "60000"))
    record.announce(entry(9))
    record.free((9, Knob.QUOTA))
    return record


LIVE = {
    (7, Knob.QUOTA): entry(7, Knob.QUOTA, "50000", "60000"),
    (8, Knob.WEIGHT): entry(8, Knob.WEIGHT, "3", base="100"),
}


def test_what_was_announced_and_not_freed_is_read_again(path: Path) -> None:
    written(path)
    assert read(path, BOOT) == Contents(LIVE)


def test_a_path_that_is_not_utf8_survives(path: Path) -> None:
    odd = Entry(7, 7, os.fsdecode(b"/b\xff\n"), Knob.QUOTA, "max", ("1000",))
    Journal(path, BOOT, {}).announce(odd)
    assert read(path, BOOT).entries == {odd.key: odd}


@given(cut=st.integers(0, 10_000))
def test_a_torn_tail_is_a_write_that_was_not_done(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Cut anywhere, the records before the cut count, and nothing is damaged."""
    path = tmp_path_factory.mktemp("cut") / "journal"
    written(path)
    data = path.read_bytes()[: cut % len(path.read_bytes())]
    path.write_bytes(data)
    contents = read(path, BOOT)
    assert not contents.is_damaged
    assert bool(contents.notes) == (bool(data) and not data.endswith(b"\n"))
    whole = data.count(b"\n")
    assert len(contents.entries) == [0, 0, 1, 2, 2, 3, 2][whole]


@given(line=st.integers(1, 5), flip=st.integers(0, 10_000))
def test_damage_in_the_middle_is_said(tmp_path_factory: pytest.TempPathFactory, line: int, flip: int) -> None:
    """One byte of one record: the others count."""
    path = tmp_path_factory.mktemp("damage") / "journal"
    written(path)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = bytearray(lines[line])
    damaged[flip % (len(damaged) - 1)] ^= 0x01
    lines[line] = bytes(damaged)
    path.write_bytes(b"".join(lines))
    contents = read(path, BOOT)
    assert contents.is_damaged
    assert contents.notes == ("1 of its lines is damaged and count for nothing",)
    assert contents.entries.keys() >= LIVE.keys() - ({(8, Knob.WEIGHT)} if line == 2 else set())


def test_a_journal_of_another_boot_is_not_applied_and_that_is_said(path: Path) -> None:
    written(path)
    contents = read(path, "another")
    assert contents.entries == {}
    assert contents.notes == ("it is of another boot: there is nothing left of what it tells",)


def test_a_journal_of_an_unknown_format_is_one_line_and_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(journal, "FORMAT", 2)
        written(path)
    before = path.read_bytes()
    with pytest.raises(HostError, match=r"of format 2; the version that wrote it can restore it \(allowed: 1\)"):
        read(path, BOOT)
    assert path.read_bytes() == before


def test_none_is_empty(path: Path) -> None:
    assert read(path, BOOT) == Contents()
    path.touch()
    assert read(path, BOOT) == Contents()


def test_a_long_one_is_written_anew_with_what_counts(path: Path) -> None:
    record = written(path)
    for number in range(RECORDS_MAX):
        record.announce(entry(7, Knob.QUOTA, "50000", str(60_000 + number)))
    before = path.stat().st_size
    record.compact()
    assert path.stat().st_size < before / 100
    record.announce(entry(9))
    assert read(path, BOOT).entries.keys() == LIVE.keys() | {(9, Knob.QUOTA)}


def test_a_full_file_system_leaves_whole_records(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written of a record is taken back, and the write that it announced must not be done."""
    record, write = written(path), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            record.announce(entry(9))
    record.announce(entry(10))
    assert read(path, BOOT) == Contents({**LIVE, (10, Knob.QUOTA): entry(10)})


def test_one_without_a_record_is_removed_at_the_end(path: Path) -> None:
    record = written(path)
    record.close()
    assert path.exists()
    record = Journal(path, BOOT, LIVE.values())
    for key in LIVE:
        record.free(key)
    record.close()
    assert not path.exists()


def test_the_lock_names_its_holder(path: Path) -> None:
    lock = Lock(path)
    with pytest.raises(HostError, match=f"{path}: another agent enforces: process {os.getpid()}$"):
        Lock(path)
    lock.close()
    Lock(path).close()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="File exists"):
        Lock(tmp_path / "file" / "journal")


def test_resctrl_is_read_again(path: Path) -> None:
    """Beside knobs; what was announced last counts, and nothing that is free."""
    record = written(path)
    first = ResctrlEntry("/sys/fs/resctrl", mounts=True)
    record.announce(first)
    record.announce(replace(first, groups=("slackwater-LS", "slackwater-BE")))
    last = replace(first, groups=("slackwater-BE",), cells={("L3", 4): Cell(0xFFF, (0xFFF, 0x3F))})
    record.announce(last)
    assert read(path, BOOT).resctrl == {last.key: last}
    assert read(path, BOOT).entries == LIVE
    assert record.entry(last.key) == last
    Journal(path, BOOT, read(path, BOOT).all).free(last.key)
    assert read(path, BOOT).resctrl == {}
