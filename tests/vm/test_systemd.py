"""The service under a real systemd: one machine (machine.py), installed by the script that Vagrant uses, driven.

Needs minutes, so only when asked to: make test-systemd.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import pytest

from tests.vm import machine
from tests.vm.machine import CONFIGURATION, PROVISION, SERVICE_LIMIT_S, SERVICE_LOG, Machine

pytestmark = pytest.mark.skipif(os.environ.get("SLACKWATER_VM_TESTS") != "1", reason="minutes: make test-systemd")

SCRAPE = (
    """python3 -c "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9753/metrics').read().decode())" """
)
WATCHDOG_S = 30
INSTALLED = (
    "/opt/slackwater",
    "/usr/local/bin/slackwater",
    "/etc/slackwater",
    "/etc/systemd/system/slackwater.service",
    "/etc/systemd/system/multi-user.target.wants/slackwater.service",
    "/run/slackwater",
    "/var/lib/slackwater",
)


@pytest.fixture(scope="module")
def provisioned() -> Iterator[Machine]:
    with machine.provisioned() as provisioned:
        yield provisioned


@pytest.fixture
def guest(provisioned: Machine) -> Machine:
    """The service runs, and has not been restarted by itself."""
    done = provisioned.run("systemctl reset-failed slackwater; systemctl restart slackwater")
    assert done.returncode == 0, done.stdout
    return provisioned


def shown(guest: Machine, *names: str) -> list[str]:
    """Properties of the unit, in the order in which they are asked for."""
    said = guest.run(f"systemctl show --property {','.join(names)} slackwater").stdout
    found = dict(line.split("=", 1) for line in said.splitlines())
    return [found[name] for name in names]


def wait_until(guest: Machine, name: str, value: str, limit_s: float) -> float:
    """Until a property has this value; the seconds it took."""
    begin_s = time.monotonic()
    while (now := shown(guest, name)[0]) != value:
        assert time.monotonic() < begin_s + limit_s, (name, now, guest.run("journalctl -u slackwater -n 20").stdout)
        time.sleep(0.5)
    return time.monotonic() - begin_s


def assert_serves_anew(guest: Machine, pid: str) -> None:
    """systemd has started another process once, and that one answers."""
    wait_until(guest, "NRestarts", "1", SERVICE_LIMIT_S)
    wait_until(guest, "ActiveState", "active", SERVICE_LIMIT_S)
    assert shown(guest, "MainPID") != [pid]
    assert "slackwater_node_cpus" in guest.run(SCRAPE).stdout


def test_started_means_measuring(guest: Machine) -> None:
    """`systemctl start` returns when it measures, by BPF; the status says so, and groups are in /metrics."""
    assert re.search(
        r"Status: \"\d+ groups, source bpf, 0 samples lost\"", guest.run("systemctl status slackwater").stdout
    )
    assert re.search(r'group="/system.slice/slackwater.service"', guest.run(SCRAPE).stdout)
    assert shown(guest, "ActiveState", "UnitFileState", "NRestarts") == ["active", "enabled", "0"]


def test_nothing_is_degraded_by_the_unit(guest: Machine) -> None:
    """Its log has no warning, and its process no more than the unit's five capabilities."""
    log = guest.run("journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID slackwater)").stdout
    warnings = [line for line in log.splitlines() if "WARNING" in line]
    assert [line for line in warnings if "sampling" not in line] == []  # which an emulated CPU may call for
    assert "CapEff:\t000000c000801002" in guest.run("cat /proc/$(systemctl show -P MainPID slackwater)/status").stdout


def test_of_the_host_only_cgroups_are_writable(guest: Machine) -> None:
    """And its own two folders, as the service sees the host's files."""
    own = ["/run/slackwater", "/var/lib/slackwater", "/sys/fs/cgroup/system.slice/ssh.service/cgroup.procs"]
    others = ["/etc", "/usr", "/opt/slackwater", "/var/lib", "/sys/kernel", "/proc/sys/kernel/core_pattern"]
    (pid,) = shown(guest, "MainPID")
    ask = f"for path in {' '.join(own + others)}; do if [ -w $path ]; then echo $path; fi; done"
    assert guest.run(f"nsenter --target {pid} --mount bash -c '{ask}'").stdout.split() == own


def test_kernel_tests_pass_there(guest: Machine) -> None:
    """Those of the short set, on a host that systemd has set up."""
    done = guest.run(machine.KERNEL_TESTS)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


def test_stop_is_clean(guest: Machine) -> None:
    """It ends by itself with status 0, and nobody answers any more."""
    guest.run("systemctl stop slackwater")
    assert shown(guest, "ActiveState", "Result", "ExecMainStatus") == ["inactive", "success", "0"]
    assert "Connection refused" in guest.run(SCRAPE).stdout


def test_killed_it_is_started_again(guest: Machine) -> None:
    (pid,) = shown(guest, "MainPID")
    guest.run(f"kill -KILL {pid}")
    assert_serves_anew(guest, pid)


def test_what_was_changed_is_put_back_at_a_stop_and_after_a_kill(provisioned: Machine) -> None:
    """A burst of a service with a quota: by the agent itself, and by ExecStopPost for one that was killed. The file
    belongs to a user, as those of a group that was delegated.
    """
    burst = "/sys/fs/cgroup/system.slice/web.service/cpu.max.burst"
    provisioned.run(f"systemd-run --quiet --unit web --property CPUQuota=20% sleep 1000; chown nobody {burst}")
    try:
        with provisioned.configured('[enforce]\nmode = "on"\n[burst]\npolicy = "static"'):
            provisioned.wait_for(f"grep -qx 20000 {burst}")
            (pid,) = shown(provisioned, "MainPID")
            provisioned.run(f"kill -KILL {pid}")
            wait_until(provisioned, "NRestarts", "1", SERVICE_LIMIT_S)
            assert "burst: 20000 -> 0" in provisioned.run(SERVICE_LOG).stdout
            provisioned.wait_for(f"grep -qx 20000 {burst}")
            provisioned.run("systemctl stop slackwater")
            assert provisioned.run(f"cat {burst}").stdout == "0\n"
    finally:
        provisioned.run("systemctl stop web")


def test_with_network_a_device_is_shaped_and_given_back_at_a_stop_and_after_a_kill(provisioned: Machine) -> None:
    """With the unit's capabilities, by ExecStopPost or by the next start. The kernel loads the modules by itself, also
    that of the device on which it is tried whether the owner's root can be built anew.
    """
    root = "tc qdisc show dev shaped | head -1"
    is_shaped = f"{root} | grep -q 'htb 51ac:'"
    settings = '[enforce]\nmode = "on"\n[network]\nenforce = "on"\ndevices = ["shaped"]\nlink_rate = "1 Gbit/s"\n'
    settings += "takeover = true"
    provisioned.run("ip link add shaped type veth peer name other; ip link set shaped up; ip link set other up")
    provisioned.run("tc qdisc add dev shaped root handle 7: fq_codel limit 500")
    try:
        before = provisioned.run(root).stdout
        assert "fq_codel 7:" in before
        with provisioned.configured(settings):
            provisioned.wait_for(is_shaped)
            (pid,) = shown(provisioned, "MainPID")
            provisioned.run(f"kill -KILL {pid}")
            provisioned.wait_for(f"{SERVICE_LOG} | grep -qE 'restored +shaped link|shaped .*link: restored'")
            provisioned.wait_for(is_shaped)
            provisioned.run("systemctl stop slackwater")
            assert provisioned.run(root).stdout == before
    finally:
        provisioned.run("ip link del shaped")


def test_hung_it_is_killed_by_the_watchdog_and_started_again(guest: Machine) -> None:
    """It is not fed by a process that stands still; one that works outlives it."""
    (pid,) = shown(guest, "MainPID")
    time.sleep(WATCHDOG_S * 1.2)
    assert shown(guest, "MainPID", "NRestarts") == [pid, "0"]
    guest.run(f"kill -STOP {pid}")
    wait_until(guest, "NRestarts", "1", WATCHDOG_S + SERVICE_LIMIT_S)
    assert_serves_anew(guest, pid)
    assert "Watchdog timeout" in guest.run("journalctl --unit slackwater --lines 50").stdout


def test_wrong_configuration_is_said_once(provisioned: Machine) -> None:
    """One line in the log, and no attempt after the first; put right, it starts."""
    provisioned.run(f"cp {CONFIGURATION} /tmp/right; echo 'agent.tick_s = 0' >{CONFIGURATION}")
    assert provisioned.run("systemctl restart slackwater").returncode != 0
    assert shown(provisioned, "ActiveState", "NRestarts", "ExecMainStatus") == ["failed", "0", "2"]
    assert "tick_s" in provisioned.run("journalctl --unit slackwater --lines 10 --output cat").stdout
    assert provisioned.run(f"cp /tmp/right {CONFIGURATION}; systemctl restart slackwater").returncode == 0


def test_provisioned_again_it_keeps_the_configuration(guest: Machine) -> None:
    """And runs as before, as another process."""
    (pid,) = shown(guest, "MainPID")
    guest.run(f"echo '# ours' >>{CONFIGURATION}")
    done = guest.run(PROVISION)
    assert done.returncode == 0, done.stdout
    assert "# ours" in guest.run(f"cat {CONFIGURATION}").stdout
    assert shown(guest, "MainPID") != [pid]


def test_without_bundle_and_network_provisioning_says_what_to_do(provisioned: Machine) -> None:
    done = provisioned.run(f"touch /vagrant/pyproject.toml; {PROVISION}")
    assert done.returncode == 1
    assert "run `make bundle` on the host" in done.stdout.splitlines()[-1]


def test_uninstalled_it_leaves_nothing_but_a_changed_configuration(guest: Machine) -> None:
    """That is kept once, and named; without it nothing is left, and the service is not known any more."""
    guest.run(f"echo '# ours' >>{CONFIGURATION}")
    assert f"kept, since it was changed: {CONFIGURATION}" in guest.run("make -C /vagrant uninstall").stdout
    assert guest.run(f"ls -d {' '.join(INSTALLED)} 2>/dev/null").stdout.split() == ["/etc/slackwater"]
    guest.run(f"cp /vagrant/deploy/slackwater.toml {CONFIGURATION}; make -C /vagrant uninstall")
    assert guest.run(f"ls -d {' '.join(INSTALLED)} 2>/dev/null").stdout == ""
    assert "could not be found" in guest.run("systemctl status slackwater").stdout
