"""Commands that tell what the agent decided and did. They read two files and never touch the kernel's settings."""

from __future__ import annotations

import difflib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.options import Since, config_option, json_option
from agent.cli.words import counted
from agent.config import load_config
from agent.errors import HostError, UsageError
from agent.history.entries import Entry, Kind
from agent.status import Life, Status, life_of, read_status
from agent.status_partitions import PartitionStatus, partition_of
from agent.units import NS_PER_S

if TYPE_CHECKING:
    from agent.cli.commands import World
    from agent.history.reader import HistoryReader, KnownGroup

WIDTH_DEFAULT = 120
NEAR_MAX = 3


@click.command()
@click.argument("group")
@click.option(
    "--since", "since_s", type=Since(), default="10m", show_default=True, help="How far back: 90s, 10m, 2h, 1d."
)
@config_option
@click.pass_obj
def explain(world: World, group: str, since_s: float, config_path: Path | None) -> None:
    """Tell what was decided for GROUP: what was seen, why, what was turned, what came of it.

    GROUP is a path, a glob that begins with "/", or a part of a path; or a network device.
    """
    from agent.cli.status_text import partition_now, settings_now
    from agent.cli.story import Story, heading

    now_ns = world.clock().wall_ns
    since_ns = now_ns - int(since_s * NS_PER_S)
    state, life = _status_and_life(world)
    with _open_history(config_path) as kept:
        groups = _find(kept.groups(), group, world)
        partitions = _partitions(groups, group, state) if state and life is Life.RUNNING else []
        own = _own_entries(kept, groups, since_ns, [each.id for each in partitions if each.id is not None])
        around = kept.entries(since_wall_ns=since_ns, kinds=(Kind.HOLD, Kind.AGENT))
    told = sorted({entry.id: entry for entry in (*own, *around)}.values(), key=lambda entry: entry.begin.wall_ns)
    paths = list(dict.fromkeys(item.path for item in groups))
    story = Story(told, now_ns, _width(), paths=paths, is_agent_alive=life is Life.RUNNING)
    lines = [heading(paths or [group], len(groups), since_ns, now_ns), story.summary()]
    if state and life is Life.RUNNING:
        ids = {item.id for item in groups} | {outcome.intent.group_id for entry in own for outcome in entry.outcomes}
        lines.append(f"now: {settings_now([knob for knob in state.knobs if knob.group_id in ids])}")
        lines += [f"in {partition_now(partition)}" for partition in partitions]
    click.echo("\n".join([*lines, "", *story.lines()]).rstrip())


@click.command()
@click.option("--since", "since_s", type=Since(), help="How far back: 90s, 10m, 2h, 1d.")
@click.option("--group", help='A path, a glob that begins with "/", or a part of a path.')
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="The newest so many.")
@json_option
@config_option
@click.pass_obj
def history(
    world: World, since_s: float | None, group: str | None, limit: int, as_json: bool, config_path: Path | None
) -> None:
    """List what was decided, held and told, the newest last."""
    now_ns = world.clock().wall_ns
    since_ns = 0 if since_s is None else now_ns - int(since_s * NS_PER_S)
    with _open_history(config_path) as kept:
        groups = _find(kept.groups(), group, world) if group is not None else None
        ids = None if groups is None else {group.id for group in groups}
        entries = kept.entries(since_wall_ns=since_ns, ids=ids, limit=limit)
    if as_json:
        from agent.cli.control_document import history_document

        click.echo(json.dumps(history_document(entries), allow_nan=False))
    else:
        from agent.cli.history_table import table

        click.echo("\n".join(table(entries, now_ns, _width())) if entries else "nothing was decided in this time")


@click.command()
@json_option
@click.pass_obj
def status(world: World, as_json: bool) -> None:
    """Say whether an agent runs, how far it may go, what holds it, and which settings it has changed.

    The exit status is 1 if none runs.
    """
    state, life = _status_and_life(world)
    if as_json:
        from agent.cli.control_document import status_document

        click.echo(json.dumps(status_document(state, life), allow_nan=False))
    else:
        from agent.cli.status_text import lines

        click.echo("\n".join(lines(state, life, world.clock(), world.status_path, _width())))
    sys.exit(int(life is not Life.RUNNING))


def _partitions(groups: list[KnownGroup], pattern: str, state: Status) -> list[PartitionStatus]:
    """Of the caches, that these groups lie in now."""
    found = [partition_of(path, state.partitions) for path in [item.path for item in groups] or [pattern]]
    return list(dict.fromkeys(partition for partition in found if partition))


def _own_entries(history: HistoryReader, groups: list[KnownGroup], since_ns: int, partitions: list[int]) -> list[Entry]:
    """Of these groups and of the partitions that they lie in, and how the settings were given back that had been turned
    for their sake: what is given back is so because nobody needs it any more, and is told of nobody.
    """
    turned = history.turned_for(groups)
    back = [
        entry
        for entry in history.entries(since_wall_ns=since_ns, ids={id for id, _ in turned}, kinds=(Kind.DECISION,))
        if entry.gives_back and any((o.intent.group_id, o.intent.knob) in turned for o in entry.outcomes)
    ]
    return history.entries(since_wall_ns=since_ns, ids={*(group.id for group in groups), *partitions}) + back


def _open_history(config_path: Path | None) -> HistoryReader:
    from agent.history.reader import HistoryReader

    config = load_config(config_path).history
    if not config.enabled and not Path(config.path).exists():
        raise HostError("no history: history.enabled is false", path=config.path)
    return HistoryReader(Path(config.path))


def _find(known: list[KnownGroup], pattern: str, world: World) -> list[KnownGroup]:
    """Those that the pattern means; none for a group that is there and of which nothing was ever told."""
    from agent.history.reader import matching

    if found := matching(known, pattern):
        return found
    cpu = world.host().cpu
    if cpu and pattern.startswith("/") and Path(cpu.mount + pattern).is_dir():
        return []
    paths = list(dict.fromkeys(group.path for group in known))
    names = {path.rpartition("/")[2]: path for path in paths} | {path: path for path in paths}
    near = dict.fromkeys(names[name] for name in difflib.get_close_matches(pattern, names, n=NEAR_MAX))
    hint = f"near are {', '.join(near)}" if near else f"it tells of {counted(len(paths), 'group')}"
    raise UsageError(f"no group in the history matches {pattern!r}; {hint}")


def _status_and_life(world: World) -> tuple[Status | None, Life]:
    state = read_status(world.status_path)
    return state, life_of(state, world.clock()) if state else Life.DEAD


def _width() -> int:
    return shutil.get_terminal_size((WIDTH_DEFAULT, 0)).columns
