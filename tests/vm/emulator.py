"""Which QEMU, and whether this host's hardware acceleration works: tried, because /dev/kvm may exist and not."""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.vm import initramfs, rdt_image
from tests.vm.fetch import VmError, cache_folder, unpacked
from tests.vm.kernels import EMULATOR_PACKAGES, EMULATOR_PROGRAM, GUEST_CPUS, OLDEST_EMULATOR
from tests.vm.machines import Machine

HOST_DATA = ("/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu")
ALIVE_LIMIT_S = 20
EMULATED = "tcg,thread=multi"
ENDS_WITH_US = ("setpriv", "--pdeathsig=KILL", "--")
"""However we end."""


@functools.cache
def command() -> tuple[str, ...]:
    """QEMU and where its firmware is: the host's, or if that is too old the one of the host's backports."""
    host = shutil.which(EMULATOR_PROGRAM)
    if host is None:
        raise VmError(f"no {EMULATOR_PROGRAM}: apt-get install qemu-system-x86")
    if _version(host) >= OLDEST_EMULATOR:
        return (*ENDS_WITH_US, host)
    folder = unpacked("qemu", f"{_codename()}-backports", EMULATOR_PACKAGES)
    program = str(folder / "usr/bin" / EMULATOR_PROGRAM)
    if _version(program) < OLDEST_EMULATOR:
        raise VmError(
            f"QEMU {'.'.join(map(str, OLDEST_EMULATOR))} or newer is needed; {program} is older or cannot run"
        )
    data = [str(folder / "usr/share/qemu"), str(folder / "usr/share/seabios"), *HOST_DATA]
    return (*ENDS_WITH_US, program, *(word for path in data for word in ("-L", path)))


def hardware(image: Path, machine: Machine) -> tuple[str, ...]:
    """Arguments for CPUs and kernel. What RDT is made of is emulated in any case."""
    if machine.rdt is None:
        return (*accelerated(image), "-smp", str(GUEST_CPUS), "-kernel", str(image))
    patched = rdt_image.patched(image, machine.rdt)
    return ("-accel", EMULATED, "-cpu", machine.cpu, "-smp", machine.topology, "-kernel", str(patched))


def accelerated(image: Path) -> tuple[str, ...]:
    """Arguments for the CPU: the hardware's if a guest with this kernel image really lives on it, else an emulated one.

    The answer is remembered until the host is booted anew.
    """
    if _kvm_works(image):
        return ("-accel", "kvm", "-cpu", "host")
    return ("-accel", EMULATED, "-cpu", "max")


def _kvm_works(image: Path) -> bool:
    if platform.machine() != "x86_64" or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = cache_folder() / f"kvm-{boot}"
    if not answer.exists():
        for old in cache_folder().glob("kvm-*"):
            old.unlink(missing_ok=True)
        answer.write_text("yes" if lives(image, "-accel", "kvm", "-cpu", "host") else "no")
    return answer.read_text() == "yes"


def lives(image: Path, *cpu: str) -> bool:
    """Whether a guest of nothing but busybox reaches its process 1, twice."""
    return all(_lives_once(image, *cpu) for _ in range(2))


def _lives_once(image: Path, *cpu: str) -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        first_root = Path(scratch) / "initramfs"
        first_root.write_bytes(initramfs.build(None, (), None))
        arguments = ["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-m", "512", "-smp", "2"]
        arguments += ["-kernel", str(image), "-initrd", str(first_root), "-append", "console=ttyS0 quiet panic=-1"]
        try:
            done = subprocess.run(
                [*command(), *cpu, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ALIVE_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return b"guest: alive" in done.stdout


def _version(program: str) -> tuple[int, ...]:
    """Of a QEMU; () if it does not start."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else ()


def _codename() -> str:
    """Of the host's Debian release: what its backports are built for."""
    name = platform.freedesktop_os_release().get("VERSION_CODENAME")
    if name is None:
        raise VmError("not a Debian release: install QEMU 10 or newer")
    return name
