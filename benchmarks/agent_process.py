"""What the agent_*.py benchmarks share: the real `slackwater run` as a process, its groups and their load."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.workloads import Group

COMMAND = str(Path(sys.executable).with_name("slackwater"))
STOP_S = 10
TEXT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
"""What a Prometheus server asks for unless told to read native histograms."""


def stop_cleanly_when_told() -> None:
    """SIGTERM as Ctrl-C: what was made is removed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@dataclass(frozen=True)
class Cost:
    """Of one process. `cpu_s` is of all its threads, to 10 ms."""

    cpu_s: float
    rss_bytes: int
    pss_bytes: int


@dataclass(frozen=True)
class Running:
    """An agent without a terminal that serves /metrics."""

    pid: int
    port: int
    log: Path

    def cost(self) -> Cost:
        proc = Path(f"/proc/{self.pid}")
        utime, stime = (proc / "stat").read_text().rpartition(")")[2].split()[11:13]
        kib = {
            name: int(value)
            for name, value in re.findall(r"^(Rss|Pss): +(\d+) kB$", (proc / "smaps_rollup").read_text(), re.MULTILINE)
        }
        cpu_s = (int(utime) + int(stime)) / os.sysconf("SC_CLK_TCK")
        return Cost(cpu_s, kib["Rss"] << 10, kib["Pss"] << 10)

    def scrape(self, accept: str = TEXT) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=30) as response:
            return bytes(response.read())

    def metric(self, name: str) -> float:
        """The sum of the series of this name."""
        values = re.findall(rf"^{name}(?:{{.*}})? ([^ \n]+)", self.scrape().decode(), re.MULTILINE)
        return sum(map(float, values))


@contextlib.contextmanager
def running_agent(settings: str = "") -> Iterator[Running]:
    """`slackwater run` with defaults but for a free port, and `settings` (TOML tables); its last words are printed."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config, log = Path(directory, "slackwater.toml"), Path(directory, "log")
        config.write_text(f'[metrics]\naddress = "127.0.0.1:{port}"\n{settings}')
        process = subprocess.Popen(
            [COMMAND, "run", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stack.enter_context(log.open("wb")),
        )
        try:
            agent = Running(process.pid, port, log)
            _wait_until_up(agent, process)
            yield agent
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)
            warnings = [line for line in log.read_text().splitlines() if " INFO " not in line]
            print(*warnings[-5:], sep="\n", end="\n" if warnings else "")


def _wait_until_up(agent: Running, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            agent.scrape()
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"the agent does not run: {agent.log.read_text()}")


@contextlib.contextmanager
def loaded_groups(tree: Group, count: int, switches_per_s: int) -> Iterator[list[Group]]:
    """Groups with a pair of processes each (agent_load.c), removed with `tree`."""
    with tempfile.TemporaryDirectory() as directory:
        binary = Path(directory, "agent_load")
        source = Path(__file__).with_name("agent_load.c")
        subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", binary, source], check=True)
        groups = [tree.child(f"load-{number:04}.service") for number in range(count)]
        load = subprocess.Popen([binary, str(switches_per_s)], stdin=subprocess.PIPE, text=True)
        assert load.stdin is not None
        try:
            load.stdin.write("".join(f"{group.path}\n" for group in groups) + "\n")
            load.stdin.flush()
            yield groups
        finally:
            load.stdin.close()
            load.wait()


def host_switches() -> int:
    """Context switches of this host since its boot."""
    return int(re.findall(r"^ctxt (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)[0])


def mib(count_bytes: float) -> str:
    return f"{count_bytes / (1 << 20):.1f} MiB"
