"""Boot a kernel of the matrix on this machine's own root and run a job in it.

The guest has the host's root read-only over 9p with memory above it, cgroup v2 (or v1), and a copy of the tree at the
tree's path (initramfs.py, init.sh). Job, output, exit status and kernel log are files of one folder of the host's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm import emulator, initramfs, machines
from tests.vm.fetch import VmError, unpacked
from tests.vm.kernels import GUEST_MEMORY_MB, GUEST_MODULES, KERNEL_ARGUMENTS, KERNELS, Kernel
from tests.vm.machines import NONE, Machine

TREE = Path(__file__).resolve().parents[2]
VENV = Path(sys.prefix)
POLL_S = 0.1


@dataclass(frozen=True)
class Run:
    """What a guest left. `status`: of the job, None: it did not end; `files`: what else it put into /run/results."""

    status: int | None
    timed_out: bool
    output: str
    log: str
    emulator_said: str
    seconds: float
    files: dict[str, str]


@dataclass(frozen=True)
class Image:
    """A kernel in the cache."""

    image: Path
    modules: Path


def kernel(name: str) -> Kernel:
    if name not in KERNELS:
        raise VmError(f"no kernel {name!r}; there are: {' '.join(KERNELS)}")
    return KERNELS[name]


def fetched(kernel: Kernel) -> Image:
    folder = unpacked(f"kernel-{kernel.name}", kernel.suite, [kernel.package])
    (modules,) = [path.parent for path in folder.glob("**/lib/modules/*/modules.dep")]
    (image,) = [*folder.glob("boot/vmlinuz-*"), *modules.glob("vmlinuz")]  # beside the modules: from 7.0 on
    return Image(image, modules)


def run(
    kernel: Kernel,
    job: str,
    limit_s: float,
    echo: Callable[[str], object] = lambda text: None,
    machine: Machine = NONE,
) -> Run:
    """Run `job`, a bash script, as root. After `limit_s` the guest is ended. `echo` gets the output as it comes."""
    with _booted(kernel, machine, job) as (folder, command):
        begin = time.monotonic()
        output = _Follower(folder / "output", echo)
        with subprocess.Popen(
            [*command, "-serial", f"file:{folder / 'log'}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as qemu:
            try:
                while qemu.poll() is None and time.monotonic() - begin < limit_s:
                    time.sleep(POLL_S)
                    output.follow()
                timed_out = qemu.poll() is None
            finally:
                qemu.kill()  # also when we are interrupted; an ended process does not mind
            said, _ = qemu.communicate()
        output.follow()
        status = _read(folder / "status").strip()
        known = {"output", "log", "status", "job"}
        return Run(
            status=int(status) if status else None,
            timed_out=timed_out,
            output=output.text,
            log=_read(folder / "log").replace("\r", ""),
            emulator_said=said.strip(),
            seconds=time.monotonic() - begin,
            files={path.name: _read(path) for path in folder.iterdir() if path.is_file() and path.name not in known},
        )


def shell(kernel: Kernel, machine: Machine = NONE) -> int:
    """A root shell in the guest on this terminal. Its end is the guest's; Ctrl-A X ends it in any case."""
    job = f"cd {TREE}; stty sane; exec bash -i"
    with _booted(kernel, machine, job, "vm.tty=ttyS0", "loglevel=4") as (_, command):
        return subprocess.run([*command, "-serial", "mon:stdio"], check=False).returncode


@contextmanager
def _booted(kernel: Kernel, machine: Machine, job: str, *kernel_arguments: str) -> Iterator[tuple[Path, list[str]]]:
    """The results' folder, with the job in it, and QEMU's command line without its serial line."""
    image = fetched(kernel)
    machines.check(machine, kernel)
    hardware = emulator.hardware(image.image, machine)
    with tempfile.TemporaryDirectory(prefix="slackwater-vm-") as scratch:
        results = Path(scratch) / "results"
        results.mkdir()
        script = results / "job"
        script.write_text(
            f"#!/bin/bash\nexport HOME=/tmp LANG=C.UTF-8 PATH={VENV}/bin:/usr/sbin:/usr/bin:/sbin:/bin\n{job}\n"
        )
        script.chmod(0o755)
        first_root = Path(scratch) / "initramfs"
        first_root.write_bytes(initramfs.build(image.modules, GUEST_MODULES, TREE))
        places = (f"vm.tree={TREE}", f"vm.venv={VENV}", f"vm.modules={image.modules.parent}")
        append = " ".join((*KERNEL_ARGUMENTS, *places, f"vm.cgroups={machine.cgroups}", *kernel_arguments))
        yield (
            results,
            [
                *emulator.command(),
                *hardware,
                *("-m", str(GUEST_MEMORY_MB), "-nodefaults", "-display", "none", "-no-reboot"),
                *("-initrd", str(first_root), "-append", append),
                *_share("/", "host", ",readonly=on,multidevs=remap"),
                *_share(str(results), "results", ""),
            ],
        )


def _share(path: str, tag: str, options: str) -> tuple[str, str]:
    return "-virtfs", f"local,path={path},mount_tag={tag},security_model=none{options}"


class _Follower:
    """Passes on what has been added to a file."""

    def __init__(self, path: Path, echo: Callable[[str], object]) -> None:
        self._path, self._echo, self._offset = path, echo, 0
        self.text = ""

    def follow(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        if added:
            self._offset += len(added)
            text = added.decode(errors="replace")
            self.text += text
            self._echo(text)


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
