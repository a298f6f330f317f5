"""A device is taken away between two of our messages: nothing is raised, and nothing of ours is left."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.actuators.htb import NetClass, Shares
from agent.actuators.journal import Journal
from agent.actuators.network import Member, NetworkExecutor
from agent.control import Intent, Knob, Result
from agent.rtnetlink import Rtnetlink
from native.net import NetClassifier
from tests.kernel.namespaces import ifindex, inside_a_new_one, new_namespace, run
from tests.kernel.needs import needs

pytestmark = [needs("root", "bpf", "net"), pytest.mark.slow]

STEP = int(os.environ.get("SLACKWATER_GONE_STEP", "11" if "SLACKWATER_MACHINE" in os.environ else "4"))
"""1: between any two."""
FOREIGN = (
    "tc qdisc add dev va root handle 1: htb default 10",
    "tc class add dev va parent 1: classid 1:10 htb rate 10mbit ceil 20mbit",
    "tc filter add dev va parent 1: protocol ip prio 3 u32 match ip dport 80 0xffff flowid 1:10",
)


class Saboteur:
    """Lets so many messages pass, and then does something before the next."""

    def __init__(self, rtnl: Rtnetlink, passes: int, act: Callable[[], object]) -> None:
        self.passes, self._act = passes, act
        self._netlink = rtnl._netlink
        self._ask = self._netlink.ask
        self._netlink.ask = self  # type: ignore[assignment]

    def __call__(self, *words: Any) -> tuple[bytes, ...]:
        self.passes -= 1
        if self.passes == 0:
            self._act()
        return self._ask(*words)


@contextmanager
def two_devices() -> Iterator[None]:
    """va, which somebody has shaped, and vc, which leads to a container."""
    inner = new_namespace()
    run("ip link add va type veth peer name vb", "ip link set va up", "ip link set vb up", *FOREIGN)
    run("ip link add vc type veth peer name vd", f"ip link set vd netns /proc/{os.getpid()}/fd/{inner}")
    run("ip link set vc up")
    yield
    os.close(inner)


def one_round(folder: Path, victim: str, passes: int) -> bool:
    """Whether it went so far. Fails when something is raised, left, or still held."""
    with inside_a_new_one(), two_devices(), Rtnetlink() as rtnl, NetClassifier(16) as classifier:
        device, veth = ifindex("va"), ifindex("vc")
        journal = Journal(folder / f"journal-{passes}", "boot", ())
        executor = NetworkExecutor(
            rtnl, journal, classifier, time.monotonic_ns, shares=Shares(10, 50, 10), takeover=True
        )
        executor.follow([Member(1, "/be", NetClass.BE, 1), Member(2, "/box", NetClass.BE, None, (veth,))])
        saboteur = Saboteur(rtnl, passes, lambda: run(f"ip link del {victim}"))
        intents = [
            Intent(device, "va", Knob.LINK, 125_000_000),
            Intent(device, "va", Knob.BE_SEND, 12_500_000),
            Intent(1, "/be", Knob.SEND, 1_250_000),
            Intent(2, "/box", Knob.SEND, 1_250_000),
            Intent(2, "/box", Knob.RECEIVE, 1_250_000),
        ]
        outcomes = executor.apply(intents)
        executor.watch()
        assert {outcome.result for outcome in outcomes} <= {Result.APPLIED, Result.GONE, Result.REFUSED}, outcomes
        executor.restore()
        executor.watch()
        assert (executor.names, executor.knobs) == ({}, {}), outcomes
        links = run("ip -o link")
        assert "slackwater" not in links
        assert "slw" not in links
        other = "vc" if victim == "va" else "va"
        assert "51ac" not in run(f"tc qdisc show dev {other}") + run(f"tc filter show dev {other} ingress")
        journal.close()
        assert not (folder / f"journal-{passes}").exists()
    return saboteur.passes <= 0


@pytest.mark.parametrize("victim", ["va", "vc"])
def test_a_device_that_goes_between_two_messages_is_gone(tmp_path: Path, victim: str) -> None:
    passes = next(passes for passes in itertools.count(1, STEP) if not one_round(tmp_path, victim, passes))
    print(f"{victim} taken away before every {STEP}. of {passes - STEP} messages")  # noqa: T201
    assert passes > 50
