"""A link of a test's own that the agent shapes: services and batch work send by it.

near, where the agent is  --va--vm1-- wire, 200 Mbit/s and a deep queue --vm2--vb--  far
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.namespaces import Pair, cgroup2_tree, inside, new_namespace, run
from tests.kernel.needs import cpu_hierarchy
from tests.system.command import config_file, wait_for

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
        found = re.search(r"^class htb 51ac:4 .* ceil (\d+)Mbit", run("tc class show dev va"), re.MULTILINE)
        return int(found[1]) if found else None

    def wait_until_shaped(self) -> None:
        wait_for(self.be_mbit, "the device is shaped")

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


@contextmanager
def shaped_link(folder: Path) -> Iterator[Link]:
    """With groups ls and be; this thread is in the near namespace. What the agent keeps is in `folder`."""
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
                yield Link(both, tree, folder, name)
        finally:
            both.close()
            os.close(wire)
            if found[1] == 1:
                for made in (cpu / "be", cpu / "ls", cpu):
                    made.rmdir()
