"""However an agent ends, its knobs come back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.actuators.executor import Executor
from agent.actuators.journal import Journal
from agent.actuators.report import Fate
from agent.control import Knob, Result
from agent.errors import HostError
from tests.kernel.knob_files import KnobTree, apply_one, quota, quota_us
from tests.kernel.needs import needs

pytestmark = needs("root", "cgroup:cpu")

KILL_ROUNDS = int(os.environ.get("SLACKWATER_KILL_ROUNDS", "20"))
SLACKWATER = str(Path(sys.executable).with_name("slackwater"))


def test_a_second_agent_is_refused_and_the_first_ones_process_named(knobs: KnobTree, journal: Path) -> None:
    script = "import sys; from agent.cli.main import main; main(['restore', '--journal', sys.argv[1]])"
    with Executor.open(knobs.host, journal) as executor:
        executor.apply([knobs.intent("a", Knob.QUOTA, 50_000)])
        with pytest.raises(HostError, match=f"another agent enforces: process {os.getpid()}"):
            Executor.open(knobs.host, journal)
        done = subprocess.run([sys.executable, "-c", script, str(journal)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"slackwater: {journal}: another agent enforces: process {os.getpid()}\n"
        assert quota_us(knobs, "a") == 50_000
        executor.restore()


def test_one_that_cannot_be_put_back_stops_nothing_and_stays_on_record(
    knobs: KnobTree, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one puts it back."""
    knobs.make("b")
    found = knobs.found()
    with Executor.open(knobs.host, journal) as executor:
        executor.apply([knobs.intent(name, Knob.QUOTA, 50_000) for name in ("a", "b")])
        with monkeypatch.context() as patch:
            stubborn = knobs.group("a").id
            write = os.write

            def refuse(fd: int, data: bytes) -> int:
                directory = os.path.dirname(os.readlink(f"/proc/self/fd/{fd}"))
                if os.stat(directory).st_ino == stubborn:
                    raise OSError(errno.EPERM, "Operation not permitted")
                return write(fd, data)

            patch.setattr(os, "write", refuse)
            report = executor.restore()
        assert {item.path: item.fate for item in report.items} == {
            knobs.path("a"): Fate.REFUSED,
            knobs.path("b"): Fate.RESTORED,
        }
        assert not report.is_complete
    assert journal.exists()
    with Executor.open(knobs.host, journal) as executor:
        assert [item.fate for item in executor.recovered.items] == [Fate.RESTORED]
    assert knobs.found() == found
    assert not journal.exists()


def test_a_full_journal_stops_writes_but_no_restoring(
    knobs: KnobTree, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be put on record is not written; the way back needs no record."""
    knobs.make("b")
    found = knobs.found()
    executor.apply([knobs.intent("a", Knob.QUOTA, 50_000)])

    def refuse(self: Journal, record: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "_append", refuse)
    for name in ("a", "b"):
        outcome = apply_one(executor, knobs.intent(name, Knob.QUOTA, 40_000))
        assert (outcome.result, outcome.errno) == (Result.REFUSED, errno.ENOSPC)
        assert outcome.kernel_text == "the journal cannot be written: No space left on device"
    assert quota_us(knobs, "a") == 50_000
    assert executor.restore().is_complete
    assert knobs.found() == found


def test_what_somebody_wrote_after_the_crash_stays_and_is_said(knobs: KnobTree, journal: Path) -> None:
    with Executor.open(knobs.host, journal) as executor:
        executor.apply([knobs.intent("a", Knob.QUOTA, 50_000)])
    quota(knobs, "a", 70_000)
    done = subprocess.run([SLACKWATER, "restore", "--journal", journal], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"foreign   {knobs.path('a')} quota: 70000 was written by somebody else and stays" in done.stdout
    assert quota_us(knobs, "a") == 70_000
    assert not journal.exists()


def test_killed_at_any_moment_every_knob_comes_back() -> None:
    """See tests/kernel/killed.py. SLACKWATER_KILL_ROUNDS: how often."""
    command = [sys.executable, "-m", "tests.kernel.killed", str(KILL_ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.stdout, done.stderr) == (f"{KILL_ROUNDS}\n", "")
