"""The agent as a service manager sees it; systemd itself is in tests/vm/test_systemd.py."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.kernel.needs import needs
from tests.system.command import TIMEOUT_S, quiet, running, slackwater

UNIT = Path(__file__).parents[2] / "deploy/systemd/slackwater.service"

ROOT_ONLY = ("limits of the network", "flows of a class", "cycles per instruction")

pytestmark = [needs("cgroup:cpu"), pytest.mark.slow]


def test_a_manager_hears_of_begin_life_and_end(tmp_path: Path) -> None:
    """READY=1 first, then the watchdog is fed with a status, again and again, and STOPPING=1 is the last.

    What the status says is not logged for each tick.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(TIMEOUT_S)
        environment = ("env", f"NOTIFY_SOCKET={tmp_path / 'notify'}", "WATCHDOG_USEC=200000")
        with running("run", *quiet(tmp_path), wrapper=environment) as command:
            heard = [manager.recv(4096).decode() for _ in range(4)]
            command.stop(signal.SIGTERM)
            manager.setblocking(False)
            while heard[-1] != "STOPPING=1":
                heard.append(manager.recv(4096).decode())
    assert heard[0] == "READY=1"
    assert all(message.startswith("WATCHDOG=1\nSTATUS=") for message in heard[1:-1])
    assert " groups, source " in heard[1]
    assert [line for line in command.lines if "source=" in line] == []


@needs("root", "bpf")
def test_the_units_capabilities_are_enough(tmp_path: Path) -> None:
    """With these alone nothing is degraded that is not so for root, but for what doctor tries in a network namespace of
    its own (to make one takes CAP_SYS_ADMIN, to limit a link does not), and for hardware counters, where the kernel has
    a level of kernel.perf_event_paranoid that wants more.
    """
    allowed = re.findall(r"^CapabilityBoundingSet=(.*)", UNIT.read_text(), re.MULTILINE)[0]
    few = ["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in allowed.split())]
    wrapper = ("setpriv", f"--bounding-set={','.join(few)}", "--inh-caps=-all")
    words = ["doctor", "--json", *quiet(tmp_path)]
    few_allow, root = (
        [finding for finding in json.loads(text)["findings"] if not finding["what"].startswith(ROOT_ONLY)]
        for text in (slackwater(*words, wrapper=wrapper).stdout, slackwater(*words).stdout)
    )
    assert few_allow == root
