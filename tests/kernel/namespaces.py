"""Network namespaces with devices of a test's own: nothing leaves the machine, and nothing of the host is touched."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
PORT = 5201


def new_namespace() -> int:
    """A descriptor of a new network namespace; it lives as long as something holds it."""
    made: list[int] = []

    def make() -> None:
        if not _LIBC.unshare(_CLONE_NEWNET):
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not made:
        raise PermissionError("no network namespace can be made")
    return made[0]


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """This thread, and what it starts meanwhile, is in that namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(namespace)
        yield
    finally:
        _enter(before)
        os.close(before)


@contextlib.contextmanager
def inside_a_new_one() -> Iterator[None]:
    """It is gone afterwards."""
    namespace = new_namespace()
    try:
        with inside(namespace):
            yield
    finally:
        os.close(namespace)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def run(*commands: str) -> str:
    """Commands of ip and tc, one after the other; the output of the last."""
    out = ""
    for command in commands:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        out = done.stdout
    return out


def state(device: str) -> str:
    """Qdiscs, classes and filters of a device as tc prints them, without counts and flows: what must be the same
    afterwards.
    """
    said = [run(f"tc {what} show dev {device}") for what in ("qdisc", "class", "filter")]
    said.append(run(f"tc filter show dev {device} ingress"))
    return re.sub(r" direct_packets_stat \d+|^class (cake|fq_codel|sfq) .*\n", "", "\n".join(said), flags=re.MULTILINE)


def ifindex(device: str) -> int:
    """In the namespace of this thread."""
    (link,) = json.loads(run(f"ip -json link show dev {device}"))
    return int(link["ifindex"])


@dataclass
class Pair:
    """Two namespaces and a veth between: `near` with the device `name` is where the agent would be."""

    near: int
    far: int
    name: str = "va"
    address: str = "10.77.0.1"
    far_address: str = "10.77.0.2"
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def serve(self, port: int = PORT, *, at_far: bool = True, pin: str = "1") -> None:
        """An iperf3 server."""
        with inside(self.far if at_far else self.near):
            command = ["chrt", "-f", "20", "taskset", "-c", pin, "iperf3", "-s", "-p", str(port)]
            self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                if f":{port}" in run("ss -ltnH"):
                    return
                time.sleep(0.05)
        raise AssertionError("iperf3 does not listen")

    def start(self, command: str, group: Path | None = None, *, at_far: bool = False) -> subprocess.Popen[bytes]:
        """A command, from its first instruction on in a cgroup."""
        with inside(self.far if at_far else self.near):
            argv = command.split()
            if group is not None:
                argv = ["sh", "-c", f"echo $$ > {group}/cgroup.procs && exec {command}"]
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.communicate()
        os.close(self.near)
        os.close(self.far)


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    near, far = new_namespace(), new_namespace()
    pair = Pair(near, far)
    with inside(near):
        run(
            "ip link set lo up",
            "ip link add va type veth peer name vb",
            f"ip link set vb netns /proc/{os.getpid()}/fd/{far}",
            f"ip addr add {pair.address}/24 dev va",
            "ip link set va up",
            f"ip route add default via {pair.far_address}",
        )
    with inside(far):
        run("ip link set lo up", f"ip addr add {pair.far_address}/24 dev vb", "ip link set vb up")
    try:
        yield pair
    finally:
        pair.close()


def unified_mount() -> Path | None:
    """Where cgroup2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return Path(line.split()[4])
    return None


@contextlib.contextmanager
def cgroup2_tree(name: str) -> Iterator[Path]:
    """A directory of cgroup2 of a test's own; what is made in it is removed with it."""
    mount = unified_mount()
    assert mount is not None
    top = mount / name
    top.mkdir()
    try:
        yield top
    finally:
        for folder, _, _ in os.walk(top, topdown=False):
            for _ in range(100):
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    time.sleep(0.05)


def iperf_report(process: subprocess.Popen[bytes], timeout_s: float = 60) -> dict[str, Any]:
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, out.decode() + err.decode()
    report: dict[str, Any] = json.loads(out)
    return report


def received_bytes_per_s(report: dict[str, Any]) -> float:
    """What the receiver of iperf3 got, without headers."""
    assert "sum_received" in report["end"], report
    return float(report["end"]["sum_received"]["bits_per_second"]) / 8


def has_commands() -> str | None:
    lacks = [name for name in ("ip", "tc", "iperf3", "ss", "taskset") if not shutil.which(name)]
    return f"no command {', '.join(lacks)}" if lacks else None
