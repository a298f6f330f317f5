"""An executor of resctrl that is killed (SIGKILL) at any moment, again and again; each time somebody gives all back.

    python -m tests.kernel.killed_cache ROUNDS FOLDER [SEED]

In half of the rounds it mounts resctrl itself; in the others resctrl is somebody's, with groups and tasks of his. By
turns the next agent, `slackwater restore`, and both after one another give back. Prints a line per thing that is then
not as it was, and at last how many rounds had something on record.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from agent.actuators.cache import CacheExecutor, Member, Partition
from agent.actuators.executor import Executor
from agent.control import Intent, Knob, KnobValue, partition_id
from agent.host import Host, probe
from agent.records import Qos
from agent.recovery import recovered
from rdt.info import read
from rdt.layout import Range
from tests.kernel.killed import restore_by_command, say
from tests.kernel.resctrl import ROOT, make, mounted, place, state, write
from tests.kernel.workloads import Group, own_tree

LS, BE = partition_id(Qos.LS), partition_id(Qos.BE)
LIFE_S_MAX = 0.5


def main(rounds: int, folder: Path, seed: int) -> None:
    chance, on_record = random.Random(seed), 0
    with own_tree(os.getpid()) as tree, processes(tree) as pids:
        for begin, end in ((0, rounds // 2), (rounds // 2, rounds)):
            with owners(pids) if begin else contextlib.nullcontext():
                before = found(pids)
                for number in range(begin, end):
                    on_record += one_round(folder / "journal", tree, chance, number)
                    now = found(pids)
                    if now != before:
                        say(f"round {number}: left:\n{now}\nbefore:\n{before}")
    say(f"on record in {on_record} of {rounds}")


@contextlib.contextmanager
def processes(tree: Group) -> Iterator[list[int]]:
    """In ls, be, be, be, the first of which begets children."""
    names = ("ls", "be")
    groups = {name: tree.child(name) for name in names}
    commands = ["while :; do sleep 0.02; done", *["exec sleep 10000"] * 3]
    started = [subprocess.Popen(["sh", "-c", command], start_new_session=True) for command in commands]
    try:
        for number, process in enumerate(started):
            (groups[names[number > 0]].path / "cgroup.procs").write_text(str(process.pid))
        yield [process.pid for process in started]
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def owners(pids: list[int]) -> Iterator[None]:
    """Somebody else's resctrl: he has narrowed the default group, made groups, and put processes of ours into them."""
    with mounted() as root:
        line, cache = next(iter(read(root).caches.items()))
        assert make(root / "theirs") is None
        assert write(root / "theirs" / "schemata", f"{line}:0={cache.cbm_mask & 0xF:x}") is None
        assert write(root / "schemata", f"{line}:0={cache.cbm_mask & ~3:x}") is None
        assert write(root / "theirs" / "tasks", str(pids[2])) is None
        if (root / "mon_groups").is_dir():
            assert make(root / "mon_groups" / "watched") is None
            assert write(root / "mon_groups" / "watched" / "tasks", str(pids[3])) is None
        yield


def found(pids: list[int]) -> str:
    places = [place(pid) for pid in pids] if (ROOT / "tasks").exists() else []
    return f"{state()}\n{places}"


def one_round(journal: Path, tree: Group, chance: random.Random, number: int) -> bool:
    """Whether something was on record."""
    seed, life_s = chance.random(), chance.random() * LIFE_S_MAX
    host = probe()
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work(host, journal, tree, random.Random(seed), tell)
        finally:
            os._exit(1)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(life_s)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the agent ended by itself"
    on_record = len(journal.read_bytes().splitlines()) > 1
    put_back(host, journal, chance, number)
    return on_record


def work(host: Host, journal: Path, tree: Group, chance: random.Random, tell: int) -> None:
    """For ever."""
    members = [Member(id, name, id, tree.path / name) for id, name in ((LS, "ls"), (BE, "be"))]
    options = ("cdp",) if " cdp_l3 " in Path("/proc/cpuinfo").read_text() and chance.random() < 0.5 else ()
    with Executor.open(host, journal) as executor:
        cache = CacheExecutor(executor.journal, time.monotonic_ns, mount_options=options, may_mount=True)
        cache.foreign_writes_max = 10**9
        os.write(tell, b"x")
        while True:
            cache.partitions = {
                LS: Partition(LS, "LS", Range(50, 100, exclusive=chance.random() < 0.7)),
                BE: Partition(BE, "BE", Range(0, 50)),
            }
            cache.follow(members)
            some = [Intent(id, "", knob, value_of(id, knob, chance)) for id in (LS, BE) for knob in KNOBS]
            cache.apply(chance.sample(some, chance.randint(1, 4)))
            cache.watch()
            if chance.random() < 0.2:
                cache.restore()


KNOBS = (Knob.CACHE_WAYS, Knob.MEMORY_BANDWIDTH)


def value_of(id: int, knob: Knob, chance: random.Random) -> KnobValue:
    if chance.random() < 0.2:
        return None
    if knob is Knob.MEMORY_BANDWIDTH:
        return chance.randint(10, 100)
    return (chance.randint(50, 80), 100) if id == LS else (0, chance.randint(10, 50))


def put_back(host: Host, journal: Path, chance: random.Random, number: int) -> None:
    """0: the next agent's start; 1: the command; 2: a start that is killed in its turn, then the command."""
    if number % 3 == 2:
        pid = os.fork()
        if pid == 0:
            with Executor.open(host, journal) as executor:
                recovered(executor, host)
            os._exit(0)
        time.sleep(chance.random() * LIFE_S_MAX / 5)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if number % 3:
        restore_by_command(journal, number)
    else:
        with Executor.open(host, journal) as executor:
            report = recovered(executor, host)
        for item in report.items:
            if item.why:
                say(f"round {number}: {item.path}: {item.fate} {item.why}")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
