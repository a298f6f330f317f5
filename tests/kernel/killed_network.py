"""An executor of the network that is killed at any moment, again and again; each time all is given back.

    python -m tests.kernel.killed_network ROUNDS FOLDER

Prints a line per round in which something was left, and at last how many rounds left something on record.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from pathlib import Path

from agent.actuators.executor import Executor
from agent.actuators.htb import NetClass, Shares
from agent.actuators.network import Member, NetworkExecutor
from agent.control import Intent, Knob
from agent.host import Host, probe
from agent.network import restore_network
from agent.rtnetlink import Rtnetlink
from native.net import NetClassifier
from tests.kernel.namespaces import ifindex, inside, new_namespace, pair, run, state

ROOTS = (
    (),
    (
        "tc qdisc add dev va root handle 1: htb default 10",
        "tc class add dev va parent 1: classid 1:10 htb rate 10mbit ceil 20mbit",
        "tc qdisc add dev va parent 1:10 handle 5: tbf rate 5mbit burst 10k latency 10ms",
        "tc filter add dev va parent 1: protocol ip prio 3 u32 match ip dport 80 0xffff flowid 1:10",
    ),
)


def work(host: Host, journal: Path, began: int) -> None:
    """Take two devices and give them back, for ever; that it begins is said to this descriptor."""
    device, veth = ifindex("va"), ifindex("vc")
    with Executor.open(host, journal) as executor, Rtnetlink() as rtnl, NetClassifier(16) as classifier:
        network = NetworkExecutor(
            rtnl, executor.journal, classifier, time.monotonic_ns, shares=Shares(10, 50, 10), takeover=True
        )
        network.follow([Member(1001, "/be", NetClass.BE, 1001), Member(1002, "/box", NetClass.BE, None, (veth,))])
        os.write(began, b"!")
        while True:
            network.apply(
                [
                    Intent(device, "va", Knob.LINK, 125_000_000),
                    Intent(device, "va", Knob.BE_SEND, 12_500_000),
                    Intent(1001, "/be", Knob.SEND, 1_250_000),
                    Intent(1002, "/box", Knob.SEND, 1_250_000),
                    Intent(1002, "/box", Knob.RECEIVE, 1_250_000),
                ]
            )
            network.restore()


def found() -> str:
    """Without the state of the line, which follows a device by up to a second (net/core/link_watch.c)."""
    return "\n".join([state("va"), state("vc"), re.sub(r"<\S*>|\bstate \S+", "", run("ip -o link"))])


def one_round(host: Host, journal: Path, before: str, after_s: float) -> tuple[bool, str]:
    """Whether a device was on record, and what is otherwise than before."""
    begins, began = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            work(host, journal, began)
        finally:
            os._exit(1)
    os.close(began)
    os.read(begins, 1)
    time.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(begins)
    with Executor.open(host, journal) as executor:
        was_on_record = bool(executor.devices)
        done = restore_network(executor, host)
    bad = [f"{item.path}: {item.fate} {item.why or ''}" for item in done if item.fate not in ("restored", "as found")]
    now = found()
    return was_on_record, "\n".join(bad) if bad else "" if now == before else f"left:\n{now}\nbefore:\n{before}"


def main(rounds: int, folder: Path) -> None:
    host, on_record = probe(), 0
    with pair() as both, inside(both.near):
        inner = new_namespace()
        run("ip link add vc type veth peer name vd", f"ip link set vd netns /proc/{os.getpid()}/fd/{inner}")
        run("ip link set vc up")
        for number in range(rounds):
            if number in (0, rounds // 2):
                run(*ROOTS[int(number > 0)])
                before = found()
            was_on_record, wrong = one_round(host, folder / "journal", before, random.uniform(0.0, 1.0))
            on_record += was_on_record
            if wrong:
                print(f"round {number}: {wrong}")  # noqa: T201
        os.close(inner)
    print(f"on record in {on_record} of {rounds}")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
