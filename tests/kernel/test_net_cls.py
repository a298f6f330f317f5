"""Groups of cgroup v1 without cgroup2 are told apart by numbers in net_cls, which are taken back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.actuators.htb import NetClass, Shares
from agent.actuators.journal import Journal
from agent.actuators.net_cls import NetCls, give_back, hierarchy
from agent.actuators.network import Member, NetworkExecutor
from agent.control import Intent, Knob, Result
from agent.host import Hierarchy, probe
from agent.records import Group, Qos
from agent.rtnetlink import Rtnetlink
from native.net import NetClassifier
from tests.kernel.namespaces import ifindex, inside, pair
from tests.kernel.needs import needs

pytestmark = [needs("root", "bpf", "net", "net_cls"), pytest.mark.slow]

FILE = "net_cls.classid"
SENDER = """
import os, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
say = lambda: sock.sendto(b"x" * 1000, ("10.77.0.2", 9))
print(flush=True)
sys.stdin.readline()
{body}
"""


@dataclass
class Numbered:
    """Groups be and ls with directories in net_cls, on a device that is shaped."""

    place: Hierarchy
    top: Path
    numbers: NetCls
    executor: NetworkExecutor
    classifier: NetClassifier

    def folder(self, name: str) -> Path:
        folder = self.top / name
        folder.mkdir(exist_ok=True)
        return folder

    def follow(self) -> None:
        groups = [Group(id, f"/{self.top.name}/{name}", Qos.BE) for id, name in ((1, "be"), (2, "ls"))]
        found = self.numbers.numbers(groups)
        classes = {1: NetClass.BE, 2: NetClass.LS}
        self.executor.follow(Member(each.id, each.path, classes[each.id], found.get(each.id)) for each in groups)

    def sender(self, name: str, body: str) -> subprocess.Popen[bytes]:
        """In the group, and has made its socket."""
        words = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', f"{self.folder(name)}/cgroup.procs"]
        words += [sys.executable, "-c", SENDER.format(body=body)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        return process

    def packets(self, name: str) -> int:
        counts = self.classifier.counts().groups
        return counts[int((self.folder(name) / FILE).read_text())][1]


def ended(process: subprocess.Popen[bytes]) -> None:
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 0


@pytest.fixture
def numbered(tmp_path: Path) -> Iterator[Numbered]:
    place = hierarchy(probe())
    assert place
    top = Path(place.mount) / f"slackwater-{os.getpid()}"
    top.mkdir()
    with pair() as both, inside(both.near), Rtnetlink() as rtnl, NetClassifier(16, use_net_cls=True) as classifier:
        journal = Journal(tmp_path / "journal", "boot", ())
        executor = NetworkExecutor(
            rtnl, journal, classifier, time.monotonic_ns, shares=Shares(10, 50, 10), takeover=False
        )
        (outcome,) = executor.apply([Intent(ifindex("va"), "va", Knob.LINK, 12_500_000)])
        assert outcome.result is Result.APPLIED
        yield Numbered(place, top, NetCls(place), executor, classifier)
        executor.restore()
        journal.close()
    for folder, _, _ in os.walk(top, topdown=False):
        os.rmdir(folder)


def test_groups_are_told_apart(numbered: Numbered) -> None:
    """Also a socket that was there before, and those of forked processes."""
    before = [
        numbered.sender("be", "pid = os.fork()\nfor _ in range(10): say()\nif pid: os.wait()"),
        numbered.sender("ls", "for _ in range(5): say()"),
    ]
    numbered.follow()
    for process in before:
        ended(process)
    assert (numbered.packets("be"), numbered.packets("ls")) == (20, 5)


def test_a_group_that_nobody_knows_yet_is_in_the_class_of_the_one_above(numbered: Numbered) -> None:
    numbered.folder("be")
    numbered.follow()
    ended(numbered.sender("be/young", "for _ in range(10): say()"))
    assert numbered.packets("be") == 10


def test_a_number_of_its_owner_stays_and_counts(numbered: Numbered) -> None:
    file = numbered.folder("be") / FILE
    file.write_text(str(0x100001))
    numbered.follow()
    ended(numbered.sender("be", "for _ in range(10): say()"))
    assert numbered.packets("be") == 10
    assert give_back(numbered.place) == ()
    assert int(file.read_text()) == 0x100001


def test_all_numbers_go_back_also_those_that_were_inherited(numbered: Numbered) -> None:
    """By whoever comes next: nothing of them is on record."""
    numbered.folder("be")
    numbered.folder("ls")
    numbered.follow()
    numbered.folder("be/young")
    done = give_back(numbered.place)
    assert sorted(item.path.removeprefix(f"/{numbered.top.name}") for item in done) == ["/be", "/be/young", "/ls"]
    assert {int(file.read_text()) for file in numbered.top.rglob(FILE)} == {0}
