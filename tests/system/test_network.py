"""The agent as a user starts it, shaping a link of this test's own: services first, batch work within bounds.

near, where the agent is  --va--vm1-- wire, 200 Mbit/s and a deep queue --vm2--vb--  far
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.namespaces import Pair, cgroup2_tree, inside, new_namespace, run, state
from tests.kernel.needs import cpu_hierarchy, needs
from tests.system.command import Running, config_file, running, slackwater, wait_for

pytestmark = [needs("root", "bpf", "cgroup:cpu", "cgroup2", "net"), pytest.mark.slow]

WIRE_MBIT, LINK_MBIT = 200, 190
TICK_S = 0.5
RESPONSE_BYTES, PER_S, REQUESTS = 25_000, 100, 400
EXCHANGE = str(Path(__file__).parents[1] / "kernel" / "exchange.py")


@dataclass
class Link:
    pair: Pair
    tree: Path
    folder: Path
    name: str

    def config(self, more: str = "") -> Path:
        return config_file(
            self.folder,
            f"""
metrics.enabled = false
history.path = "{self.folder}/history.db"
agent.tick_s = {TICK_S}
agent.window_s = 5
[[class]]
match = "/{self.name}/be"
class = "BE"
[[class]]
match = "/{self.name}/ls"
class = "LS"
[enforce]
mode = "on"
[suppress]
enforce = "off"
[burst]
enforce = "off"
[network]
enforce = "on"
link_rate = "{LINK_MBIT} Mbit/s"
{more}
""",
        )

    def be_mbit(self) -> int | None:
        """The ceil of batch work, as tc says; None: the device is not shaped."""
        for line in run("tc class show dev va").splitlines():
            if line.startswith("class htb 51ac:4 "):
                return int(line.split(" ceil ")[1].split("Mbit")[0])
        return None

    def transfer(self, group: str, seconds: float, port: int, more: str = "") -> subprocess.Popen[bytes]:
        command = f"chrt -f 20 iperf3 -J -t {seconds} -p {port} -c {self.pair.far_address} {more}"
        return self.pair.start(command, self.tree / group)

    def p99_us(self) -> float:
        """Of a service in ls that answers the far end."""
        server = self.pair.start(
            f"chrt -f 25 {sys.executable} {EXCHANGE} serve 8000 {RESPONSE_BYTES}", self.tree / "ls"
        )
        wait_for(lambda: ":8000" in run("ss -ltnH") or None, "the service")
        words = f"{self.pair.address} 8000 {RESPONSE_BYTES} {REQUESTS} {PER_S}"
        client = self.pair.start(f"chrt -f 25 {sys.executable} {EXCHANGE} ask {words}", at_far=True)
        out, err = client.communicate(timeout=120)
        assert client.returncode == 0, err
        server.kill()
        server.wait()
        latencies_us: list[float] = json.loads(out)
        return statistics.quantiles(latencies_us, n=100)[98]


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    found = cpu_hierarchy()
    assert found
    name = f"slackwater-link-{os.getpid()}"
    near, wire, far = new_namespace(), new_namespace(), new_namespace()
    here = f"/proc/{os.getpid()}/fd"
    both = Pair(near, far)
    with inside(wire):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        run("ip link add vm1 type veth peer name va", "ip link add vm2 type veth peer name vb")
        run(f"ip link set va netns {here}/{near}", f"ip link set vb netns {here}/{far}")
        run("ip addr add 10.77.0.254/24 dev vm1", "ip addr add 10.78.0.254/24 dev vm2")
        run("ip link set vm1 up", "ip link set vm2 up")
        # Hardly a bucket: on a link a response takes its time also when nothing else is on it.
        run(f"tc qdisc add dev vm2 root tbf rate {WIRE_MBIT}mbit burst 4k limit 4m")
    with inside(near):
        run("ip link set lo up", "ip addr add 10.77.0.1/24 dev va", "ip link set va up")
        run("ip route add default via 10.77.0.254")
    with inside(far):
        run("ip link set lo up", "ip addr add 10.78.0.2/24 dev vb", "ip link set vb up")
        run("ip route add default via 10.78.0.254")
    both.far_address = "10.78.0.2"
    cpu = found[0] / name
    with cgroup2_tree(name) as tree:
        for each in ("be", "ls"):
            (tree / each).mkdir()
            (cpu / each).mkdir(parents=True, exist_ok=True)
        try:
            with inside(near):
                yield Link(both, tree, tmp_path, name)
        finally:
            both.close()
            os.close(wire)
            if found[1] == 1:
                for folder in (cpu / "be", cpu / "ls", cpu):
                    folder.rmdir()


def wait_until_shaped(link: Link) -> None:
    wait_for(lambda: link.be_mbit(), "the device is shaped")


def stop(command: Running) -> None:
    command.stop(signal.SIGTERM)
    assert command.popen.returncode == 0, command.lines


def test_a_service_is_quicker_beside_a_transfer_of_batch_work_that_is_bounded(link: Link) -> None:
    before = state("va")
    link.pair.serve(5201)
    alone_us = link.p99_us()
    transfer = link.transfer("be", 12, 5201)
    time.sleep(1)
    unprotected_us = link.p99_us()
    transfer.kill()
    transfer.wait()
    with running("run", "--config", link.config()) as agent:
        wait_until_shaped(link)
        link.pair.serve(5202)
        transfer = link.transfer("be", 12, 5202)
        time.sleep(1)
        protected_us = link.p99_us()
        transfer.kill()
        stop(agent)
    print(f"p99 alone {alone_us:.0f} us, unprotected {unprotected_us:.0f}, protected {protected_us:.0f}")  # noqa: T201
    assert protected_us < unprotected_us
    assert state("va") == before


def test_batch_work_gives_way_and_comes_back(link: Link) -> None:
    link.pair.serve(5201)
    with running("run", "--config", link.config()) as agent:
        wait_until_shaped(link)
        assert link.be_mbit() == LINK_MBIT * 40 // 100
        transfer = link.transfer("ls", 6, 5201)
        begin_s = wait_for(lambda: time.monotonic() if ls_sends(link) else None, "services send")
        wait_for(lambda: link.be_mbit() == LINK_MBIT * 10 // 100 or None, "the low bound")
        down_s = time.monotonic() - begin_s
        transfer.wait()
        begin_s = time.monotonic()
        wait_for(lambda: link.be_mbit() == LINK_MBIT * 40 // 100 or None, "the high bound")
        up_s = time.monotonic() - begin_s
        print(f"down after {down_s:.2f} s, up after {up_s:.2f} s, a tick has {TICK_S} s")  # noqa: T201
        told = slackwater("history", "--config", link.folder / "slackwater.toml").stdout
        stop(agent)
    assert "19 Mbit/s" in told


def ls_sends(link: Link) -> bool:
    """More than the watermark, in 50 ms."""

    def sent() -> int:
        text = run("tc -s class show dev va").split("class htb 51ac:3 ")[1]
        return int(text.split("Sent ")[1].split(" ")[0])

    before = sent()
    time.sleep(0.05)
    return (sent() - before) / 0.05 > LINK_MBIT * 125_000 * 0.8


def test_a_killed_agent_leaves_the_link_to_restore(link: Link) -> None:
    before = state("va")
    with running("run", "--config", link.config()) as agent:
        wait_until_shaped(link)
        agent.stop(signal.SIGKILL)
    assert "51ac" in state("va")
    done = slackwater("restore")
    assert done.returncode == 0, done.stderr
    assert "va link" in done.stdout
    assert state("va") == before


def test_a_device_that_appears_is_shaped_and_one_that_is_renamed_stays_so(link: Link) -> None:
    with running("run", "--config", link.config()) as agent:
        wait_until_shaped(link)
        run("ip link add va2 type veth peer name vb2", "ip addr add 10.99.0.1/24 dev va2", "ip link set va2 up")
        run("ip link set vb2 up", "ip route add default via 10.99.0.2 metric 50")
        wait_for(lambda: "51ac" in run("tc qdisc show dev va2") or None, "the new device is shaped")
        run("ip link set va2 name va3")
        time.sleep(3 * TICK_S)
        assert run("tc qdisc show dev va3").count("51ac:") == 1
        run("ip link del va3")
        time.sleep(3 * TICK_S)
        assert "Traceback" not in "".join(agent.lines)
        stop(agent)
    assert "51ac" not in state("va")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ('devices = ["eth77"]', 'network.devices[0] = "eth77": no such device'),
        ('[[limit]]\nmatch = "/be"\nsend = "20 Gbit/s"', "limit[0].send"),
        ('[[limit]]\nmatch = "/be"\nsend = "100"', "has no unit"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(link: Link, more: str, line: str) -> None:
    done = slackwater("run", "--config", link.config(more))
    assert done.returncode == 2
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert "51ac" not in state("va")
