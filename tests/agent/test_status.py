"""agent.status: whole or not at all, and whether its writer lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.config_control import SliConfig
from agent.control import Enforce, Hold, Knob, KnobState, SliValue
from agent.errors import HostError
from agent.history.entries import Moment, clock_now
from agent.status import (
    DECISIONS_MAX,
    Life,
    Status,
    StatusFile,
    knobs_that_differ,
    life_of,
    own_age_ns,
    own_process,
    process_start_ticks,
    read_status,
    sli_statuses,
)
from tests.agent.made_up_entries import BATCH, WEB, at, decision, outcome

ROOT = Path(__file__).parents[2]


class Clock:
    """Shows the time that it was given."""

    def __init__(self) -> None:
        self.now = at(0)

    def __call__(self) -> Moment:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path, clock: Clock) -> StatusFile:
    return status_file(tmp_path / "run" / "status.json", clock)


def status_file(path: Path, clock: Any = clock_now) -> StatusFile:
    modes = {"burst": Enforce.ON, "suppress": Enforce.DRY_RUN}
    return StatusFile(path, version="1.2", tick_s=1.0, enforce=Enforce.ON, controllers=modes, clock=clock)


def write(file: StatusFile, *holds: Hold, **changes: Any) -> None:
    keys: dict[str, Any] = {"groups": 3, "knobs": (), "slis": (), "history": None, **changes}
    file.write(holds=holds, **keys)


def read(tmp_path: Path) -> Status:
    status = read_status(tmp_path / "run" / "status.json")
    assert status
    return status


def test_what_was_written_is_read(tmp_path: Path, file: StatusFile) -> None:
    write(file)
    status = read(tmp_path)
    assert (status.version, status.tick_s, status.groups, status.enforce) == ("1.2", 1.0, 3, Enforce.ON)
    assert status.controllers == {"burst": Enforce.ON, "suppress": Enforce.DRY_RUN}
    assert status.process == own_process()
    assert (status.written_wall_ns, status.written_monotonic_ns) == (at(0).wall_ns, 0)
    assert (status.holds, status.knobs, status.decisions) == ((), (), ())


def test_the_agent_is_as_old_as_its_process(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it opened this file later, as after a new configuration."""
    of_init = msgspec.structs.replace(own_process(), start_ticks=process_start_ticks(1))
    age_s = float(subprocess.run(["ps", "-o", "etimes=", "1"], capture_output=True, text=True).stdout)
    assert own_age_ns(of_init) / 1e9 == pytest.approx(age_s, abs=5)
    monkeypatch.setattr("agent.status.own_age_ns", lambda process: at(50).monotonic_ns)
    clock.now = at(60)
    write(status_file(tmp_path / "run" / "status.json", clock))
    assert read(tmp_path).started_wall_ns == at(10).wall_ns


def test_a_hold_is_known_since_it_began_whatever_its_figures(tmp_path: Path, file: StatusFile, clock: Clock) -> None:
    for second in range(3):
        clock.now = at(second)
        write(file, Hold(None, f"{second} % lost"), *([Hold("burst", "settles")] if second else []))
    lost, settles = read(tmp_path).holds
    assert (lost.controller, lost.reason, lost.since_wall_ns) == (None, "2 % lost", at(0).wall_ns)
    assert (settles.controller, settles.since_wall_ns) == ("burst", at(1).wall_ns)
    write(file)
    write(file, Hold(None, "2 % lost"))
    assert read(tmp_path).holds[0].since_wall_ns == at(2).wall_ns


def test_the_last_decisions_are_kept(tmp_path: Path, file: StatusFile, clock: Clock) -> None:
    for second in range(DECISIONS_MAX + 2):
        clock.now = at(second)
        file.decided(decision(outcome(1)), (outcome(1), outcome(2)), WEB[1])
    write(file)
    decisions = read(tmp_path).decisions
    assert [item.wall_ns for item in decisions] == [at(second).wall_ns for second in range(2, DECISIONS_MAX + 2)]
    assert (decisions[0].path, decisions[0].results) == (WEB[1], ("applied",))


def test_settings_that_differ_from_their_owners_are_told() -> None:
    """And those that are left alone; not those that are as they were."""
    knobs: Mapping[tuple[int, Knob], KnobState] = {
        (WEB[0], Knob.QUOTA): KnobState(50_000, 60_000),
        (WEB[0], Knob.BURST): KnobState(0, 0),
        (BATCH[0], Knob.IDLE): KnobState(0, 0, is_foreign=True),
        (99, Knob.CPUSET): KnobState((), (0, 1)),
    }
    told = knobs_that_differ(knobs, dict([WEB, BATCH]), {})
    assert [(item.path, item.knob, item.base, item.current, item.is_foreign) for item in told] == [
        (None, Knob.CPUSET, (), (0, 1), False),
        (BATCH[1], Knob.IDLE, 0, 0, True),
        (WEB[1], Knob.QUOTA, 50_000, 60_000, False),
    ]


def test_settings_survive_the_file(tmp_path: Path, file: StatusFile) -> None:
    knobs = knobs_that_differ(
        {(1, Knob.CPUSET): KnobState((), (0, 1)), (1, Knob.QUOTA): KnobState(None, 5)}, {1: "/a"}, {}
    )
    write(file, knobs=knobs)
    assert read(tmp_path).knobs == knobs


def test_an_sli_without_a_figure_says_why() -> None:
    slis = [
        msgspec.convert({"name": name, "url": "http://x", "metric": "m", "target": "2ms", "group": "/a"}, SliConfig)
        for name in ("known", "failing", "new")
    ]

    class Source:
        def values(self, now_ns: int) -> Mapping[str, SliValue]:
            return {"known": SliValue("known", "/a", 3e6, 2e6, now_ns)}

        def problems(self) -> Mapping[str, str]:
            return {"failing": "answers 404"}

    told = sli_statuses(slis, Source())
    assert [(item.name, item.value_ns, item.target_ns, item.error) for item in told] == [
        ("known", 3e6, 2e6, None),
        ("failing", None, 2e6, "answers 404"),
        ("new", None, 2e6, None),
    ]
    assert [item.value_ns for item in sli_statuses(slis, None)] == [None, None, None]


def test_a_reader_never_sees_half_a_status(tmp_path: Path) -> None:
    path = tmp_path / "run" / "status.json"
    file = status_file(path)
    knobs = knobs_that_differ({(id, Knob.QUOTA): KnobState(1, id) for id in range(2, 2000)}, {}, {})
    write(file, knobs=knobs)
    is_done = threading.Event()

    def write_on() -> None:
        while not is_done.is_set():
            write(file, knobs=knobs[: len(knobs) // 2])
            write(file, knobs=knobs)

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        lengths = {len(read(tmp_path).knobs) for _ in range(200)}
    finally:
        is_done.set()
        writer.join()
    assert lengths <= {len(knobs), len(knobs) // 2}


def test_a_folder_that_refuses_is_no_exception(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    file = status_file(tmp_path / "file" / "status.json", clock)
    write(file)
    assert file.error == f"{tmp_path}/file/status.json: File exists"
    file.close()


def test_after_closing_there_is_none(tmp_path: Path, file: StatusFile) -> None:
    write(file)
    file.close()
    assert read_status(tmp_path / "run" / "status.json") is None
    file.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}'])
def test_what_is_no_status_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(content)
    with pytest.raises(HostError, match=r"status\.json: not a status of this version of slackwater"):
        read_status(path)


ANOTHER = """
import sys, time
from pathlib import Path
from tests.agent.test_status import status_file, write
write(status_file(Path(sys.argv[1])))
print(flush=True)
time.sleep(60)
"""


def test_a_killed_agent_is_told_from_a_silent_one(tmp_path: Path) -> None:
    """At once; and one whose pid has passed to another process as well."""
    path = tmp_path / "run" / "status.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", ANOTHER, str(path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    status = read(tmp_path)
    written = Moment(status.written_wall_ns, status.written_monotonic_ns)
    later = Moment(written.wall_ns, written.monotonic_ns + 4_000_000_000)
    assert life_of(status, written) is Life.RUNNING
    assert life_of(status, later) is Life.SILENT
    reused = msgspec.structs.replace(status, process=msgspec.structs.replace(status.process, start_ticks=1))
    assert life_of(reused, written) is Life.DEAD
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert life_of(status, written) is Life.DEAD  # a zombie, too
    process.communicate()
    assert life_of(status, written) is Life.DEAD


def test_another_boot_is_dead_and_another_pid_namespace_is_judged_by_age(tmp_path: Path, file: StatusFile) -> None:
    write(file)
    status = read(tmp_path)

    def changed(**changes: Any) -> Status:
        return msgspec.structs.replace(status, process=msgspec.structs.replace(status.process, **changes))

    assert life_of(changed(boot_id="x"), at(0)) is Life.DEAD
    elsewhere = changed(pid_namespace="pid:[1]", pid=2**22, start_ticks=1)
    assert life_of(elsewhere, at(2.9)) is Life.RUNNING
    assert life_of(elsewhere, at(3.1)) is Life.DEAD


@pytest.mark.parametrize(
    ("stat", "ticks"),
    [
        (b"42 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 777 1 1", 777),
        (b"42 (a) Z 1 1 1 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 777 1 1", None),
        (b"42 (a) S 1", None),
        (b"", None),
    ],
)
def test_the_start_of_a_process_is_read_behind_its_name(tmp_path: Path, stat: bytes, ticks: int | None) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42/stat").write_bytes(stat)
    assert process_start_ticks(42, tmp_path) == ticks
    assert process_start_ticks(43, tmp_path) is None
