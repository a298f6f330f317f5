"""agent.history.reader: who is asked for, and what is told then."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.control import Event, Knob
from agent.errors import HostError
from agent.history.entries import Entry, Kind, of_event
from agent.history.reader import HistoryReader, KnownGroup, matching
from agent.history.store import Store
from tests.agent.made_up_entries import BATCH, WEB, at, decided, held, outcome

DB = (33, "/system.slice/db.service")


def written(path: Path, entries: Sequence[Entry]) -> HistoryReader:
    store = Store(path, 1000, 1 << 26)
    store.write([dataclasses.replace(entry, id=id) for id, entry in enumerate(entries, 1)])
    store.close()
    return HistoryReader(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def test_a_group_is_asked_for_by_its_id_whatever_its_part_in_a_decision(path: Path) -> None:
    """For its sake, one of its settings, or an event; holds are of nobody."""
    mine = [decided(1, outcome(1)), decided(2, outcome(1, group=WEB), group_id=None, path=None)]
    event = of_event(Event("full", *WEB), at(3))
    with written(path, [*mine, event, held(4), decided(5, outcome(1), group_id=DB[0], path=DB[1])]) as reader:
        assert [entry.id for entry in reader.entries(ids=[WEB[0]])] == [1, 2, 3]
        assert [entry.id for entry in reader.entries(ids=[BATCH[0]])] == [1, 5]
        assert [entry.id for entry in reader.entries(ids=[BATCH[0], WEB[0]])] == [1, 2, 3, 5]
        assert reader.entries(ids=[]) == []


def test_settings_that_were_turned_for_a_group_are_known(path: Path) -> None:
    """Whosoever they are; not what was only given back."""
    entries = [
        decided(1, outcome(1), outcome(1, group=DB, knob=Knob.IDLE)),
        decided(2, outcome(1, group=WEB, knob=Knob.BURST), group_id=DB[0]),
        decided(3, outcome(1, knob=Knob.WEIGHT), gives_back=True),
        decided(4, outcome(1, knob=Knob.CPUSET), group_id=DB[0]),
    ]
    with written(path, entries) as reader:
        assert reader.turned_for([KnownGroup(*WEB)]) == {
            (BATCH[0], Knob.QUOTA),
            (DB[0], Knob.IDLE),
            (WEB[0], Knob.BURST),
        }


def test_kinds_time_and_limit_narrow_it_down(path: Path) -> None:
    """What ended before is left out, what lasts is not; of many the newest are given, in their order."""
    entries = [held(1), decided(2, outcome(1)), decided(3, outcome(2)), decided(4, outcome(3))]
    with written(path, entries) as reader:
        assert [entry.id for entry in reader.entries(since_wall_ns=at(3).wall_ns)] == [1, 3, 4]
        assert [entry.id for entry in reader.entries(kinds=[Kind.HOLD])] == [1]
        assert [entry.id for entry in reader.entries(limit=2)] == [3, 4]


def test_all_groups_of_which_it_tells_are_known_each_id_once(path: Path) -> None:
    """A path may have had two."""
    again = (44, WEB[1])
    with written(path, [decided(1, outcome(1)), decided(2, outcome(1), group_id=again[0]), held(3)]) as reader:
        assert reader.groups() == [KnownGroup(*BATCH), KnownGroup(*WEB), KnownGroup(*again)]


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("/system.slice/web.service", [11, 44]),
        ("/system.slice/*", [11, 44, 33]),
        ("/**", [22, 11, 44, 33]),
        ("web", [11, 44]),
        ("slice/db", [33]),
        ("*.service", [11, 44, 33]),
        ("/web", []),
        ("nobody", []),
        ("[", []),
    ],
)
def test_a_pattern_is_a_path_a_glob_or_a_part_of_a_path(pattern: str, ids: list[int]) -> None:
    groups = [KnownGroup(*BATCH), KnownGroup(*WEB), KnownGroup(44, WEB[1]), KnownGroup(*DB)]
    assert [group.id for group in matching(groups, pattern)] == ids


def test_a_path_that_is_there_is_itself_and_no_glob() -> None:
    """systemd escapes names, so that they may hold whatever a glob holds."""
    groups = [KnownGroup(1, "/a*"), KnownGroup(2, "/ab")]
    assert matching(groups, "/a*") == groups[:1]


def test_no_history_is_an_error_that_says_so(path: Path) -> None:
    with pytest.raises(HostError, match=r"history\.db: no history yet: no agent has written one"):
        HistoryReader(path)


def test_what_is_no_history_is_an_error_that_says_so(path: Path) -> None:
    path.write_bytes(b"x" * 9000)
    with pytest.raises(HostError, match="not a history: file is not a database"):
        HistoryReader(path)
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (a)")
    db.close()
    with pytest.raises(HostError, match="not a history; this slackwater reads schema 1"):
        HistoryReader(path)


def test_another_schema_is_named(path: Path) -> None:
    written(path, []).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(HostError, match="a history of schema 9; this slackwater reads schema 1"):
        HistoryReader(path)


def test_reading_changes_nothing_on_the_disk(path: Path) -> None:
    """Also after kill -9, when the log is still there."""
    store = Store(path, 1000, 1 << 26)
    store.write([dataclasses.replace(held(1), id=1)])
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}
    with HistoryReader(path) as reader:
        assert len(reader.entries()) == 1
    assert {f.name: f.read_bytes() for f in path.parent.iterdir() if not f.name.endswith("-shm")} == before
    store.close()
