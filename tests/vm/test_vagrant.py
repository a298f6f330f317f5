"""The Vagrantfile: valid, and what it promises, from `vagrant up` to `vagrant destroy` (make test-vagrant: minutes).

The machine is emulated, by a libvirt of the test's own (libvirt.py), and has no way out: it gets a bundle.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.needs import needs
from tests.vm import box, libvirt, machine
from tests.vm.machine import TREE, copy_of_tree, make

whole_cycle = pytest.mark.skipif(os.environ.get("SLACKWATER_VAGRANT_TESTS") != "1", reason="minutes: make test-vagrant")
OFFLINE = {"VAGRANT_CHECKPOINT_DISABLE": "1", "VAGRANT_NO_COLOR": "1"}
LIMIT_S = 1200
SCRAPE = f"python3 -c '{machine.SCRAPE}'"


@needs("command:vagrant")
def test_vagrantfile_is_valid(tmp_path: Path) -> None:
    """For libvirt, whose plug-in knows each of its keys; VirtualBox' part is checked where that is installed."""
    environment = {
        **os.environ,
        **OFFLINE,
        "VAGRANT_HOME": str(tmp_path),
        "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot"),
    }
    done = subprocess.run(
        ["vagrant", "validate"], cwd=TREE, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "Vagrantfile validated successfully.\n"), done.stderr


@dataclass(frozen=True)
class Vagrant:
    """`vagrant` in the copy of a tree."""

    tree: Path
    inside: tuple[str, ...]
    environment: dict[str, str]

    def command(self, *words: str) -> list[str]:
        return [*self.inside, "env", f"--chdir={self.tree}", "vagrant", *words]

    def __call__(self, *words: str) -> str:
        """Its output; it must succeed."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def ssh(self, command: str) -> str:
        return self("ssh", "--command", f"sudo {command}")

    def domains(self) -> list[str]:
        words = ["virsh", "--quiet", "--connect", "qemu:///system", "list", "--all", "--name"]
        return subprocess.run([*self.inside, *words], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture(scope="module")
def vagrant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vagrant]:
    """A machine that `vagrant up` has made."""
    scratch = tmp_path_factory.mktemp("vagrant")
    tree = copy_of_tree(scratch / "tree")
    make(tree, "bundle")
    machine.add_pytest(tree)
    with libvirt.running() as inside:
        settings = {
            "VAGRANT_HOME": str(scratch / "home"),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "SLACKWATER_BOX": str(box.folder() / "slackwater.box"),
            "SLACKWATER_DRIVER": "qemu",
        }
        made = Vagrant(tree, inside, {**os.environ, **OFFLINE, **settings})
        try:
            made("up")
            yield made
        finally:
            made("destroy", "--force")
            shutil.rmtree(scratch)  # a box, a tree and its bundle: 0.5 GB


@whole_cycle
def test_up_gives_a_machine_with_the_service_running(vagrant: Vagrant) -> None:
    """Enabled, active, never restarted, on a kernel with cgroup v2."""
    shown = vagrant.ssh("systemctl show --property ActiveState,UnitFileState,NRestarts,StatusText slackwater")
    found = dict(line.split("=", 1) for line in shown.splitlines())
    log = vagrant.ssh("journalctl --unit slackwater --no-pager --lines 30")
    assert (found["ActiveState"], found["UnitFileState"], found["NRestarts"]) == ("active", "enabled", "0"), log
    assert re.fullmatch(r"\d+ groups, source bpf, 0 samples lost", found["StatusText"])
    assert "cpu" in vagrant.ssh("cat /sys/fs/cgroup/cgroup.controllers").split()


@whole_cycle
def test_metrics_have_a_row_for_each_service(vagrant: Vagrant) -> None:
    metrics = vagrant.ssh(SCRAPE)
    assert re.search(r'^slackwater_\w+\{.*group="/system.slice/ssh.service".*\} ', metrics, re.MULTILINE)


@whole_cycle
def test_snapshot_works_over_ssh(vagrant: Vagrant) -> None:
    found = json.loads(vagrant.ssh("slackwater snapshot --seconds 2 --json"))
    assert found["source"] == "bpf"
    assert "/system.slice/slackwater.service" in {group["path"] for group in found["groups"]}


@whole_cycle
def test_top_works_over_ssh(vagrant: Vagrant) -> None:
    """On a terminal; the key q ends it."""
    keys, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (50, 160))  # paths are shown whole
    command = vagrant.command("ssh", "--tty", "--command", "sudo slackwater top")
    environment = vagrant.environment
    with subprocess.Popen(command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal) as top:
        os.close(terminal)
        shown = b""
        deadline_s = time.monotonic() + 60
        while b"/system.slice/" not in shown and time.monotonic() < deadline_s:
            shown += os.read(keys, 65536)
        os.write(keys, b"q")
        assert top.wait(60) == 0
    os.close(keys)
    assert b"source bpf" in shown
    assert b"/system.slice/" in shown


@whole_cycle
def test_kernel_tests_pass_there(vagrant: Vagrant) -> None:
    """Those of the short set, as on the host and in the guests of QEMU."""
    (vagrant.tree / "kernel-tests.sh").write_text(machine.KERNEL_TESTS)
    vagrant("rsync")
    assert re.search(r"\d+ passed", vagrant.ssh("bash /vagrant/kernel-tests.sh"))


@whole_cycle
def test_provision_brings_it_up_to_date(vagrant: Vagrant) -> None:
    """What was changed in the tree is what runs afterwards."""
    source = vagrant.tree / "agent/__init__.py"
    source.write_text(re.sub(r'__version__ = "(.*)"', r'__version__ = "\1+changed"', source.read_text()))
    make(vagrant.tree, "bundle")
    vagrant("provision")
    assert vagrant.ssh("slackwater --version").strip().endswith("+changed")
    assert '+changed"' in vagrant.ssh(SCRAPE)


@whole_cycle
def test_destroy_leaves_nothing(vagrant: Vagrant) -> None:
    assert len(vagrant.domains()) == 1
    vagrant("destroy", "--force")
    assert vagrant.domains() == []
