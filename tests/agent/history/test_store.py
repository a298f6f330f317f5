"""agent.history.store: bounded, and whole after whatever happens."""

from __future__ import annotations

import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.control import Knob, Result
from agent.history.book import Update
from agent.history.entries import Entry
from agent.history.reader import HistoryReader
from agent.history.schema import SCHEMA
from agent.history.store import BYTES_MIN, LOG_BYTES_MAX, LogFull, Store, UnusableFile
from tests.agent.made_up_entries import at, decided, outcome

ROOT = Path(__file__).parents[3]
MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history" / "history.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path, 1000, 64 * MIB)
    yield store
    store.close()


def numbered(first: int, count: int, *, outcomes: int = 1, reason: str = "x" * 200) -> list[Entry]:
    return [
        dataclasses.replace(decided(id, *(outcome(k) for k in range(outcomes)), reason=reason), id=id)
        for id in range(first, first + count)
    ]


def write_many(store: Store, count: int) -> None:
    for first in range(store.next_id, store.next_id + count, 400):
        store.write(numbered(first, 400))


def bytes_on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir())


def ids(path: Path) -> list[int | None]:
    with HistoryReader(path) as reader:
        return [entry.id for entry in reader.entries()]


def test_an_entry_is_read_as_it_was_written(path: Path, store: Store) -> None:
    """Ids of cgroups past 2^63 and of partitions, CPU sets, no limit, NaN, and a path that is no UTF-8 included."""
    entry = decided(
        5,
        outcome((0, 1, 3), (), group=(2**64 - 9, "/b\udcff")),
        outcome((0, 30), (0, 50), group=(-4, "partition BE"), knob=Knob.CACHE_WAYS),
        outcome(None, 50_000, result=Result.REFUSED, errno=22, kernel_text="Invalid argument"),
        group_id=2**63,
        emergency=True,
        inputs={"wait_ns": 4.5, "gone_ns": float("nan"), "policy": "quota"},
    )
    store.write([dataclasses.replace(entry, id=1)])
    with HistoryReader(path) as reader:
        (read,) = reader.entries()
    assert repr(read.inputs.pop("gone_ns")) == "nan"  # type: ignore[attr-defined]
    first, partition, second = read.outcomes
    assert partition == entry.outcomes[1]
    assert first.intent.path == "/b\\xff"
    assert dataclasses.replace(first.intent, path="/b\udcff") == entry.outcomes[0].intent
    assert (first.before, first.after) == ((), (0, 1, 3))
    assert second == entry.outcomes[2]
    wanted = dataclasses.replace(entry, id=1, inputs={"wait_ns": 4.5, "policy": "quota"}, outcomes=read.outcomes)
    assert read == wanted


def test_an_update_changes_an_entry_that_is_written(path: Path, store: Store) -> None:
    store.write(numbered(1, 2))
    store.write([], [Update(2, at(9).wall_ns, 7, True)])
    with HistoryReader(path) as reader:
        first, second = reader.entries()
    assert (first.times, second.times, second.end_wall_ns, second.lasts) == (1, 7, at(9).wall_ns, True)


def test_the_oldest_entries_go_when_there_are_too_many(path: Path, store: Store) -> None:
    """With their outcomes."""
    for first in range(1, 3001, 50):
        store.write(numbered(first, 50))
        with HistoryReader(path) as reader:
            assert len(reader.entries()) <= 1000
    assert ids(path)[-1] == 3000
    assert len(ids(path)) >= 1000 * 15 // 16 - 50
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM outcome").fetchone() == (len(ids(path)),)
    db.close()


@pytest.mark.slow
@pytest.mark.parametrize("outcomes", [1, 300])
def test_all_that_is_on_the_disk_stays_within_its_bound(path: Path, outcomes: int) -> None:
    """At every moment: database, log and index. It is written through twice."""
    store = Store(path, 10**6, BYTES_MIN)
    written_bytes, id, largest = 0, 1, 0
    while written_bytes < 2 * BYTES_MIN:
        batch = numbered(id, max(400 // outcomes, 1), outcomes=outcomes)
        store.write(batch)
        id += len(batch)
        written_bytes += len(batch) * (300 + 100 * outcomes)
        largest = max(largest, bytes_on_disk(path))
    assert largest <= BYTES_MIN
    store.close()
    assert ids(path)[-1] == id - 1
    assert len(ids(path)) * (300 + 100 * outcomes) > 0.2 * BYTES_MIN


@pytest.mark.slow
def test_one_transaction_that_is_larger_than_the_bound_is_refused(path: Path) -> None:
    """By SQLite itself; the next one is written."""
    store = Store(path, 10**6, BYTES_MIN)
    with pytest.raises(sqlite3.OperationalError, match="database or disk is full"):
        store.write(numbered(1, 20_000))
    store.write(numbered(1, 10))
    store.close()
    assert ids(path) == [*range(1, 11)]


@pytest.mark.slow
def test_a_bound_that_was_lowered_holds_from_the_next_start_on(path: Path) -> None:
    store = Store(path, 10**6, 3 * BYTES_MIN)
    write_many(store, 40_000)
    assert bytes_on_disk(path) > BYTES_MIN
    store.close()
    store = Store(path, 10**6, BYTES_MIN)
    assert bytes_on_disk(path) <= BYTES_MIN
    store.write(numbered(store.next_id, 1))
    store.close()
    last = ids(path)
    assert last[-1] == 40_001
    assert len(last) > 100


def test_a_reader_that_stays_stops_the_writing_and_not_the_disk_from_being_bounded(path: Path, store: Store) -> None:
    store.write(numbered(1, 1))
    with sqlite3.connect(path) as db:
        db.execute("BEGIN")
        assert db.execute("SELECT count(*) FROM entry").fetchone() == (1,)
        with pytest.raises(LogFull, match="a reader keeps"):
            write_many(store, 20_000)
        assert bytes_on_disk(path) < 3 * LOG_BYTES_MAX
    db.close()
    store.write(numbered(store.next_id, 1))


def test_a_reader_reads_while_it_is_written(path: Path, store: Store) -> None:
    """A transaction is seen whole or not at all."""
    with HistoryReader(path) as reader:
        for id in range(1, 100, 10):
            store.write(numbered(id, 10, outcomes=3))
            entries = reader.entries()
            assert len(entries) == id + 9
            assert all(len(entry.outcomes) == 3 for entry in entries)


WRITER = """
import sys
from pathlib import Path
from agent.history.store import Store
from tests.agent.history.test_store import numbered
store = Store(Path(sys.argv[1]), 3000, 1 << 26)
print(store.next_id, flush=True)
while True:
    store.write(numbered(store.next_id, 20, outcomes=5))
    print("+", end="", flush=True)
"""


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_written_and_tears_nothing(path: Path) -> None:
    """Ten times at different moments, in the middle of transactions and of forgetting."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    written = 0
    for round_ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        first = int(process.stdout.readline())
        assert first - 1 >= written
        time.sleep(0.05 * (1 + round_ % 4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        written = first - 1 + 20 * process.stdout.read().count("+")
        process.stdout.close()
    store = Store(path, 3000, 64 * MIB)
    assert store.next_id - 1 >= written > 100
    with HistoryReader(path) as reader:
        assert all(len(entry.outcomes) == 5 for entry in reader.entries())
    store.close()


def test_a_torn_end_of_the_log_is_no_error(path: Path) -> None:
    """As after a power failure: what was whole before it is there."""
    store = Store(path, 1000, 64 * MIB)
    store.write(numbered(1, 10))
    log = Path(f"{path}-wal")
    whole = log.read_bytes()
    store.write(numbered(11, 10))
    torn = log.read_bytes()[: len(whole) + 2000]
    database = path.read_bytes()
    store.close()
    path.write_bytes(database)
    log.write_bytes(torn)
    store = Store(path, 1000, 64 * MIB)
    assert store.next_id == 11
    store.close()


@pytest.mark.parametrize("damage", ["no database", "page", "empty page", "what opening does not touch"])
def test_a_damaged_file_is_told_from_a_disk_that_fails(path: Path, damage: str) -> None:
    store = Store(path, 1000, 64 * MIB)
    store.write(numbered(1, 200))
    store.close()
    with sqlite3.connect(path) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'outcome'").fetchone()
    db.close()
    data = bytearray(path.read_bytes())
    match damage:
        case "no database":
            data[:] = b"x" * len(data)
        case "page":
            data[4096 * 5 : 4096 * 6] = os.urandom(4096)
        case "what opening does not touch":
            data[4096 * (root - 1) : 4096 * root] = os.urandom(4096)
        case _:
            data[4096 * 3 : 4096 * 9] = bytes(4096 * 6)
    path.write_bytes(data)
    with pytest.raises(UnusableFile):
        Store(path, 1000, 64 * MIB)


def test_a_file_of_another_schema_is_not_used(path: Path, store: Store) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    with pytest.raises(UnusableFile, match=f"its schema is {SCHEMA + 1}, not {SCHEMA}"):
        Store(path, 1000, 64 * MIB)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (a)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(sqlite3.OperationalError, match="another program's database"):
        Store(path, 1000, 64 * MIB)
    assert path.read_bytes() == before


def test_a_hold_of_an_agent_that_was_killed_does_not_last(path: Path) -> None:
    store = Store(path, 1000, 64 * MIB)
    store.write([dataclasses.replace(entry, lasts=True) for entry in numbered(1, 1)])
    store.close()
    store = Store(path, 1000, 64 * MIB)
    store.close()
    with HistoryReader(path) as reader:
        assert [entry.lasts for entry in reader.entries()] == [False]
