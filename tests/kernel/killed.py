"""An agent that turns knobs at random is killed (SIGKILL) at a random moment; then somebody puts everything back.

`python -m tests.kernel.killed ROUNDS [SEED]`: by turns the next agent's start, `slackwater restore`, and both after one
another do so. A line per knob that is then not as it was; the last line is the number of rounds in which all were.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from agent.actuators import journal
from agent.actuators.executor import Executor
from agent.cli.commands import cli
from agent.control import CGROUP_KNOBS, Intent, Knob, KnobValue
from agent.host import Host
from tests.kernel.knob_files import KnobTree, knob_tree

GROUPS = ("", "be", "be/a", "be/b", "be/a/deep", "ls", "ls/pod")
OWNERS = {
    ("be", Knob.QUOTA): "160000",
    ("be/a", Knob.QUOTA): "90000",
    ("be/a", Knob.BURST): "90000",
    ("be/a/deep", Knob.QUOTA): "45000",
    ("be/b", Knob.WEIGHT): "333",
    ("ls", Knob.QUOTA): "123456",
    ("ls/pod", Knob.QUOTA): "100001",
    ("ls/pod", Knob.BURST): "777",
    ("ls/pod", Knob.CPUSET): "0",
}
LIFE_S_MAX = 0.04


def main(rounds: int, seed: int) -> int:
    chance = random.Random(seed)
    good = 0
    with knob_tree(os.getpid()) as tree, tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "journal"
        set_up(tree)
        found = tree.found()
        for number in range(rounds):
            kill_one(tree, record, chance)
            put_back(tree.host, record, number)
            now = tree.found()
            wrong = [f"{file}: {found[file]!r} -> {now[file]!r}" for file in found if now[file] != found[file]]
            good += not wrong
            for line in wrong:
                say(f"round {number}: {line}")
    say(str(good))
    return int(good != rounds)


def set_up(tree: KnobTree) -> None:
    for name in GROUPS[1:]:
        tree.make(name)
    for (name, knob), text in OWNERS.items():
        if tree.has(knob) and tree.file(name, knob).exists():
            tree.set(name, knob, text)


def kill_one(tree: KnobTree, record: Path, chance: random.Random) -> None:
    """Start an agent and kill it a random time after its first write, or before."""
    ready, tell = os.pipe()
    seed, life_s = chance.random(), chance.random() * LIFE_S_MAX
    pid = os.fork()
    if pid == 0:
        try:
            enforce(tree, record, random.Random(seed), tell)
        finally:
            os._exit(1)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(life_s)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the agent ended by itself"


def enforce(tree: KnobTree, record: Path, chance: random.Random, tell: int) -> None:
    """For ever. The journal is written anew every few writes, which is then part of the moments."""
    journal.RECORDS_MAX = 20
    intents = [tree.intent(name, knob, None) for name in GROUPS for knob in CGROUP_KNOBS if tree.has(knob)]
    with Executor.open(tree.host, record) as executor:
        os.write(tell, b"x")
        while True:
            some = chance.sample(intents, chance.randint(1, 4))
            executor.apply([Intent(i.group_id, i.path, i.knob, value_of(i.knob, chance)) for i in some])
            if chance.random() < 0.1:
                executor.watch()


def value_of(knob: Knob, chance: random.Random) -> KnobValue:
    match knob:
        case Knob.QUOTA:
            return chance.randint(1_000, 300_000)
        case Knob.BURST:
            return chance.randint(0, 100_000)
        case Knob.WEIGHT:
            return chance.randint(1, 10_000)
        case Knob.CPUSET:
            return chance.choice([(0,), (1,), (0, 1)])
    return chance.randint(0, 1)


def put_back(host: Host, record: Path, number: int) -> None:
    """0: the next agent's start; 1: the command; 2: a start that is killed in its turn, then the command."""
    if number % 3 == 2:
        pid = os.fork()
        if pid == 0:
            Executor.open(host, record)
            os._exit(0)
        time.sleep(random.random() * 0.003)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if number % 3:
        restore_by_command(record, number)
    else:
        Executor.open(host, record).close()


def restore_by_command(record: Path, number: int) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            cli.main(args=["restore", "--journal", str(record)], prog_name="slackwater")
    except SystemExit as end:
        if end.code:
            say(f"round {number}: restore says {said.getvalue()}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
