"""The service divides caches under a real systemd, on a machine with RDT: one that has resctrl mounted, and one that
has not. Needs minutes, so only when asked to: make test-systemd.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import pytest

from tests.vm import machine
from tests.vm.machine import RESTART, SERVICE_LOG, TREE, Machine
from tests.vm.machines import MACHINES

pytestmark = pytest.mark.skipif(os.environ.get("SLACKWATER_VM_TESTS") != "1", reason="minutes: make test-systemd")

SETTINGS = """
[enforce]
mode = "on"
[[class]]
match = "/system.slice/batch.service"
class = "BE"
[cache]
enforce = "on"
"""
WHAT_IS_SET = "cd /sys/fs/resctrl && ls -d */ && cat schemata"
PARTITION = "/sys/fs/resctrl/slackwater-BE"
IS_FILLED = f"grep -qx $(systemctl show -P MainPID batch) {PARTITION}/tasks"
OWN_MOUNTS = "nsenter --mount --target $(systemctl show -P MainPID slackwater)"
TICKS_S = 5
DROP_IN = "/etc/systemd/system/slackwater.service.d/mount.conf"


@pytest.fixture(scope="module")
def provisioned() -> Iterator[Machine]:
    """Batch work runs there."""
    with machine.provisioned(MACHINES["l3"]) as provisioned:
        provisioned.run("systemd-run --quiet --unit batch sleep 10000")
        yield provisioned


def documented(begin: str) -> str:
    """The indented block of docs/architecture.md that begins so."""
    found = re.search(
        rf"^    {re.escape(begin)}.*\n(    .*\n)*", (TREE / "docs/architecture.md").read_text(), re.MULTILINE
    )
    assert found
    return found.group().replace("    ", "")


def test_not_mounted_it_says_so_once_and_does_the_rest(provisioned: Machine) -> None:
    """The unit may not mount, also where it is told to."""
    with provisioned.configured(f"{SETTINGS}mount = true"):
        provisioned.wait_for(f"{SERVICE_LOG} | grep -q 'no caches are looked at'")
        time.sleep(TICKS_S)
        (line,) = [line for line in provisioned.run(SERVICE_LOG).stdout.splitlines() if "no caches" in line]
        assert "EPERM" in line
        assert provisioned.run("systemctl is-active slackwater").stdout == "active\n"


def test_mounted_by_fstab_it_divides_and_gives_back_at_a_stop_and_after_a_kill(provisioned: Machine) -> None:
    """With the unit as it is, by ExecStopPost or by the next start."""
    provisioned.run(f"echo '{documented('resctrl')}' >>/etc/fstab; mount /sys/fs/resctrl")
    try:
        before = provisioned.run(WHAT_IS_SET).stdout
        assert "schemata" in provisioned.run("ls /sys/fs/resctrl").stdout
        assert "slackwater" not in before
        with provisioned.configured(SETTINGS):
            provisioned.wait_for(IS_FILLED)
            provisioned.run("systemctl kill --signal KILL slackwater")
            provisioned.wait_for(f"{SERVICE_LOG} | grep -q 'restored.*slackwater-BE'")
            provisioned.wait_for(IS_FILLED)
            provisioned.run("systemctl stop slackwater")
            assert provisioned.run(WHAT_IS_SET).stdout == before
    finally:
        provisioned.run("umount /sys/fs/resctrl; sed -i /resctrl/d /etc/fstab")


def test_with_the_documented_drop_in_it_mounts_by_itself(provisioned: Machine) -> None:
    """In its own mount namespace, with which all of it goes, also after a kill."""
    provisioned.run(f"mkdir -p $(dirname {DROP_IN}); printf '{documented('[Service]')}' >{DROP_IN}")
    provisioned.run("systemctl daemon-reload")
    try:
        with provisioned.configured(f"{SETTINGS}mount = true"):
            provisioned.wait_for(f"{OWN_MOUNTS} {IS_FILLED}")
            assert provisioned.run("ls /sys/fs/resctrl").stdout == ""
            provisioned.run("systemctl kill --signal KILL slackwater; sleep 2")
            provisioned.wait_for(f"{OWN_MOUNTS} {IS_FILLED}")
            provisioned.run("systemctl stop slackwater")
            assert provisioned.run("mount -t resctrl resctrl /sys/fs/resctrl").returncode == 0
            assert "slackwater" not in provisioned.run(WHAT_IS_SET).stdout
    finally:
        provisioned.run(f"umount /sys/fs/resctrl; rm {DROP_IN}; systemctl daemon-reload; {RESTART}")
