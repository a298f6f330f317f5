"""The harness itself. What boots a guest does so only when asked to (make test-vm): it takes minutes."""

from __future__ import annotations

import gzip
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vm import __main__ as cli
from tests.vm import emulator, guest, initramfs, verdict
from tests.vm.fetch import VmError
from tests.vm.kernels import KERNELS, Kernel
from tests.vm.machines import MACHINES, Machine
from tests.vm.verdict import End, judge

boots = pytest.mark.skipif(os.environ.get("SLACKWATER_VM_TESTS") != "1", reason="boots guests: make test-vm")
KERNEL = KERNELS["6.1"]
LIMIT_S = 240
"""Eight seconds are enough on a quiet machine; a busy one took a minute to boot a guest."""

PANIC = """\
[    8.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009
[    8.2] CPU: 0 PID: 1 Comm: init
"""
WARNING = "[   12.0] ------------[ cut here ]------------\n[   12.0] WARNING: CPU: 1 PID: 7 at kernel/sched/core.c:1\n"

# Process 1 is immune to signals, but not to its own faults: its code becomes UD2.
KILL_INIT = """
import re
maps, memory = open("/proc/1/maps").read(), open("/proc/1/mem", "r+b", 0)
begin, end = (int(word, 16) for word in re.search(r"^(\\w+)-(\\w+) r-xp", maps, re.MULTILINE).groups())
memory.seek(begin)
memory.write(b"\\x0f\\x0b" * ((end - begin) // 2))
"""


def report(*cases: str) -> str:
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


def test_finished_without_splat_is_well() -> None:
    judged = judge(0, "[    0.0] Linux version 6.1\n", timed_out=False)
    assert judged.end is End.FINISHED
    assert not judged.faults


@pytest.mark.parametrize(
    ("status", "log", "timed_out", "end"),
    [
        (None, PANIC, False, End.PANICKED),
        (None, PANIC, True, End.PANICKED),
        (None, "", True, End.HUNG),
        (0, "", True, End.HUNG),
        (None, "", False, End.DIED),
    ],
    ids=["panic", "panic and hang", "hang", "hang on the way out", "gone"],
)
def test_end_that_is_none_is_a_fault(status: int | None, log: str, timed_out: bool, end: End) -> None:
    judged = judge(status, log, timed_out=timed_out)
    assert judged.end is end
    assert end.value in judged.faults[0]


def test_splat_is_a_fault_of_a_job_that_succeeded() -> None:
    judged = judge(0, WARNING, timed_out=False)
    assert judged.faults == ("the kernel's log has: [   12.0] WARNING: CPU: 1 PID: 7 at kernel/sched/core.c:1",)


@pytest.mark.parametrize(
    "line",
    [
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "Oops: 0000 [#1] PREEMPT SMP NOPTI",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [pytest:211]",
        "INFO: task pytest:211 blocked for more than 120 seconds.",
        "WARNING: possible circular locking dependency detected",
    ],
)
def test_splats_are_known(line: str) -> None:
    assert verdict.first_splat(f"[    1.0] systemd\n[    2.0] {line}\n[    2.1] Call Trace:\n").startswith("[    2.0]")


def test_run_of_skips_only_is_a_fault() -> None:
    skipped = verdict.tests_of(report('<testcase classname="a" name="b"><skipped message="no BTF"/></testcase>'))
    assert skipped == verdict.Tests(0, 0, {"a::b": "no BTF"})
    assert judge(0, "", timed_out=False, tests=skipped).faults == ("no test was run",)
    ran = verdict.tests_of(report('<testcase name="a"/>', '<testcase name="b"><failure/></testcase>'))
    assert (ran.ran, ran.failed) == (2, 1)
    assert not judge(0, "", timed_out=False, tests=ran).faults


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    """modules.dep lists what is nearest first; what is built in is not loaded; each is loaded once."""
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    (tmp_path / "modules.dep").write_text("a/9p.ko.xz: b/9pnet.ko.xz c/netfs.ko.xz\nb/9pnet.ko.xz:\nc/netfs.ko.xz:\n")
    order = [path.name for path in initramfs.load_order(tmp_path, ["virtio_pci", "9pnet", "9p"])]
    assert order == ["9pnet.ko.xz", "netfs.ko.xz", "9p.ko.xz"]
    with pytest.raises(VmError, match="no module overlay"):
        list(initramfs.load_order(tmp_path, ["overlay"]))


def test_archive_is_one_that_cpio_reads() -> None:
    """Fields at their offsets, name and content each padded to four bytes."""
    archive = initramfs.Archive()
    archive.add("bin/x", b"12345", 0o755, mtime_s=7)
    data = gzip.decompress(archive.compressed())
    folder, file = data[:116], data[116:]
    assert folder[:6] + folder[110:113] == b"070701bin"
    mode, mtime_s, size = int(file[14:22], 16), int(file[46:54], 16), int(file[54:62], 16)
    assert (mode, mtime_s, size) == (stat.S_IFREG | 0o755, 7, 5)
    assert file[110:121] == b"bin/x\x0012345"
    assert len(data) % 4 == 0


def test_wrong_kernel_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test", "--kernel", "5.4"]) == 2
    assert capsys.readouterr().err == f"no kernel '5.4'; there are: {' '.join(KERNELS)}\n"


@pytest.mark.parametrize(
    "error", [VmError("no QEMU"), OSError(28, "No space left on device")], ids=["VmError", "OSError"]
)
def test_a_guest_that_cannot_be_had_keeps_no_other_and_is_said(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a failure, and of all machines with RDT each is tried."""

    def tests(kernel: Kernel, machine: Machine, *_: object) -> tuple[str, bool]:
        if machine.name == "few":
            raise error
        return f"{kernel.name} {machine.name} passed", True

    monkeypatch.setattr(cli, "tests", tests)
    assert cli.main(["test", "--machine", "all"]) == 2
    said = capsys.readouterr().out
    assert f"few: NOT RUN: {error}\n" in said
    number = sum(1 for machine in MACHINES.values() if machine.rdt)
    assert said.count("passed") == number - 1
    assert f"!!! 1 of {number} guests were NOT RUN" in said


@pytest.mark.parametrize("program", ["qemu-system-x86_64", "busybox"])
def test_missing_program_is_one_line(program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It names the package to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    emulator.command.cache_clear()
    with pytest.raises(VmError, match=rf"no {program}: apt-get install \S+$"):
        initramfs.build(None, (), None) if program == "busybox" else emulator.command()


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A first fetch that fails leaves nothing in the cache."""
    apt = tmp_path / "apt-get"
    apt.write_text('#!/bin/sh\n[ "$1" = indextargets ] && echo http://mirror.test/debian/ && exit\n'
                   'echo "E: Temporary failure resolving" >&2; exit 100\n')  # fmt: skip
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(VmError, match="is there a network") as caught:
        guest.fetched(KERNEL)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache/slackwater").iterdir()) == []


@boots
def test_output_and_status_come_back() -> None:
    """On the guest's kernel, in the tree's folder, with the tree's Python."""
    done = guest.run(KERNEL, f"cd {guest.TREE}; uname -r; python -c 'import sys; print(sys.prefix)'; exit 7", LIMIT_S)
    assert done.status == 7
    release, prefix = done.output.splitlines()
    assert release.startswith("6.1.")
    assert prefix == str(guest.VENV)


@boots
def test_guest_cannot_change_the_host(tmp_path: Path) -> None:
    """What a guest writes outside its results is gone with it."""
    victim = guest.TREE / "pyproject.toml"
    before = victim.read_bytes()
    done = guest.run(KERNEL, f"echo lost >{victim} && echo lost >/etc/slackwater-guest && cat {victim}", LIMIT_S)
    assert done.output == "lost\n"
    assert victim.read_bytes() == before
    assert not Path("/etc/slackwater-guest").exists()


@boots
@pytest.mark.parametrize(
    ("job", "limit_s", "end", "last"),
    [
        (f"echo begun; python -c '{KILL_INIT}'", LIMIT_S, End.PANICKED, "Attempted to kill init"),
        ("echo begun; echo c >/proc/sysrq-trigger", LIMIT_S, End.PANICKED, "sysrq triggered crash"),
        ("echo begun; echo 'asleep' >/dev/kmsg; sleep 1000", LIMIT_S / 2, End.HUNG, "asleep"),
        ("echo begun; busybox poweroff -f; sleep 1000", LIMIT_S, End.DIED, "Power down"),
    ],
    ids=["init killed", "panic", "hang", "power off"],
)
def test_bad_end_is_reported_as_such(job: str, limit_s: float, end: End, last: str) -> None:
    """Within the limit, with what it had said, and with the kernel's log."""
    done = guest.run(KERNEL, job, limit_s)
    judged = judge(done.status, done.log, timed_out=done.timed_out)
    assert judged.end is end, done.log
    assert done.output == "begun\n"
    assert last in done.log
    assert done.seconds < limit_s + 5


@boots
def test_hanging_test_names_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """pytest prints the stack of the test that does not end before the guest is cut off."""
    words = ["--limit", "150", "--", "tests/vm/hang_on_purpose.py"]
    assert cli.main(["test", "--kernel", KERNEL.name, *words]) == 1
    said = capsys.readouterr().out
    assert "in test_that_never_ends" in said
    assert End.HUNG.value in said


@boots
def test_guest_ends_with_its_harness() -> None:
    """SIGTERM: QEMU is gone, and so is the folder of its results."""
    command = [sys.executable, "-m", "tests.vm", "run", KERNEL.name, "--", "sh", "-c", "echo begun; sleep 1000"]
    with subprocess.Popen(command, cwd=guest.TREE, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == "begun\n"
        (qemu,) = children_of(harness.pid)
        harness.terminate()
        assert harness.wait(10) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{qemu}").exists()


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
