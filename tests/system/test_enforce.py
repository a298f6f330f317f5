"""The agent as a user starts it, acting on groups of this test's own; each test has a run folder of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.needs import needs
from tests.kernel.workloads import Group, own_tree
from tests.system.command import Running, config_file, running, slackwater, wait_for

pytestmark = [needs("root", "bpf", "cgroup:cpu"), pytest.mark.slow]

QUOTA_US = 20_000


@pytest.fixture
def web() -> Iterator[Group]:
    """A group of class LS with a quota, as the configuration has it."""
    with own_tree(os.getpid(), heavy=False) as tree:
        group = tree.child("web")
        group.set_quota(QUOTA_US)
        yield group


def enforcing(directory: Path, web: Group, mode: str = "on", more: str = "") -> Path:
    """Static burst on `web`: one write as soon as the agent has seen it."""
    path = f"/{web.path.parent.name}/{web.path.name}"
    return config_file(
        directory,
        f"""
metrics.enabled = false
history.path = "{directory}/history.db"
[[class]]
match = "{path}"
class = "LS"
[burst]
policy = "static"
[enforce]
mode = "{mode}"
{more}
""",
    )


def burst_us(group: Group) -> int:
    return int((group.path / ("cpu.max.burst" if group.version == 2 else "cpu.cfs_burst_us")).read_text())


def wait_until_acted(group: Group) -> None:
    wait_for(lambda: burst_us(group) == QUOTA_US or None, "the burst")


def ticks(command: Running, count: int) -> None:
    """So many lines of its log, one per tick."""
    begin = len(command.lines)
    wait_for(lambda: len(command.lines) >= begin + count or None, "ticks")


def test_by_default_nothing_is_changed(tmp_path: Path, web: Group, run_folder: Path) -> None:
    with running("run", "--config", enforcing(tmp_path, web, "off")) as command:
        ticks(command, 3)
        assert burst_us(web) == 0
    assert not run_folder.exists()
    assert not (tmp_path / "history.db").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_changed_is_put_back_at_the_end(tmp_path: Path, web: Group, number: signal.Signals) -> None:
    with running("run", "--config", enforcing(tmp_path, web)) as command:
        wait_until_acted(web)
        command.stop(number)
        assert command.popen.returncode == 0
    assert burst_us(web) == 0
    assert slackwater("restore").stdout == "nothing to restore\n"


def test_what_a_killed_agent_left_is_put_back_by_restore(tmp_path: Path, web: Group) -> None:
    with running("run", "--config", enforcing(tmp_path, web)) as command:
        wait_until_acted(web)
        command.stop(signal.SIGKILL)
    assert burst_us(web) == QUOTA_US
    done = slackwater("restore")
    assert done.returncode == 0, done.stderr
    assert f"burst: {QUOTA_US} -> 0" in done.stdout
    assert burst_us(web) == 0


def test_what_a_killed_agent_left_is_put_back_by_the_next(tmp_path: Path, web: Group) -> None:
    with running("run", "--config", enforcing(tmp_path, web)) as command:
        wait_until_acted(web)
        command.stop(signal.SIGKILL)
    with running("run", "--config", enforcing(tmp_path, web, more='[suppress]\nenforce = "off"')) as command:
        command.wait_for_line("restored")
        command.stop(signal.SIGTERM)
    assert burst_us(web) == 0


def test_kept_settings_stay_until_they_are_restored(
    tmp_path: Path, web: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by systemd's ExecStopPost after a clean end, but by whoever asks for it."""
    config = enforcing(tmp_path, web, more='on_exit = "keep"')
    with running("run", "--config", config) as command:
        wait_until_acted(web)
        command.stop(signal.SIGTERM)
    monkeypatch.setenv("SERVICE_RESULT", "success")
    assert slackwater("restore", "--after-service", "--config", config).returncode == 0
    assert burst_us(web) == QUOTA_US
    monkeypatch.setenv("SERVICE_RESULT", "signal")
    assert slackwater("restore", "--after-service", "--config", config).returncode == 0
    assert burst_us(web) == 0


def test_dry_run_says_what_it_would_do(tmp_path: Path, web: Group) -> None:
    config = enforcing(tmp_path, web, "dry-run")
    with running("run", "--config", config) as command:
        wait_for(lambda: "web" in slackwater("history", "--config", config).stdout or None, "an entry")
        assert burst_us(web) == 0
        command.stop(signal.SIGTERM)
    entries = json.loads(slackwater("history", "--json", "--config", config).stdout)
    assert "dry-run" in json.dumps(entries)


def test_there_is_one_writer(tmp_path: Path, web: Group) -> None:
    """A second agent, and a restore, are refused with one line that names the first."""
    config = enforcing(tmp_path, web)
    with running("run", "--config", config) as command:
        wait_until_acted(web)
        for words in (("run", "--config", str(config)), ("restore",)):
            done = slackwater(*words)
            assert done.returncode == 1
            assert str(command.pid) in done.stderr
            assert done.stderr.count("\n") == 1
        command.stop(signal.SIGTERM)
    assert burst_us(web) == 0


def test_an_owner_who_writes_keeps_what_he_wrote(tmp_path: Path, web: Group) -> None:
    """His value is the one that is put back."""
    with running("run", "--config", enforcing(tmp_path, web)) as command:
        wait_until_acted(web)
        (web.path / ("cpu.max.burst" if web.version == 2 else "cpu.cfs_burst_us")).write_text("7000")
        ticks(command, 3)
        command.stop(signal.SIGTERM)
    assert burst_us(web) == 7000


def test_an_agent_that_would_suppress_itself_does_not_start(tmp_path: Path) -> None:
    config = config_file(tmp_path, '[enforce]\nmode = "on"\n[[class]]\nmatch = "/**"\nclass = "BE"\n')
    done = slackwater("run", "--config", config)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "class[0].match" in done.stderr
