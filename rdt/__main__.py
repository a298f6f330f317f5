"""resctrl at a shell: what it offers, its groups, their caches, bandwidth, tasks and counters."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rdt import info, monitor, report, settings, tasks
from rdt.errors import Invalid, RdtError
from rdt.group import Group, Tree


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done; 1: the machine or the kernel says no; 2: the command line is wrong."""
    options = _parser().parse_args(arguments)
    command: Callable[[Tree, argparse.Namespace], None] = options.command
    try:
        command(Tree(options.root), options)
    except RdtError as error:
        sys.stderr.write(f"python -m rdt: {error}\n")
        return 2 if isinstance(error, Invalid) else 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--root", type=Path, default=info.DEFAULT_ROOT, help="where resctrl is mounted (%(default)s)")
    common.add_argument("--json", action="store_true", help="for programs")
    parser = argparse.ArgumentParser(prog="python -m rdt", description=__doc__)
    actions = parser.add_subparsers(required=True, metavar="COMMAND")

    def action(name: str, command: Callable[[Tree, argparse.Namespace], None], about: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = actions.add_parser(name, parents=[common], help=about, description=about)
        added.set_defaults(command=command)
        return added

    about = "its name; / is the default group, G/mon_groups/M one with counters only"
    action("info", _info, "what this machine's resctrl offers")
    action("groups", _groups, "all groups")
    action("show", _show, "one group").add_argument("group", nargs="?", default="/", help=about)
    change = action("set", _set, "give a group a part of a cache, or bandwidth")
    change.add_argument("--create", action="store_true", help="make the group if it is not there")
    change.add_argument("group", metavar="GROUP", help=about)
    change.add_argument("settings", nargs="+", metavar="SETTING", help=settings.FORMS.replace("%", "%%"))
    assign = action("assign", _assign, "move processes into a group, with all their threads and descendants")
    assign.add_argument("--cgroup", type=Path, metavar="FOLDER", help="all tasks of this cgroup and those below it")
    assign.add_argument("group", metavar="GROUP", help=about)
    assign.add_argument("pids", nargs="*", type=int, metavar="PID")
    watch = action("monitor", _monitor, "occupancy and bandwidth, again and again")
    watch.add_argument(
        "--interval", type=_positive, default=1.0, metavar="SECONDS", help="between readings (%(default)s)"
    )
    watch.add_argument("--count", type=_positive, default=math.inf, metavar="N", help="end after so many (never)")
    watch.add_argument("groups", nargs="*", metavar="GROUP", help="default: all")
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text}: allowed is a number above 0")
    return number


def _info(tree: Tree, options: argparse.Namespace) -> None:
    found = info.read(tree.root)
    _put(options, report.info_document(found), lambda: report.info_table(found))


def _groups(tree: Tree, options: argparse.Namespace) -> None:
    documents = [report.group_document(group) for group in tree.groups()]
    _put(options, documents, lambda: report.groups_table(documents))


def _show(tree: Tree, options: argparse.Namespace) -> None:
    offered = info.read(tree.root)
    document = report.group_document(_group(tree, options.group))
    _put(options, document, lambda: report.group_table(document, offered))


def _set(tree: Tree, options: argparse.Namespace) -> None:
    offered = info.read(tree.root)
    wanted = settings.parse(options.settings, offered, tree.group().schemata())
    group = _group(tree, options.group)
    if options.create and not group.path.exists():
        tree.create(group.name)
    group.write(wanted, offered)
    _show(tree, options)


def _assign(tree: Tree, options: argparse.Namespace) -> None:
    if not options.pids and options.cgroup is None:
        raise Invalid("nothing to move", allowed="PID or --cgroup FOLDER")
    if options.cgroup is not None and not options.cgroup.is_dir():
        raise Invalid("no such cgroup", value=str(options.cgroup))
    for pid in options.pids:
        if not (tasks.PROC / str(pid)).exists():
            raise Invalid("no such process", value=str(pid))

    def listed() -> set[int]:
        of_cgroup = tasks.of_cgroup(options.cgroup) if options.cgroup else set()
        return of_cgroup | tasks.of_processes(options.pids)

    moved = _group(tree, options.group).assign(listed)
    document = {"group": options.group, "moved": moved.moved, "gone": moved.gone}
    _put(options, document, lambda: f"{moved.moved} tasks moved, {moved.gone} had ended\n")


def _monitor(tree: Tree, options: argparse.Namespace) -> None:
    if info.read(tree.root).monitoring is None:
        raise RdtError("this machine has no counters", path=str(tree.root))
    before: dict[str, tuple[float, dict[int, monitor.Counters]]] = {}
    reading = 0
    while reading < options.count:
        if reading:
            time.sleep(options.interval)
        groups = [_group(tree, name) for name in options.groups] or tree.groups()
        documents = []
        for group in groups:
            now_s, found = time.monotonic(), monitor.read(group)
            then_s, earlier = before.get(group.name, (now_s, {}))
            rates = report.rates(earlier, found, now_s - then_s) if earlier else {}
            documents.append(report.counters_document(group.name, found, rates))
            before[group.name] = now_s, found
        _put(options, documents, partial(report.counters_table, documents))
        reading += 1


def _group(tree: Tree, name: str) -> Group:
    return tree.group(name.strip("/"))


def _put(options: argparse.Namespace, document: Any, text: Callable[[], str]) -> None:
    sys.stdout.write(f"{json.dumps(document)}\n" if options.json else text())
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
