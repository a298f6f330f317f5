"""The agent as a user starts it, dividing caches and memory bandwidth.

The caches of an emulated machine feel nothing of it: what is asserted is what is set, in which order, and that all
goes back.
"""

from __future__ import annotations

import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from prometheus_client import CollectorRegistry, Histogram, start_http_server

from rdt import info
from tests.kernel.needs import needs
from tests.kernel.resctrl import ROOT, mounted, schemata, state
from tests.kernel.workloads import Group, Process, Workloads
from tests.ports import free_port
from tests.system.command import Running, config_file, end, running, slackwater, wait_for

pytestmark = [needs("root", "bpf", "cgroup:cpu"), pytest.mark.slow]
with_caches = needs("resctrl", "resctrl:l3", "resctrl:mba", "resctrl:monitor")

BATCH, SERVICES = ROOT / "slackwater-BE", ROOT / "slackwater-LS"
TICK_S = 0.5
LIMIT_S = 150


@dataclass
class Service:
    """Tells its own latency, slow or not."""

    is_slow: bool = True
    url: str = ""
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def serving(self) -> Iterator[Service]:
        registry = CollectorRegistry()
        histogram = Histogram("latency", "s", buckets=(0.01, 0.1, 1.0), registry=registry)

        def work() -> None:
            while not self._ended.wait(0.05):
                histogram.observe(0.5 if self.is_slow else 0.005)

        server, thread = start_http_server(0, "127.0.0.1", registry)
        worker = threading.Thread(target=work)
        worker.start()
        self.url = f"http://127.0.0.1:{server.server_port}/metrics"
        try:
            yield self
        finally:
            self._ended.set()
            worker.join()
            server.shutdown()
            thread.join()
            server.server_close()


@dataclass
class Node:
    """A service and batch work, each at work."""

    folder: Path
    name: str
    web: Process
    batch: Process
    metrics: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")

    def config(self, cache: str = "mount = true", mode: str = "on", more: str = "") -> Path:
        return config_file(
            self.folder,
            f"""
metrics.address = "{self.metrics}"
history.path = "{self.folder}/history.db"
agent.tick_s = {TICK_S}
agent.window_s = 5
[[class]]
match = "/{self.name}/batch"
class = "BE"
[[class]]
match = "/{self.name}/web"
class = "LS"
[enforce]
mode = "{mode}"
settle_s = 1
little_wait_pct = 100
ill_s = 0
stale_ticks = 100
[suppress]
enforce = "off"
[burst]
enforce = "off"
[cache]
enforce = "on"
{cache}
[[partition]]
class = "LS"
ways = "50-100%"
exclusive = true
{more}
""",
        )


@pytest.fixture
def node(tmp_path: Path, tree: Group, workloads: Workloads) -> Iterator[Node]:
    web, batch = (workloads.start(tree.child(name), -1, "wake", 20_000, 60_000, 1) for name in ("web", "batch"))
    yield Node(tmp_path, tree.path.name, web, batch)
    end(web)
    end(batch)
    if (ROOT / "info").exists():  # of a test that failed
        slackwater("restore")


T = TypeVar("T")


def soon(ask: Callable[[], T | None], what: str) -> T:
    """Asked seldom: an emulated machine has other things to do."""
    return wait_for(ask, what, limit_s=LIMIT_S, pause_s=0.2)


def lies_in(thread: int, group: Path) -> bool:
    return str(thread) in (group / "tasks").read_text().split()


def has(group: Path) -> tuple[int, int]:
    """Mask of the L3 and per cent of bandwidth, the same of each cache."""
    now = schemata(group)
    (mask,), (pct,) = ({*now[resource].values()} for resource in ("L3", "MB"))
    return int(mask, 16), int(pct)


def at_work(node: Node) -> None:
    """Partitions are there, and who belongs in them is in them."""
    soon(lambda: BATCH.exists() or None, "the partition of batch work")
    soon(lambda: lies_in(node.batch.pid, BATCH) or None, "a task in the partition of batch work")
    soon(lambda: lies_in(node.web.pid, SERVICES) or None, "a task in the partition of services")


def log_line(agent: Running, text: str) -> str | None:
    return next((line for line in list(agent.lines) if text in line), None)


def stop(agent: Running) -> None:
    agent.stop(signal.SIGTERM)
    assert agent.popen.returncode == 0, agent.lines
    assert "Traceback" not in "".join(agent.lines)


@pytest.fixture
def usual() -> None:
    """A machine of 12 ways and steps of 10 % of bandwidth: what is set is told in its numbers."""
    with mounted() as root:
        offered = info.read(root)
    cache, bandwidth = offered.caches["L3"], offered.bandwidths["MB"]
    if (cache.ways, bandwidth.unit, bandwidth.bandwidth_gran) != (12, info.PERCENT, 10):
        pytest.skip("another machine")


@with_caches
@pytest.mark.usefixtures("usual")
def test_partitions_are_made_and_filled_and_told_and_all_goes_back_at_the_end(node: Node) -> None:
    """The mount, too."""
    before = state()
    config = node.config()
    with running("run", "--config", config) as agent:
        at_work(node)
        assert has(BATCH) == (0x03F, 50)
        assert has(SERVICES) == (0xFC0, 100)
        assert has(ROOT) == (0x03F, 100)
        assert lies_in(os.getpid(), ROOT)
        status = soon(lambda: text if "/s of memory" in (text := slackwater("status").stdout) else None, "rates")
        explained = slackwater("explain", f"/{node.name}/batch", "--config", config).stdout
        with urllib.request.urlopen(f"http://{node.metrics}/metrics", timeout=30) as response:
            exposed = response.read().decode()
        stop(agent)
    assert state() == before == ""
    assert "partition BE: 0-50 % of the ways, 50 % of the bandwidth; " in status
    assert "partition LS: 50-100 % of the ways; " in status
    assert "partition (rest): " in status
    assert "in partition BE: 0-50 % of the ways" in explained
    assert 'slackwater_cache_occupancy_bytes{partition="BE",cache="0"} ' in exposed
    assert 'slackwater_cache_ways_ratio{partition="BE",edge="to"} 0.5\n' in exposed
    assert 'slackwater_control_writes_total{controller="cache",result="applied"} ' in exposed


@with_caches
def test_a_resctrl_that_somebody_uses_is_left_as_it_was(node: Node) -> None:
    with mounted():
        offered = info.read(ROOT)
        if (offered.closids or 0) < 4:
            pytest.skip("no room for two partitions beside somebody's group")
        (ROOT / "theirs").mkdir()
        (ROOT / "theirs/schemata").write_text(f"L3:0={offered.caches['L3'].cbm_mask & 0xF00:x}\n")
        before = state()
        with running("run", "--config", node.config("mount = false")) as agent:
            at_work(node)
            stop(agent)
        assert state() == before
        (ROOT / "theirs").rmdir()


@with_caches
def test_what_a_killed_agent_left_is_put_back_by_restore(node: Node) -> None:
    before = state()
    with running("run", "--config", node.config()) as agent:
        at_work(node)
        agent.stop(signal.SIGKILL)
    assert BATCH.exists()
    done = slackwater("restore")
    assert done.returncode == 0, done.stdout + done.stderr
    assert state() == before == ""


@with_caches
def test_without_enforcement_after_a_reload_all_goes_back(node: Node) -> None:
    before = state()
    config = node.config()
    with running("run", "--config", config) as agent:
        at_work(node)
        config.write_text(config.read_text().replace('[cache]\nenforce = "on"', '[cache]\nenforce = "off"'))
        agent.popen.send_signal(signal.SIGHUP)
        # Who looked into resctrl meanwhile would keep it from being unmounted.
        soon(lambda: log_line(agent, "the configuration was read anew"), "a line in the log")
        assert state() == before
        stop(agent)


@with_caches
@pytest.mark.usefixtures("usual")
def test_batch_work_gives_way_to_the_floor_while_a_service_is_slow_and_comes_back(node: Node) -> None:
    """A service that says so itself, and hardly waits for the CPU."""
    seen: list[tuple[int, int]] = []

    def batch() -> tuple[int, int]:
        mask, pct = has(BATCH)
        found = mask.bit_count(), pct
        if seen[-1:] != [found]:
            seen.append(found)
        return found

    with Service().serving() as service:
        more = f"""
[[sli]]
name = "shop"
url = "{service.url}"
metric = "latency"
target = "100ms"
group = "/{node.name}/web"
interval_s = 0.5
[[rule]]
name = "slow"
signal = "sli:shop"
window_s = 2
"""
        config = node.config(more=more)
        with running("run", "--config", config) as agent:
            at_work(node)
            soon(lambda: batch() == (2, 10) or None, "the floor")
            down = list(seen)
            told = slackwater("explain", f"/{node.name}/web", "--config", config).stdout
            service.is_slow = False
            soon(lambda: batch() == (6, 50) or None, "the ceiling")
            stop(agent)
    up = seen[len(down) - 1 :]
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert {(2, 10), (6, 50)} < set(seen)  # there are steps between
    assert "because of cache or memory bandwidth" in told
    assert "batch work may use 0-10 % of the L3" in told


@with_caches
def test_a_dry_run_says_what_it_would_do(node: Node) -> None:
    with mounted():
        before = state()
        config = node.config(mode="dry-run")
        with running("run", "--config", config) as agent:
            told = soon(
                lambda: (
                    text if "dry-run" in (text := slackwater("history", "--json", "--config", config).stdout) else None
                ),
                "an entry",
            )
            assert "batch work may use 0-50 % of the L3" in told
            assert state() == before
            stop(agent)


def test_without_resctrl_it_holds_and_says_what_to_do(node: Node) -> None:
    with running("run", "--config", node.config("mount = false")) as agent:
        line = soon(lambda: log_line(agent, "no caches are looked at"), "a line in the log")
        held = soon(lambda: text if "cache does" in (text := slackwater("status").stdout) else None, "a hold")
        stop(agent)
    assert "mount -t resctrl" in line
    assert "mount it, or set cache.mount" in held
    assert len([each for each in agent.lines if "no caches are looked at" in each]) == 1
