import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli.commands import World, cli
from agent.config import Config
from agent.errors import HostError
from agent.host import Hierarchy, Host, probe
from agent.profiles.profile import Profiler
from agent.records import Profile, Tick
from tests.agent.ticks import groups_of, tick_of

ROOT = Path(__file__).parents[3]


class MadeUpAgent:
    """Gives one tick, or none, and remembers how it was run."""

    features = None
    probe_error = OSError(1, "load: Operation not permitted")

    def __init__(self, on_tick: Callable[[Tick, Profile], None] | None, ticks: int) -> None:
        self._on_tick = on_tick
        self._ticks = ticks

    def run(self, stop_after_ticks: int | None = None) -> None:
        tick = tick_of(groups_of({1: "/web"}), p99_ns=[5e6])
        for _ in range(self._ticks):
            assert self._on_tick
            self._on_tick(tick, Profiler(1).update(tick))

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...


class MadeUpWorld(World):
    def __init__(self, root: Path, *, ticks: int = 1, refusal: HostError | None = None) -> None:
        self.config: Config | None = None
        self._root = root
        self._ticks = ticks
        self._refusal = refusal

    def host(self) -> Host:
        return probe(self._root, lambda: 0)

    def agent(self, config: Config, host: Host, *args: Any, **kwargs: Any) -> AbstractContextManager[MadeUpAgent]:
        self.config = config
        return self._agent(*args)

    @contextmanager
    def _agent(self, on_tick: Callable[[Tick, Profile], None] | None) -> Iterator[MadeUpAgent]:
        if self._refusal:
            raise self._refusal
        yield MadeUpAgent(on_tick, self._ticks)


@pytest.fixture
def world(tmp_path: Path) -> MadeUpWorld:
    return MadeUpWorld(tmp_path)


def invoke(world: World | None, *arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="slackwater", obj=world)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'."),
        (["snapshot", "--seconds", "0"], "Invalid value for '--seconds': 0.0 is not in the range 0.1<=x<=86400."),
        (["snapshot", "--seconds", "1s"], "Invalid value for '--seconds': '1s' is not a valid float range."),
        (["snapshot", "--seconds", "nan"], "Invalid value for '--seconds': 'nan' is not a number."),
        (["top", "--interval", "nan"], "Invalid value for '--interval': 'nan' is not a number."),
        (["snapshot", "--config", "/no/such.toml"], "/no/such.toml: no such file"),
        (["run", "--config", "/"], "/: cannot be read: Is a directory"),
        (["config", "check", "/no/such\n.toml"], r"/no/such\n.toml: no such file"),
        (["top"], "top needs a terminal; for a pipe or a file there is: slackwater snapshot"),
    ],
)
def test_usage_and_configuration_errors_are_one_line_and_exit_2(
    world: MadeUpWorld, arguments: list[str], message: str
) -> None:
    result = invoke(world, *arguments)
    assert (result.exit_code, result.stderr, result.stdout) == (2, f"slackwater: {message}\n", "")


@pytest.mark.parametrize("arguments", [["run"], ["snapshot"]])
def test_a_host_error_is_one_line_and_exit_1(tmp_path: Path, arguments: list[str]) -> None:
    refusing = MadeUpWorld(tmp_path, refusal=HostError("Permission denied", path="/sys", errno=13))
    result = invoke(refusing, *arguments)
    assert (result.exit_code, result.stderr) == (1, "slackwater: /sys: Permission denied [EACCES]\n")


def test_a_file_that_the_system_refuses_is_one_line_and_exit_1(tmp_path: Path) -> None:
    class Refusing(MadeUpWorld):
        def host(self) -> Host:
            raise PermissionError(13, "Permission denied", "/proc/x")

    result = invoke(Refusing(tmp_path), "snapshot")
    assert (result.exit_code, result.stderr) == (1, "slackwater: [Errno 13] Permission denied: '/proc/x'\n")


def test_snapshot_prints_the_document(world: MadeUpWorld) -> None:
    result = invoke(world, "snapshot", "--seconds", "120", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (document["schema"], document["groups"][0]["path"]) == (1, "/web")


def test_a_snapshot_is_one_tick_of_its_length_without_metrics(world: MadeUpWorld, tmp_path: Path) -> None:
    """Also one longer than the configuration allows; the rest of the configuration holds."""
    file = tmp_path / "f.toml"
    file.write_text("agent.max_groups = 99")
    assert invoke(world, "snapshot", "--seconds", "120", "--config", str(file)).exit_code == 0
    assert world.config
    assert (world.config.agent.tick_s, world.config.agent.window_ticks) == (120, 1)
    assert world.config.agent.slow_every_ticks == 1  # there is no second turn
    assert (world.config.metrics.enabled, world.config.agent.max_groups) == (False, 99)


def test_snapshot_prints_a_table(world: MadeUpWorld) -> None:
    result = invoke(world, "snapshot")
    assert "/web" in result.stdout
    assert "5ms" in result.stdout


def test_a_snapshot_without_a_tick_was_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):  # agent/cli/main.py says it in a line
        invoke(MadeUpWorld(tmp_path, ticks=0), "snapshot")


def test_run_without_a_terminal_logs_each_tick_and_keeps_metrics(
    world: MadeUpWorld, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "slackwater"):
        assert invoke(world, "run").exit_code == 0
    assert "worst=/web wait_p99=5ms" in caplog.text
    assert world.config
    assert world.config.metrics.enabled


def test_doctor_exits_1_if_the_agent_cannot_work_at_all(world: MadeUpWorld) -> None:
    result = invoke(world, "doctor")
    assert result.exit_code == 1
    assert "missing   groups: no cgroup hierarchy with the cpu controller is mounted" in result.stdout


def test_doctor_names_what_keeps_the_agent_from_starting(tmp_path: Path) -> None:
    class Refusing(MadeUpWorld):
        def host(self) -> Host:
            return replace(super().host(), cpu=Hierarchy("/sys/fs/cgroup", "/", 2))

    result = invoke(Refusing(tmp_path, refusal=HostError("Permission denied", path="/sys/x")), "doctor")
    assert result.exit_code == 1
    assert "missing   the agent: /sys/x: Permission denied" in result.stdout


def test_doctor_exits_0_and_tells_why_there_is_no_bpf(tmp_path: Path) -> None:
    class WithGroups(MadeUpWorld):
        def host(self) -> Host:
            return replace(super().host(), cpu=Hierarchy("/sys/fs/cgroup", "/", 2))

    result = invoke(WithGroups(tmp_path), "doctor", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["works"]) == (0, True)
    assert any("load: Operation not permitted" in finding["why"] for finding in document["findings"])


def test_config_check_says_ok_or_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text("agent.tick_s = 2")
    assert invoke(None, "config", "check", str(file)).stdout == f"{file}: ok\n"
    file.write_text("agent.tick_s = 0")
    result = invoke(None, "config", "check", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"slackwater: {file}: agent.tick_s = 0: allowed is 0.1 to 60 s\n"


def test_config_reference_is_the_documented_table() -> None:
    assert invoke(None, "config", "reference").stdout in (ROOT / "docs/configuration.md").read_text()


def test_no_arguments_print_the_commands_and_exit_2() -> None:
    result = invoke(None)
    assert result.exit_code == 2
    assert "snapshot" in result.stderr


def module(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def test_the_version_is_printed() -> None:
    from agent import __version__

    assert module("-m", "agent", "--version").stdout == f"slackwater {__version__}\n"


def test_the_command_line_imports_no_probe_and_no_server_until_they_are_used() -> None:
    """Start-up time and memory; rich is not used at all."""
    code = "import agent.cli.commands, sys; print({'native', 'rich', 'waitress', 'prometheus_client'} & {*sys.modules})"
    assert module("-c", code).stdout == "set()\n"


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        command = [sys.executable, "-m", "agent", "config", "reference"]
        result = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in result.stderr
