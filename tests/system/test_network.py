"""The agent as a user starts it, shaping a link of this test's own: services first, batch work within bounds."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.paths import status_path
from agent.status import read_status
from tests.kernel.namespaces import run, state
from tests.kernel.needs import needs
from tests.system.command import Running, running, slackwater, wait_for
from tests.system.shaped_link import LINK_MBIT, TICK_S, Link, shaped_link

pytestmark = [needs("root", "bpf", "cgroup:cpu", "cgroup2", "net"), pytest.mark.slow]


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    with shaped_link(tmp_path) as link:
        yield link


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
        link.wait_until_shaped()
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
        link.wait_until_shaped()
        assert link.be_mbit() == LINK_MBIT * 40 // 100
        transfer = link.transfer("ls", 6, 5201)
        begin_s = wait_for(lambda: time.monotonic() if ls_sends(link) else None, "services send")
        wait_for(lambda: link.be_mbit() == LINK_MBIT * 10 // 100 or None, "the low bound")
        down_s = time.monotonic() - begin_s
        status = read_status(status_path())
        assert status
        assert status.sends_bytes_per_s[f"/{link.name}/ls"] > 0.5 * LINK_MBIT * 125_000
        assert "device va: 190 Mbit/s; system" in slackwater("status").stdout
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
        link.wait_until_shaped()
        agent.stop(signal.SIGKILL)
    assert "51ac" in state("va")
    done = slackwater("restore")
    assert done.returncode == 0, done.stderr
    assert "va link" in done.stdout
    assert state("va") == before


def test_a_device_that_appears_is_shaped_and_one_that_is_renamed_stays_so(link: Link) -> None:
    with running("run", "--config", link.config()) as agent:
        link.wait_until_shaped()
        run("ip link add va2 type veth peer name vb2", "ip addr add 10.99.0.1/24 dev va2", "ip link set va2 up")
        run("ip link set vb2 up", "ip route add default via 10.99.0.2 metric 50")
        wait_for(lambda: "51ac" in run("tc qdisc show dev va2") or None, "the new device is shaped")
        run("ip link set va2 name va3")
        time.sleep(3 * TICK_S)
        assert run("tc qdisc show dev va3").count("htb 51ac:") == 1
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
