"""explain, history and status as commands: what they print, how they end."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli.commands import World, cli
from agent.control import Cause, Enforce, Hold, Knob, KnobState
from agent.history.entries import Entry, Moment
from agent.history.store import Store
from agent.host import Host, probe
from agent.status import HistoryStatus, SliStatus, StatusFile, knobs_that_differ
from agent.status_partitions import PartitionStatus
from tests.agent.made_up_entries import BATCH, WEB, at, decided, held, outcome

NOW_S = 3600.0


class MadeUpWorld(World):
    """Files below one folder, and a clock that stands still."""

    def __init__(self, root: Path) -> None:
        self.status_path = root / "status.json"
        self.root = root

    def clock(self) -> Moment:
        return at(NOW_S)

    def host(self) -> Host:
        return probe(self.root, lambda: 0)


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "160")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def world(tmp_path: Path) -> MadeUpWorld:
    return MadeUpWorld(tmp_path)


@pytest.fixture
def run(world: MadeUpWorld) -> Callable[..., Result]:
    config = world.root / "slackwater.toml"
    config.write_text(f'history.path = "{world.root}/history.db"')

    def run(command: str, *arguments: str) -> Result:
        rest = [] if command == "status" else ["--config", str(config)]
        return CliRunner().invoke(cli, [command, *arguments, *rest], prog_name="slackwater", obj=world)

    return run


def keep(world: MadeUpWorld, entries: Sequence[Entry]) -> None:
    """As the history of an agent that was stopped."""
    store = Store(world.root / "history.db", 1000, 1 << 26)
    store.write([dataclasses.replace(entry, id=id) for id, entry in enumerate(entries, store.next_id)])
    store.close()


def status(world: MadeUpWorld, second: float = NOW_S, **changes: Any) -> StatusFile:
    """Written by this process, so that it lives."""
    modes = {"burst": Enforce.ON, "suppress": Enforce.DRY_RUN}
    file = StatusFile(
        world.status_path, version="1.2", tick_s=1.0, enforce=Enforce.ON, controllers=modes, clock=lambda: at(second)
    )
    keys: dict[str, Any] = {"groups": 3, "holds": (), "knobs": (), "slis": (), "history": None, **changes}
    file.write(**keys)
    return file


TURNED = decided(NOW_S - 300, outcome(1, 0, knob=Knob.IDLE), inputs={"wait_ns": 4e6})
BACK = decided(
    NOW_S - 200, outcome(0, 1, knob=Knob.IDLE), gives_back=True, cause=None, group_id=None, path=None, reason="calm"
)


def test_explain_tells_the_story_of_a_group(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    """Also how it was given back, which is for nobody's sake any more."""
    keep(world, [TURNED, BACK, decided(NOW_S - 100, outcome(1, 0, knob=Knob.IDLE), group_id=7, path="/other")])
    status(world)
    result = run("explain", "web")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "/system.slice/web.service, the last 10min (08:50:00 to 09:00:00 UTC)",
        "1 step by suppress because of batch work on the CPU, 1 back",
        "now: all settings are as their owners set them",
        "",
        "08:55:00  suppress, because of batch work on the CPU: p20 4 ms, past 2 ms",
        "          /batch.slice: idle off -> on: applied",
        "          seen: wait 4ms",
        "08:56:40  suppress gives back: calm",
        "          /batch.slice: idle on -> off: applied, as it was before 08:55:00 (after 1min 40s)",
    ]


def test_explain_goes_back_as_far_as_it_is_asked(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    """A thing that was given back within that time counts also if it was turned before it."""
    keep(world, [TURNED, BACK])
    assert "08:55:00" in run("explain", "web", "--since", "301s").stdout
    short = run("explain", "web", "--since", "4m").stdout
    assert "08:55:00" not in short
    assert "gives back: calm" in short


def test_explain_says_why_nothing_was_done(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    """Also of a group of which nothing is known but that it is there."""
    (world.root / "proc/self").mkdir(parents=True)
    (world.root / "proc/self/mountinfo").write_text("1 1 0:1 / /cg rw - cgroup2 none rw\n")
    (world.root / "cg/calm").mkdir(parents=True)
    (world.root / "cg/cgroup.controllers").write_text("cpu")
    keep(world, [TURNED, dataclasses.replace(held(NOW_S - 60), lasts=False, end_wall_ns=at(NOW_S - 29).wall_ns)])
    result = run("explain", "/calm")
    assert result.stdout.splitlines()[1:] == [
        "nothing was decided for it; nothing allowed for 31s",
        "",
        "08:59:00  nothing was done for 31s, until 08:59:31, because the root disk is read-only",
    ]


UNITS = "allowed is a number with s, m, h or d, such as 90s, 10m, 2h, 1d."
RANGE = "is out of range; allowed is more than 0s, up to 3650d."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nginx"], "no group in the history matches 'nginx'; it tells of 2 groups"),
        (["wbe.service"], "no group in the history matches 'wbe.service'; near are /system.slice/web.service"),
        (["/batch.slcie"], "no group in the history matches '/batch.slcie'; near are /batch.slice"),
        (["/b\x1b"], r"no group in the history matches '/b\x1b'; it tells of 2 groups"),
        (["web", "--since", "10"], f"Invalid value for '--since': '10' has no unit; {UNITS}"),
        (["web", "--since", "soon"], f"Invalid value for '--since': 'soon' is not a length of time; {UNITS}"),
        (["web", "--since", "0s"], f"Invalid value for '--since': '0s' {RANGE}"),
        (["web", "--since", "9999d"], f"Invalid value for '--since': '9999d' {RANGE}"),
        ([], "Missing argument 'GROUP'."),
    ],
)
def test_bad_input_is_one_line(
    world: MadeUpWorld, run: Callable[..., Result], arguments: list[str], message: str
) -> None:
    keep(world, [TURNED])
    result = run("explain", *arguments)
    assert (result.exit_code, result.stderr, result.stdout) == (2, f"slackwater: {message}\n", "")


@pytest.mark.parametrize("command", [["explain", "web"], ["history"]])
def test_without_a_history_it_is_one_line(world: MadeUpWorld, run: Callable[..., Result], command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 1
    assert result.stderr == f"slackwater: {world.root}/history.db: no history yet: no agent has written one\n"


def test_history_lists_the_newest_last(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    keep(world, [decided(second, outcome(second), reason=f"number {second}") for second in range(60)])
    lines = run("history").stdout.splitlines()
    assert len(lines) == 1 + 50
    assert lines[-1].endswith("number 59")
    assert len(run("history", "--limit", "3").stdout.splitlines()) == 1 + 3
    assert len(run("history", "--since", "3550s").stdout.splitlines()) == 1 + 10
    assert run("history", "--since", "1s").stdout == "nothing was decided in this time\n"


def test_history_of_a_group(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    keep(world, [TURNED, decided(1, outcome(5, group=(7, "/other")), group_id=7, path="/other", reason="another")])
    assert "another" in run("history").stdout
    assert "another" not in run("history", "--group", "/batch.slice").stdout
    assert run("history", "--group", "nginx").exit_code == 2


def test_history_as_json_has_everything(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    entry = dataclasses.replace(TURNED, inputs={"wait_ns": 4e6, "lost_pct": float("nan")})
    keep(world, [entry, held(NOW_S - 5)])
    document = json.loads(run("history", "--json").stdout)
    assert document["schema"] == 1
    decision, hold = document["entries"]
    assert decision["time"] == "2027-01-15T08:55:00.000+00:00"
    assert (decision["group"], decision["group_id"], decision["cause"]) == (WEB[1], WEB[0], "batch work on the CPU")
    assert decision["inputs"] == {"wait_ns": 4e6, "lost_pct": None}
    assert decision["outcomes"] == [
        {
            "group_id": BATCH[0],
            "group": BATCH[1],
            "knob": "idle",
            "value": 1,
            "result": "applied",
            "before": 0,
            "after": 1,
            "errno": None,
            "kernel_text": None,
        }
    ]
    assert (hold["kind"], hold["controller"], hold["outcomes"]) == ("hold", None, [])


def test_status_tells_of_a_running_agent(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    knobs = knobs_that_differ(
        {(WEB[0], Knob.QUOTA): KnobState(50_000, 60_000), (BATCH[0], Knob.IDLE): KnobState(0, 0, True)},
        dict([WEB, BATCH]),
        {},
    )
    slis = (SliStatus("api", "/a", 250e6, 312e6), SliStatus("db", "/b", 1e6, None, "answers 404"))
    file = status(world)
    file.decided(decision := _decision(), (outcome(1),), WEB[1])
    file.write(
        groups=3,
        holds=(Hold("burst", "full"),),
        knobs=knobs,
        slis=slis,
        history=HistoryStatus("/h", 7, 2, "disk is full"),
    )
    assert decision.reason
    result = run("status")
    assert result.exit_code == 0
    first, *rest = result.stdout.splitlines()
    assert first.startswith(f"slackwater 1.2 runs: pid {os.getpid()}, since ")
    assert first.endswith(", watches 3 groups")
    assert rest == [
        "enforce on: it acts (burst on and suppress dry-run)",
        "burst does nothing, for 0s now, because full",
        "1 setting changed:",
        "  /batch.slice: idle is left alone, because others write it",
        "  /system.slice/web.service: quota is 60ms, its owner's is 50ms",
        "sli api: 312ms, target 250ms: past it",
        "sli db: not known (answers 404), target 1ms",
        "history: 7 entries since the start, 2 lost, not written now: disk is full",
        "last decisions:",
        "  09:00:00  suppress /system.slice/web.service: batch work on the CPU: p20 4 ms, past 2 ms (applied)",
    ]


BE_PARTITION = PartitionStatus(-4, "BE", ("/batch.slice",), (0, 30), 20, False, 3.25e6, 6.7e8, None)


def test_status_tells_of_partitions_of_the_caches(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    own = PartitionStatus(7, "/db", ("/db",), (60, 100), 2000, True, None, None, None)
    rest = PartitionStatus(None, "(rest)", (), None, None, False, 1e6, 0.0, None)
    knobs = knobs_that_differ(
        {(-4, Knob.CACHE_WAYS): KnobState(None, (0, 30))}, {}, {Knob.CACHE_WAYS: {-4: "partition BE"}}
    )
    status(world).write(groups=3, holds=(), knobs=knobs, slis=(), history=None, partitions=(BE_PARTITION, own, rest))
    assert run("status").stdout.splitlines()[3:] == [
        "1 setting changed:",
        "  partition BE: cache_ways is 0-30 %, its owner's is no partition",
        "partition BE: 0-30 % of the ways, 20 % of the bandwidth; 3.1MiB in the cache, 639MiB/s of memory; 1 group",
        "partition /db: 60-100 % of the ways, 2000 MiB/s of the bandwidth",
        "partition (rest): 977KiB in the cache, 0/s of memory",
    ]


def test_explain_tells_of_the_partition_that_a_group_lies_in(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    """Of what was done to it, too, also to a group below the one that makes it up."""
    step = outcome((0, 30), (0, 50), group=(-4, "partition BE"), knob=Knob.CACHE_WAYS)
    job = decided(NOW_S - 400, outcome(1, 0, group=(23, "/batch.slice/job"), knob=Knob.IDLE), group_id=23)
    keep(world, [job, decided(NOW_S - 300, step, controller="cache", cause=Cause.CACHE)])
    status(world).write(groups=3, holds=(), knobs=(), slis=(), history=None, partitions=(BE_PARTITION,))
    lines = run("explain", "/batch.slice/job").stdout.splitlines()
    assert any(line.startswith("in partition BE: 0-30 % of the ways") for line in lines)
    assert "          partition BE: cache_ways 0-50 % -> 0-30 %: applied" in lines


def _decision() -> Any:
    from tests.agent.made_up_entries import decision

    return decision(outcome(1))


def test_status_of_an_agent_that_has_changed_nothing(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    status(world)
    assert run("status").stdout.splitlines()[2:] == [
        "nothing holds it",
        "0 settings changed: all are as their owners set them",
    ]


def test_without_an_agent_status_says_so_and_ends_with_1(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    result = run("status")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == f"no agent is running ({world.root}/status.json does not exist)\n"


def test_of_a_killed_agent_status_says_what_it_left_behind(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    status(world, NOW_S - 60, knobs=knobs_that_differ({(1, Knob.QUOTA): KnobState(None, 60_000)}, {1: "/a"}, {}))
    document = json.loads(world.status_path.read_text())
    document["process"]["start_ticks"] -= 1
    world.status_path.write_text(json.dumps(document))
    result = run("status")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"no agent is running: the last one, pid {os.getpid()}, was killed or crashed after 08:59:00 UTC (1min ago)",
        "it had changed 1 setting; `slackwater restore` puts back what is still so, and so does the next start:",
        "  /a: quota is 60ms, its owner's is no limit",
    ]


def test_of_an_agent_that_hangs_status_says_so(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    status(world, NOW_S - 60)
    result = run("status")
    assert result.exit_code == 1
    assert f"hangs: pid {os.getpid()} is alive, but has said nothing for 1min" in result.stdout


def test_status_as_json(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    assert json.loads(run("status", "--json").stdout) == {"schema": 1, "agent": "none", "status": None}
    status(world)
    document = json.loads(run("status", "--json").stdout)
    assert document["agent"] == "running"
    assert document["status"]["process"]["pid"] == os.getpid()
    assert document["status"]["enforce"] == "on"


def test_a_damaged_status_is_one_line(world: MadeUpWorld, run: Callable[..., Result]) -> None:
    world.status_path.write_text("{")
    result = run("status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
