"""libvirt on a host that runs none, or whose own is not to be touched: started by hand in namespaces of its own.

It has its own network without a way out, its own /etc/libvirt, /var/lib/libvirt and /run/libvirt, and its own process
numbers: with the first of them everything ends that libvirt or a user of it has started.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.vm.emulator import ENDS_WITH_US
from tests.vm.fetch import VmError

START_LIMIT_S = 30
FOLDERS = ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/run/libvirt")

# As root without any of what libvirt's packages set up on a host: users, AppArmor, cgroups, its log daemon.
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""
LIBVIRTD_CONF = """\
unix_sock_group = "root"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "2:stderr"
"""
USER = "libvirt-qemu"
"""libvirtd as Debian builds it looks up this user and group, even if told to take others."""

SCRIPT = """\
set -e
for file in /etc/passwd /etc/group; do mount --bind "$scratch$file" $file; done
ip link set lo up
for folder in "$@"; do
	mkdir -p "$scratch$folder" "$folder"
	mount --bind "$scratch$folder" "$folder"
done
libvirtd --pid-file /run/libvirt/libvirtd.pid
exit
"""


@contextlib.contextmanager
def running() -> Iterator[tuple[str, ...]]:
    """The beginning of a command line: what follows is run where libvirt is."""
    with tempfile.TemporaryDirectory(prefix="slackwater-libvirt-") as scratch:
        etc = Path(scratch) / "etc/libvirt"
        etc.mkdir(parents=True)
        (etc / "qemu.conf").write_text(QEMU_CONF)
        (etc / "libvirtd.conf").write_text(LIBVIRTD_CONF)
        for name, line in (("passwd", f"{USER}:x:64055:64055::/:/bin/false"), ("group", f"{USER}:x:64055:")):
            (etc.parent / name).write_text(f"{Path('/etc', name).read_text()}{line}\n")
        apart = [
            *ENDS_WITH_US,
            "unshare",
            "--net",
            "--mount",
            "--propagation=private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        with (
            (Path(scratch) / "log").open("w") as log,
            subprocess.Popen(
                [*apart, "bash", "-c", SCRIPT, "bash", *FOLDERS],
                env={**os.environ, "scratch": scratch, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            ) as first,
        ):
            try:
                inside = _wait_until_up(first, Path(scratch) / "log")
                yield inside
            finally:
                first.kill()


def _wait_until_up(first: subprocess.Popen[bytes], log: Path) -> tuple[str, ...]:
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s and first.poll() is None:
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        if children:
            inside = ("nsenter", f"--target={children[0]}", "--mount", "--net", "--pid", "--")
            version = [*inside, "virsh", "--quiet", "--connect", "qemu:///system", "version"]
            if subprocess.run(version, capture_output=True, check=False).returncode == 0:
                return inside
        time.sleep(0.25)
    raise VmError(f"libvirt does not start: {log.read_text()[-2000:]}")
