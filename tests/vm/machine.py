"""A whole Debian machine with systemd: the box's disk, booted by QEMU, driven by ssh. It has no way out.

What is written to the disk is gone with the machine.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port
from tests.vm import box, emulator, machines, verdict
from tests.vm.fetch import VmError
from tests.vm.kernels import GUEST_MEMORY_MB, KERNEL_ARGUMENTS
from tests.vm.machines import EVERY_GUEST_HAS, NONE, words

BOOT_LIMIT_S = 300
"""Twenty seconds on a quiet host; one with much else to do took eight times as long to boot a guest."""
COMMAND_LIMIT_S = 1200
"""An installation, which is the longest, took ten minutes on such a host."""
POLL_S = 0.5
TREE = Path(__file__).resolve().parents[2]
NOT_COPIED = (".git", ".venv", ".vagrant", "build", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
"""Of the tree; the Vagrantfile leaves out the same."""
RSYNC = ("rsync", "--archive", "--delete", "--mkpath", *(f"--exclude={name}" for name in NOT_COPIED))
PROVISION = "/vagrant/deploy/provision.sh"
CONFIGURATION = "/etc/slackwater/slackwater.toml"
RESTART = "systemctl restart slackwater"
SERVICE_LOG = "journalctl --unit slackwater --lines 60 --output cat"
SERVICE_LIMIT_S = 180
"""systemd waits a second; an emulated machine needs several to restore and to start, on a busy host a minute each."""
SCRAPE = 'import urllib.request as r; print(r.urlopen("http://127.0.0.1:9753/metrics").read().decode())'
"""For the Python of a machine: nothing else in it speaks HTTP."""


@dataclass(frozen=True)
class Machine:
    """It runs. `log`: what its kernel and systemd say."""

    ssh: tuple[str, ...]
    log: Path

    def run(self, command: str, *, limit_s: float = COMMAND_LIMIT_S) -> subprocess.CompletedProcess[str]:
        """A bash command, as root. Its standard error is with its output. VmError, with the log: no end of it."""
        try:
            return subprocess.run(
                [*self.ssh, "sudo", "bash", "-s"],
                input=command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise VmError(f"no end of {command!r} in {limit_s} s; the machine's log:\n{self.last_words()}") from error

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.said().splitlines()[-40:])

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for(self, condition: str) -> None:
        """Until this bash command succeeds, which is tried each second."""
        done = self.run(f"for i in $(seq {SERVICE_LIMIT_S}); do {condition} && exit 0; sleep 1; done; exit 1")
        assert done.returncode == 0, (condition, self.run(f"slackwater status; {SERVICE_LOG}").stdout)

    @contextlib.contextmanager
    def configured(self, settings: str) -> Iterator[None]:
        """The service with other settings than the installed ones."""
        done = self.run(f"cp {CONFIGURATION} /tmp/right; echo {shlex.quote(settings)} >{CONFIGURATION}; {RESTART}")
        try:
            assert done.returncode == 0, self.run(SERVICE_LOG).stdout
            yield
        finally:
            self.run(f"cp /tmp/right {CONFIGURATION}; {RESTART}")

    def copy(self, tree: Path, folder: str) -> None:
        """The tree into a folder of the machine, as rsync does for Vagrant: what is there no more is removed."""
        over = ["--rsync-path=sudo rsync", f"--rsh={' '.join(self.ssh[:-1])}"]
        subprocess.run([*RSYNC, *over, f"{tree}/", f"{self.ssh[-1]}:{folder}/"], check=True)


def copy_of_tree(folder: Path) -> Path:
    """Where a test may change it, as a fresh clone would be: nothing is built."""
    subprocess.run([*RSYNC, "--exclude=dist", "--exclude=*.so", "--exclude=*.o", f"{TREE}/", f"{folder}/"], check=True)
    return folder


def add_pytest(tree: Path) -> None:
    """pytest's wheels into the tree's bundle, for a machine that cannot fetch them."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    pip += ["--constraint", str(tree / "requirements-dev.txt"), "--dest", str(tree / "dist"), "pytest"]
    subprocess.run(pip, check=True)


HAS = (EVERY_GUEST_HAS | NONE.has) - {"machine"}
KERNEL_TESTS = f"""
set -e
systemctl stop slackwater # it would take CPU time from what they measure
rm -rf /root/kernel-tests && mkdir /root/kernel-tests && cd /root/kernel-tests
cp -r /vagrant/tests /vagrant/pyproject.toml .
PYTHONPATH=$(echo /vagrant/dist/pip-*.whl) python3 -m pip install --quiet --disable-pip-version-check --no-index \\
    --find-links /vagrant/dist --target /root/pytest --root-user-action ignore pytest
export PYTHONPATH=/root/pytest SLACKWATER_KERNEL_TESTS=1 SLACKWATER_HAS="{words(HAS)}"
/opt/slackwater/bin/python -m pytest -p no:cacheprovider tests/kernel -m short
"""
"""For a machine with the tree and a bundle in /vagrant: the tests of the kernel, by what is installed there."""


def make(tree: Path, *words: str) -> None:
    """`make`, as called from a shell and not from the make that runs these tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", *words], cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def provisioned(hardware: machines.Machine = NONE) -> Iterator[Machine]:
    """Booted, with the tree and a bundle in /vagrant, no compiler and no network, and provisioned as by Vagrant."""
    make(TREE, "bundle")
    add_pytest(TREE)
    with booted(hardware) as machine:
        machine.copy(TREE, "/vagrant")
        done = machine.run(PROVISION)
        assert done.returncode == 0, done.stdout
        yield machine


@contextlib.contextmanager
def booted(hardware: machines.Machine = NONE) -> Iterator[Machine]:
    """Up, with ssh answering and systemd done; ended at the end of the block, where its kernel's log is searched."""
    place = box.folder()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="slackwater-machine-") as scratch:
        machine = Machine(_ssh(place / "key", port, scratch), Path(scratch) / "log")
        command = [
            *emulator.command(),
            *emulator.hardware(place / "vmlinuz", hardware),
            *("-machine", "q35", "-m", str(GUEST_MEMORY_MB)),
            *("-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{machine.log}"),
            *("-initrd", str(place / "initrd.img")),
            *("-append", " ".join(("root=LABEL=root ro net.ifnames=0", *KERNEL_ARGUMENTS))),
            *("-drive", f"file={place / 'box.img'},if=virtio,snapshot=on,cache=unsafe"),
            *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
            *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"),
        ]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": scratch}) as qemu:
            try:
                _wait_until_up(machine, qemu)
                yield machine
            finally:
                qemu.kill()
        splat = verdict.first_splat(machine.said())
        assert not splat, f"the kernel's log has: {splat}"


def _wait_until_up(machine: Machine, qemu: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + BOOT_LIMIT_S
    while time.monotonic() < deadline_s and qemu.poll() is None:
        with contextlib.suppress(VmError):
            if machine.run("systemctl is-system-running --wait", limit_s=30).stdout.strip() in ("running", "degraded"):
                return
        time.sleep(POLL_S)
    raise VmError(f"the machine is not up after {BOOT_LIMIT_S} s; its log:\n{machine.last_words()}")


def _ssh(key: Path, port: int, scratch: str) -> tuple[str, ...]:
    """One connection for all commands: an emulated machine needs a second for each."""
    options = {
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "ConnectTimeout": "10",
        "ControlMaster": "auto",
        "ControlPersist": "60",
        "ControlPath": f"{scratch}/ssh",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ("ssh", "-F", "/dev/null", "-i", str(key), "-p", str(port), *words, "vagrant@127.0.0.1")
