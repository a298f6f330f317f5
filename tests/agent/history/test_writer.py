"""agent.history.writer: the loop is never kept waiting, and what is lost is said and counted."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.control import Event, Hold, Result
from agent.history import writer as writer_module
from agent.history.entries import BEFORE_WALL_NS, Entry, Kind
from agent.history.reader import HistoryReader
from agent.history.store import Store
from agent.history.writer import QUEUE_MAX, HistoryWriter
from tests.agent.made_up_entries import BATCH, WEB, decision, outcome

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
WAIT_S = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def write(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], HistoryWriter]]:
    """Starts a writer that looks often and tries again soon; all are closed."""
    monkeypatch.setattr(writer_module, "GATHER_S", 0.01)
    monkeypatch.setattr(writer_module, "RETRY_S", 0)
    monkeypatch.setattr(writer_module, "WELL_S", 0)
    writers = []

    def start() -> HistoryWriter:
        writers.append(HistoryWriter(path, max_entries=1000, max_bytes=64 * MIB, about="pid 1, enforce on"))
        return writers[-1]

    yield start
    for writer in writers:
        writer.close()


def eventually(condition: Callable[[], Any]) -> Any:
    """Its first true value."""
    end = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)
    return value


def entries(path: Path) -> list[Entry]:
    with HistoryReader(path) as reader:
        return reader.entries()


def told(path: Path) -> list[str]:
    return [entry.reason for entry in entries(path)]


def decide(writer: HistoryWriter, number: int = 1) -> None:
    writer.decided(decision(outcome(number)), (outcome(number),), WEB[1])


def test_decisions_holds_and_events_are_kept(path: Path, write: Callable[[], HistoryWriter]) -> None:
    """From the start of the agent to its end, in their order."""
    writer = write()
    decide(writer)
    writer.held([Hold(None, "the clock jumped")])
    writer.event(Event("the node is full", *BATCH))
    writer.held([])
    writer.close()
    start, decided, hold, event, stop = entries(path)
    assert (start.kind, start.reason) == (Kind.AGENT, "started: pid 1, enforce on")
    assert (decided.group_id, decided.path, decided.outcomes) == (*WEB, (outcome(1),))
    assert (hold.kind, hold.controller, hold.lasts, hold.times) == (Kind.HOLD, None, False, 1)
    assert hold.end_wall_ns > hold.begin.wall_ns
    assert (event.kind, event.path) == (Kind.EVENT, BATCH[1])
    assert (stop.kind, stop.reason) == (Kind.AGENT, "stopped")
    assert writer.counts() == writer_module.HistoryCounts(4, 0, None)


def test_a_hold_that_is_told_every_tick_is_one_entry(path: Path, write: Callable[[], HistoryWriter]) -> None:
    """Also if its figures change; and it fills no queue."""
    writer = write()
    for second in range(5 * QUEUE_MAX):
        writer.held([Hold("burst", f"settles since {second} s")])
    writer.close()
    assert [(entry.reason, entry.times) for entry in entries(path) if entry.kind is Kind.HOLD] == [
        ("settles since 0 s", 1)
    ]
    assert writer.counts().dropped == 0


def test_a_dry_run_that_decides_the_same_every_tick_is_one_entry(
    path: Path, write: Callable[[], HistoryWriter]
) -> None:
    writer = write()
    done = outcome(1, result=Result.DRY_RUN)
    for second in range(100):
        writer.decided(decision(done, reason=f"p20 {second} ms"), (done,), WEB[1])
    writer.close()
    assert [(entry.reason, entry.times) for entry in entries(path) if entry.outcomes] == [("p20 0 ms", 100)]


def test_the_next_start_says_that_an_agent_ended_without_a_word(path: Path, write: Callable[[], HistoryWriter]) -> None:
    write().close()
    write().close()
    script = (
        "import sys; from pathlib import Path; from agent.history.writer import HistoryWriter; import time\n"
        "w = HistoryWriter(Path(sys.argv[1]), max_entries=1000, max_bytes=1 << 26, about='pid 2')\n"
        "while not w.counts().written: time.sleep(0.01)\n"
        "print(flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    write().close()
    assert told(path) == [
        *["started: pid 1, enforce on", "stopped"] * 2,
        "started: pid 2",
        "started: pid 1, enforce on; the one before was killed or crashed",
        "stopped",
    ]
    *_, killed, after, _ = entries(path)
    assert after.inputs == {BEFORE_WALL_NS: killed.end_wall_ns}


def test_a_disk_that_hangs_never_keeps_the_loop_waiting(
    write: Callable[[], HistoryWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit into the queue is dropped and counted."""
    is_free = threading.Event()
    hanging = Store.write

    def hang(*arguments: Any) -> None:
        is_free.wait(WAIT_S)
        hanging(*arguments)

    monkeypatch.setattr(Store, "write", hang)
    writer = write()
    for number in range(2 * QUEUE_MAX + 500):
        decide(writer, number)
        assert writer.counts().written == 0  # nobody waited until the disk worked again
    assert writer.counts().dropped >= 500
    is_free.set()
    writer.close()
    assert writer.counts().written + writer.counts().dropped == 2 * QUEUE_MAX + 500 + 1  # and the start


def test_a_disk_that_fails_is_said_once_and_counted_and_written_again(
    path: Path, write: Callable[[], HistoryWriter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The holds that last are told again, and the history says what it lacks."""
    writer = write()
    writer.held([Hold(None, "the clock jumped")])
    decide(writer)
    eventually(lambda: writer.counts().written == 3)
    with monkeypatch.context() as broken:
        broken.setattr(Store, "_transaction", _full)
        for number in range(5):
            decide(writer, 100 + number)
            eventually(lambda want=number + 1: writer.counts().dropped == want)  # type: ignore[misc]
        assert writer.counts().error == "database or disk is full"
    eventually(lambda: writer.counts().error is None)
    decide(writer, 200)
    writer.close()
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert messages == [
        f"history: {path} is not written: database or disk is full",
        "history: written again; 5 entries are missing",
    ]
    assert told(path)[3:] == [
        "goes on; 5 entries are missing: database or disk is full",
        "the clock jumped",
        "p20 4 ms, past 2 ms",
        "stopped",
    ]


def test_an_entry_that_cannot_be_stored_is_counted_and_said_once_and_the_others_are_kept(
    path: Path, write: Callable[[], HistoryWriter], caplog: pytest.LogCaptureFixture
) -> None:
    writer = write()
    decide(writer, 1)
    eventually(lambda: writer.counts().written == 2)
    for number in range(3):
        writer.decided(decision(outcome(9), inputs={"a": None}, group_id=100 + number), (outcome(9),), None)
    decide(writer, 2)
    eventually(lambda: writer.counts().dropped == 3)
    writer.close()
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(messages) == 1
    assert messages[0].startswith("history: an entry of suppress cannot be stored: TypeError: ")
    assert [entry.outcomes for entry in entries(path) if entry.outcomes] == [(outcome(1),), (outcome(2),)]
    assert writer.counts() == writer_module.HistoryCounts(3, 3, None)


def _full(_: Store) -> Any:
    import sqlite3

    raise sqlite3.OperationalError("database or disk is full")


def test_a_damaged_file_is_renamed_and_a_new_one_begun(
    path: Path, write: Callable[[], HistoryWriter], caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"no database" * 1000)
    writer = write()
    decide(writer)
    writer.close()
    assert Path(f"{path}.damaged").read_bytes() == b"no database" * 1000
    assert told(path) == ["started: pid 1, enforce on", "p20 4 ms, past 2 ms", "stopped"]
    (record,) = caplog.records
    assert "cannot be used (file is not a database)" in record.getMessage()


def test_a_folder_that_cannot_be_made_is_said_and_the_agent_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    writer = HistoryWriter(tmp_path / "file" / "history.db", max_entries=1000, max_bytes=64 * MIB, about="pid 1")
    eventually(lambda: writer.counts().error)
    decide(writer)
    writer.close()
    assert writer.counts().dropped == 1
    (record,) = caplog.records
    assert "file" in record.getMessage()


ON_A_SMALL_DISK = """
import logging, sys, time
from pathlib import Path
from agent.history import writer as module
from tests.agent.made_up_entries import decision, outcome
module.GATHER_S, module.RETRY_S = 0.01, 0
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
writer = module.HistoryWriter(Path(sys.argv[1]), max_entries=10**6, max_bytes=1 << 26, about="pid 1")
for number in range(4000):
    writer.decided(decision(outcome(number)), (outcome(number),), "/" + "x" * 400)
    if number % 100 == 0:
        time.sleep(0.02)
writer.close()
print(writer.counts())
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="mounts a small disk of its own: root")
@pytest.mark.parametrize(("options", "words"), [("size=1m", "disk"), ("size=1m,ro", "")], ids=["full", "read-only"])
def test_a_real_disk_that_is_full_or_read_only_is_said_once(tmp_path: Path, options: str, words: str) -> None:
    """In a mount namespace of its own; the agent ends as always."""
    command = (
        f"mount -t tmpfs -o {options} none {tmp_path} && exec {sys.executable} -c '{ON_A_SMALL_DISK}' {tmp_path}/h.db"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    *messages, counts = done.stdout.splitlines()
    assert 1 <= len(messages) == len(set(messages)) <= 2  # a full disk may fail in two ways
    assert all("is not written" in message and words in message for message in messages)
    assert "dropped=0" not in counts
