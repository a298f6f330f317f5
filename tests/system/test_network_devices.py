"""The agent follows devices and containers as they come, change and go: bonds, VLANs, taps, veths."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.namespaces import PORT, inside, iperf_report, new_namespace, received_bytes_per_s, run, state
from tests.kernel.needs import cpu_hierarchy, needs
from tests.system.command import Running, running, wait_for
from tests.system.shaped_link import TICK_S, Link, shaped_link

pytestmark = [needs("root", "bpf", "cgroup:cpu", "cgroup2", "net"), pytest.mark.slow]

MBIT = 125_000
IS_EMULATED = "SLACKWATER_MACHINE" in os.environ
HAS_LIVE_RENAME = tuple(map(int, platform.release().split(".")[:2])) >= (6, 2)
"""Before, a device that is up had to be set down, and lost its routes."""
SIOCETHTOOL, ETHTOOL_SSET = 0x8946, 2


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    with shaped_link(tmp_path) as link:
        yield link


@contextlib.contextmanager
def agent_on(link: Link, network: str, more: str = "") -> Iterator[Running]:
    """With these lines in [network] in place of the link's rate."""
    text = link.config(more).read_text()
    config = link.folder / "slackwater.toml"
    config.write_text("\n".join(network if line.startswith("link_rate") else line for line in text.splitlines()))
    with running("run", "--config", config) as agent:
        yield agent
        agent.stop(signal.SIGTERM)
        assert agent.popen.returncode == 0, agent.lines
        assert "Traceback" not in "".join(agent.lines)


def is_shaped(device: str) -> bool | None:
    """None: it is not."""
    return "htb 51ac:" in run(f"tc qdisc show dev {device}") or None


def link_mbit(device: str) -> int | None:
    """What its classes share; None: it is not shaped."""
    found = re.search(r"^class htb 51ac:1 .* ceil (\d+)Mbit", run(f"tc class show dev {device}"), re.MULTILINE)
    return int(found[1]) if found else None


def set_speed(device: str, mbit: int) -> None:
    """As a driver would after a new negotiation; a tap takes whatever it is told."""
    command = ctypes.create_string_buffer(struct.pack("<I8xH", ETHTOOL_SSET, mbit & 0xFFFF).ljust(44, b"\0"))
    request = struct.pack("16sP16x", device.encode(), ctypes.addressof(command))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, request)


@needs("tun")
def test_a_device_that_changes_its_speed_is_followed(link: Link) -> None:
    run("ip tuntap add tap0 mode tap", "ip addr add 10.99.0.1/24 dev tap0", "ip link set tap0 up")
    set_speed("tap0", 100)
    before = state("tap0")
    with agent_on(link, 'devices = ["tap0"]'):
        wait_for(lambda: link_mbit("tap0") == 100 or None, "its first speed")
        set_speed("tap0", 2500)
        wait_for(lambda: link_mbit("tap0") == 2500 or None, "its second speed")
    assert state("tap0") == before


@needs("bond")
def test_of_a_bond_the_bond_is_shaped(link: Link) -> None:
    """Whether it is named itself, by a port of it, or by a default route."""
    run("ip link add bond0 type bond mode active-backup")
    for port in ("va1", "va2"):
        run(f"ip link add {port} type veth peer name {port}p", f"ip link set {port}p up")
        run(f"ip link set {port} master bond0")
    run("ip addr add 10.99.0.1/24 dev bond0", "ip link set bond0 up")
    before = [state(device) for device in ("bond0", "va1", "va2")]
    with agent_on(link, 'devices = ["va1"]'):
        wait_for(lambda: is_shaped("bond0"), "the bond by its port")
        assert [is_shaped(port) for port in ("va1", "va2")] == [None, None]
    assert [state(device) for device in ("bond0", "va1", "va2")] == before
    run("ip route replace default via 10.99.0.2")
    with agent_on(link, 'link_rate = "1 Gbit/s"'):
        wait_for(lambda: is_shaped("bond0"), "the bond by its route")
        run("ip link set va1 nomaster", "ip link set va1 up")
        time.sleep(3 * TICK_S)
        assert [is_shaped(device) for device in ("bond0", "va1", "va2")] == [True, None, None]
        run("ip link del bond0")
        time.sleep(3 * TICK_S)
        assert [is_shaped(port) for port in ("va1", "va2")] == [None, None]


@needs("bond")
def test_a_vlan_on_a_bond_is_shaped_where_the_route_leads_and_renamed_it_stays_so(link: Link) -> None:
    run("ip link add bond0 type bond mode active-backup", "ip link add va1 type veth peer name vb1")
    run("ip link set va1 master bond0", "ip link set vb1 up", "ip link set bond0 up")
    with agent_on(link, 'link_rate = "1 Gbit/s"'):
        link.wait_until_shaped()
        run("ip link add link bond0 name bond0.5 type vlan id 5", "ip addr add 10.99.0.1/24 dev bond0.5")
        run("ip link set bond0.5 up", "ip route replace default via 10.99.0.2")
        wait_for(lambda: is_shaped("bond0.5"), "the VLAN")
        wait_for(lambda: None if is_shaped("va") else True, "the device that was the route's is given back")
        assert [is_shaped(device) for device in ("bond0", "va1")] == [None, None]
        rename = "ip link set bond0.5 name outside"
        if HAS_LIVE_RENAME:
            run(rename)
            time.sleep(3 * TICK_S)
            assert is_shaped("outside")
        else:
            run("ip link set bond0.5 down", rename, "ip link set outside up", "ip route replace default via 10.99.0.2")
            wait_for(lambda: is_shaped("outside"), "the VLAN by its new name")
    assert is_shaped("outside") is None


class Container:
    """A group whose one process has a network of its own: a veth whose other end is in this thread's namespace."""

    def __init__(self, link: Link, number: int, within: str = "") -> None:
        """`within`: the process is in a group in it, as with a systemd in a container."""
        self.device, inner = f"vc{number}", f"vd{number}"
        found = cpu_hierarchy()
        assert found
        hierarchies = {link.tree, found[0] / link.name}
        leaves = [hierarchy / f"box{number}" / within for hierarchy in hierarchies]
        self.folders = [*(leaf.parent for leaf in leaves if within), *leaves]
        self.namespace = new_namespace()
        self.address = f"10.{100 + number}.0.2"
        run(f"ip link add {self.device} type veth peer name {inner}")
        run(f"ip link set {inner} netns /proc/{os.getpid()}/fd/{self.namespace}")
        run(f"ip addr add 10.{100 + number}.0.1/24 dev {self.device}", f"ip link set {self.device} up")
        with inside(self.namespace):
            run("ip link set lo up", f"ip addr add {self.address}/24 dev {inner}", f"ip link set {inner} up")
            self.process = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)
        for leaf in leaves:
            leaf.mkdir(parents=True)
            (leaf / "cgroup.procs").write_text(str(self.process.pid))

    def mbit(self, *, sends: bool) -> float:
        """What a transfer of 3 s brings, without headers."""
        command = f"chrt -f 20 iperf3 -J -c {self.address} -p {PORT} -t 3{' -R' if sends else ''}"
        process = subprocess.Popen(command.split(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return received_bytes_per_s(iperf_report(process)) / MBIT

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.namespace)
        for folder in reversed(self.folders):
            for _ in range(100):
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.05)


def is_limited(container: Container) -> bool | None:
    """Both ways; None: not yet."""
    both = "tbf 51ac:" in run(f"tc qdisc show dev {container.device}") and "slw" in run(
        f"tc filter show dev {container.device} ingress"
    )
    return both or None


def test_containers_are_found_and_limited_both_ways_also_new_ones(link: Link) -> None:
    """By the veth of the group's process; what was made for one goes with it. How exact: tests/kernel."""
    limits = f'[[limit]]\nmatch = "/{link.name}/box*"\nsend = "20 Mbit/s"\nreceive = "40 Mbit/s"'
    with contextlib.ExitStack() as stack:
        first = Container(link, 1)
        stack.callback(first.close)
        before = state(first.device)
        with agent_on(link, 'link_rate = "1 Gbit/s"', limits):
            wait_for(lambda: is_limited(first), "the first container")
            second = Container(link, 2, "init.scope")
            stack.callback(second.close)
            wait_for(lambda: is_limited(second), "the second container")
            for container in (first, second):
                sends, receives = container.mbit(sends=True), container.mbit(sends=False)
                print(f"container sends {sends:.1f} Mbit/s, receives {receives:.1f}")  # noqa: T201
                assert sends <= 20
                assert receives <= 40
                assert IS_EMULATED or (sends >= 10 and receives >= 20)
            run(f"ip link del {second.device}")
            wait_for(lambda: None if run("ip -o link").count("slw") > 1 else True, "its IFB goes with it")
        assert state(first.device) == before
        assert "slw" not in run("ip -o link")
