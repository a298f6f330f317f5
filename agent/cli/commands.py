"""What the command `slackwater` can do. What it prints on standard output is the answer; errors are one line on
standard error.

Exit status: 0 done, also a `run` that was stopped; 1 this host cannot do it (agent/errors.py); 2 usage or
configuration; 130 interrupted. Modules that cost memory or time to import are imported by the command that uses them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
from msgspec.structs import replace

from agent import __version__, paths
from agent.cli import control_commands
from agent.cli.options import Seconds, config_option, json_option
from agent.config import Config, load_config
from agent.config_explain import one_line, reference
from agent.control import Enforce
from agent.errors import ConfigError, HostError, SlackwaterError, UsageError
from agent.history.entries import Moment, clock_now
from agent.host import Host, probe
from agent.status import Life, Status, life_of, read_status

if TYPE_CHECKING:
    from agent.records import Profile, Tick
    from native.probe import ProbeFeatures

    OnTick = Callable[[Tick, Profile], None]


class RunningAgent(Protocol):
    """What the commands use of agent.loop.Agent."""

    @property
    def features(self) -> ProbeFeatures | None: ...
    @property
    def probe_error(self) -> OSError | None: ...
    def add_reader(self, fd: int, callback: Callable[[], None]) -> None: ...
    def run(self, stop_after_ticks: int | None = None) -> None: ...
    def stop(self) -> None: ...


class World:
    """What the commands need of the outside; tests give another one as the context's object."""

    def __init__(self) -> None:
        self.journal_path = paths.journal_path()
        self.status_path = paths.status_path()

    def clock(self) -> Moment:
        return clock_now()

    def host(self) -> Host:
        return probe()

    def agent(
        self,
        config: Config,
        host: Host,
        on_tick: OnTick | None,
        *,
        load: Callable[[], Config] | None = None,
        quick_first_tick: bool = False,
    ) -> AbstractContextManager[RunningAgent]:
        from agent.loop import Agent

        return Agent(config, host, on_tick=on_tick, load=load, quick_first_tick=quick_first_tick)


class OneLineErrors(click.Group):
    """Every error is one line on standard error and an exit status, never a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            sys.exit(super().main(*args, **{**extra, "standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as err:
            click.echo(err.format_message(), err=True)
            sys.exit(err.exit_code)
        except click.ClickException as err:
            _fail(err.format_message(), UsageError.exit_status)
        except SlackwaterError as err:
            _fail(str(err), err.exit_status)
        except click.Abort:
            raise KeyboardInterrupt from None
        except OSError as err:
            _fail(str(err), SlackwaterError.exit_status)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _abort_on_interrupt():
            return super().make_context(*args, **extra)

    def invoke(self, context: click.Context) -> Any:
        with _abort_on_interrupt():
            return super().invoke(context)


@contextlib.contextmanager
def _abort_on_interrupt() -> Iterator[None]:
    """As it is click would print an empty line."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.Abort from None


def _fail(message: str, exit_status: int) -> None:
    click.echo(f"slackwater: {one_line(' '.join(message.split()))}", err=True)
    sys.exit(exit_status)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="slackwater %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Who waits for the CPU on this host, how long, because of whom, and who is throttled."""
    context.obj = context.obj or World()


@cli.command()
@config_option
@click.pass_obj
def run(world: World, config_path: Path | None) -> None:
    """Run the agent: with a live table on a terminal, as a systemd service quietly, else with a log line per tick."""
    host = world.host()

    def load() -> Config:
        return load_config(config_path, own_cgroup=host.own_cgroup)

    config = load()
    if _on_terminal():
        _live(world, config, sort="wait", filter_text="")
        return
    from agent.cli.log import log_line

    # A service manager stamps the lines itself, and shows our status instead of one for each tick.
    managed = bool(os.environ.get("NOTIFY_SOCKET"))
    form = "%(levelname)s %(message)s" if managed else "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=form)
    log = logging.getLogger("slackwater")
    on_tick = None if managed else lambda tick, profile: log.info(log_line(tick, profile))
    with world.agent(config, host, on_tick, load=load) as agent:
        agent.run()


@cli.command()
@click.option("--interval", "interval_s", type=Seconds(0.1, 60), metavar="S", help="Seconds between tables.")
@click.option("--sort", type=click.Choice(["wait", "cpu", "throttle", "name"]), default="wait", show_default=True)
@click.option("--filter", "filter_text", default="", metavar="GLOB", help='On the path; without a leading "/": a part.')
@config_option
@click.pass_obj
def top(world: World, interval_s: float | None, sort: str, filter_text: str, config_path: Path | None) -> None:
    """A live table. Keys: w, c, t, n sort; / filters; q quits."""
    if not _on_terminal():
        raise UsageError("top needs a terminal; for a pipe or a file there is: slackwater snapshot")
    config = load_config(config_path)
    _live(world, _measuring_only(config, tick_s=interval_s or config.agent.tick_s), sort, filter_text)


@cli.command()
@click.option(
    "--seconds",
    type=Seconds(0.1, 86_400),
    default=5,
    show_default=True,
    metavar="N",
    help="How long to measure.",
)
@json_option
@config_option
@click.pass_obj
def snapshot(world: World, seconds: float, as_json: bool, config_path: Path | None) -> None:
    """Measure once and print a table or a JSON document."""
    config = _measuring_only(load_config(config_path), tick_s=seconds, slow_every_ticks=1)
    measured: list[tuple[Tick, Profile]] = []
    host = world.host()
    with world.agent(config, host, lambda tick, profile: measured.append((tick, profile))) as agent:
        agent.run(stop_after_ticks=1)
    if not measured:
        raise click.Abort
    if as_json:
        from agent.cli.document import document

        click.echo(json.dumps(document(*measured[-1], host), allow_nan=False))
    else:
        import shutil

        from agent.cli.table import View, table

        width = shutil.get_terminal_size((160, 0)).columns
        click.echo("\n".join(table(*measured[-1], View(width, height=None))).rstrip())


@cli.command()
@json_option
@config_option
@click.pass_obj
def doctor(world: World, as_json: bool, config_path: Path | None) -> None:
    """Say what this host offers, what is degraded and why, and how to mend it."""
    from agent.cli.doctor import cannot_work, document, findings, lines

    host = world.host()
    config = _measuring_only(load_config(config_path))
    features, why, refusal = None, None, None
    logging.getLogger().addHandler(logging.NullHandler())  # what the agent warns of is a finding
    try:
        with world.agent(config, host, None) as agent:
            features, why = agent.features, agent.probe_error
    except HostError as err:
        refusal = str(err)
    from agent.cache_host import look
    from agent.network_host import lacking
    from agent.samples.cpi import refusal as counters_refusal

    error = why.strerror if why else None
    found = findings(host, features, error, refusal, lacking(), counters_refusal(), look())
    click.echo(json.dumps(document(found)) if as_json else "\n".join(lines(found)))
    sys.exit(int(cannot_work(found)))


cli.add_command(control_commands.explain)
cli.add_command(control_commands.history)
cli.add_command(control_commands.status)


@cli.command()
@json_option
@click.option("--journal", type=click.Path(path_type=Path), help="Default: /run/slackwater/journal.")
@click.option("--after-service", is_flag=True, help="For ExecStopPost=: not after a clean end with on_exit = keep.")
@config_option
@click.pass_obj
def restore(world: World, as_json: bool, journal: Path | None, after_service: bool, config_path: Path | None) -> None:
    """Put back, as it was found, what an agent has changed that is not running any more."""
    if after_service and os.environ.get("SERVICE_RESULT") == "success":
        with contextlib.suppress(ConfigError):  # then nobody has said keep
            if load_config(config_path).enforce.on_exit == "keep":
                return
    from agent.actuators.executor import Executor
    from agent.actuators.report import Report
    from agent.cli.restore import document, lines
    from agent.recovery import recovered

    report = Report()
    journal = journal or world.journal_path
    if journal.exists():
        host = world.host()
        with Executor.open(host, journal) as executor:
            report = recovered(executor, host)
    click.echo(json.dumps(document(report)) if as_json else "\n".join(lines(report)))
    sys.exit(int(not report.is_complete))


@cli.group("config")
def config_group() -> None:
    """The configuration file."""


@config_group.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Read FILE as the agent does and say what is wrong with it."""
    load_config(file)
    click.echo(f"{one_line(str(file))}: ok")


@config_group.command("reference")
def config_reference() -> None:
    """Print all keys with their defaults, ranges and meanings as a Markdown table."""
    click.echo(reference(Config), nl=False)


def _on_terminal() -> bool:
    """Whether somebody looks on and can press keys. A stream that was closed is None (sys.stdin)."""
    return bool(sys.stdout and sys.stdin and sys.stdout.isatty() and sys.stdin.isatty())


def _measuring_only(config: Config, **changes: float | int) -> Config:
    """For a command that only looks: no /metrics, nothing is enforced, and `changes` to the section [agent]."""
    return replace(
        config,
        agent=replace(config.agent, **changes),
        metrics=replace(config.metrics, enabled=False),
        enforce=replace(config.enforce, mode=Enforce.OFF),
    )


def _live(world: World, config: Config, sort: str, filter_text: str) -> None:
    from agent.cli.table import SORT_KEYS
    from agent.cli.top import Keys, LastMessage, LiveTable

    messages = LastMessage(logging.WARNING)
    logging.basicConfig(handlers=[messages])
    keys = Keys(sort=next(key for key in SORT_KEYS if key == sort), filter=filter_text)
    view = LiveTable(sys.stdout, sys.stdin.fileno(), keys, messages, lambda: _status_of_who_enforces(world))
    with world.agent(config, world.host(), view.on_tick, quick_first_tick=True) as agent:
        view.stop = agent.stop
        agent.add_reader(view.keys_fd, view.on_keys)
        with view.screen():
            agent.run()


def _status_of_who_enforces(world: World) -> Status | None:
    """None: nobody does, or it cannot be read."""
    with contextlib.suppress(HostError):
        status = read_status(world.status_path)
        return status if status and life_of(status, world.clock()) is Life.RUNNING else None
    return None
