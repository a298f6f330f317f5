"""What a host may lack, and what may happen to a running agent: counted and said in one line, never a wrong number."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.kernel import bpf_sys
from tests.kernel.needs import needs
from tests.kernel.workloads import Group, Workloads
from tests.system.command import SLACKWATER, config_file, document, idle, quiet, running, slackwater, wait_for

pytestmark = [needs("root", "cgroup:cpu"), pytest.mark.slow]

NOT_ROOT = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NO_CAPABILITIES = ("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", "--inh-caps=-bpf,-perfmon,-sys_admin")


def covered(path: str) -> tuple[str, ...]:
    """A wrapper in whose own mount namespace the directory is empty."""
    return ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {path} && exec "$@"', "sh")


NO_BTF = covered("/sys/kernel/btf")
EMPTY_CGROUPS = covered("/sys/fs/cgroup")
NO_CGROUPS = ("unshare", "--mount", "sh", "-c", 'umount --recursive /sys/fs/cgroup && exec "$@"', "sh")


@pytest.mark.parametrize(
    ("wrapper", "why", "mend"),
    [
        (NOT_ROOT, "user id 65534 lacks CAP_BPF", "run as root"),
        (NO_CAPABILITIES, "user id 0 lacks CAP_BPF", "run as root"),
        (NO_BTF, "the kernel has no BTF (/sys/kernel/btf/vmlinux)", "CONFIG_DEBUG_INFO_BTF"),
    ],
    ids=["not root", "no capabilities", "no BTF"],
)
def test_without_bpf_it_works_from_files_says_so_in_a_line_and_doctor_why(
    wrapper: tuple[str, ...], why: str, mend: str
) -> None:
    reads = [*wrapper, sys.executable, "-c", f"open({SLACKWATER!r}).close(); import agent"]
    if subprocess.run(reads, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user cannot read the tree that is tested, or not start the interpreter")
    shown = slackwater("snapshot", "--seconds", "0.5", "--json", wrapper=wrapper)
    assert (shown.returncode, len(shown.stderr.splitlines())) == (0, 1), shown.stderr
    assert shown.stderr.startswith("waits are read from /proc, not by BPF (slackwater doctor tells more): ")
    found = document(shown.stdout)
    root = next(group for group in found["groups"] if group["path"] == "/")
    assert (found["source"], root["wait"]["p99_ns"]) == ("cgroupfs", None)
    assert root["wait"]["count"] > 0
    doctor = slackwater("doctor", wrapper=wrapper)
    assert (doctor.returncode, doctor.stderr) == (0, "")
    (line, after) = re.findall(r"degraded  run-queue waits by BPF.*?\): (.*)\n +to mend it: (.*)", doctor.stdout)[0]
    assert line.startswith(why)
    assert mend in after


@pytest.mark.parametrize("words", [["snapshot", "--seconds", "0.5"], ["run"]], ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        (EMPTY_CGROUPS, r"/sys/fs/cgroup\S*: No such file or directory \[ENOENT\]"),
        (NO_CGROUPS, r"\S+: no cgroup hierarchy with the cpu controller is mounted"),
    ],
    ids=["empty", "not mounted"],
)
def test_without_cgroups_it_is_one_line_and_exit_1_and_doctor_names_it(
    words: list[str], wrapper: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    refused = slackwater(*words, *quiet(tmp_path), wrapper=wrapper)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(rf"slackwater: {said}\n", refused.stderr), refused.stderr
    doctor = slackwater("doctor", wrapper=wrapper)
    assert (doctor.returncode, doctor.stderr) == (1, "")
    assert len(re.findall(r"^missing .*\n +to mend it: \S", doctor.stdout, re.MULTILINE)) == 1
    assert "waits by BPF" not in doctor.stdout, "it was not tried"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"agent.tikc_s = 1", "agent.tikc_s"),
        (b'agent.tick_s = "1s"', "agent.tick_s = '1s'"),
        (b"agent.tick_s = 0.01", "agent.tick_s = 0.01: allowed is 0.1 to 60 s"),
        (b"probe.ring_kib_per_8_cpus = 65", "probe.ring_kib_per_8_cpus = 65"),
        (b"\x7fELF\x02\x01\xff\xfe", "not a text file"),
        (b"agent = [", "not TOML"),
        (None, "no such file"),
    ],
    ids=["unknown key", "wrong unit", "out of range", "not in the list", "binary", "not TOML", "missing"],
)
@pytest.mark.parametrize("command", ["run", "snapshot", "doctor"])
def test_a_wrong_configuration_is_one_line_and_exit_2(
    command: str, content: bytes | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "slackwater.toml"
    if content is not None:
        file.write_bytes(content)
    refused = slackwater(command, "--config", file)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert refused.stderr.startswith(f"slackwater: {file}: ")
    assert said.replace("'", "") in refused.stderr.replace('"', "").replace("'", "")


def test_a_port_that_is_taken_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = slackwater("run", "--config", config_file(tmp_path, f'metrics.address = "{address}"'))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert address in refused.stderr
    assert "[EADDRINUSE]" in refused.stderr


def test_a_program_that_is_stopped_for_seconds_makes_up_for_nothing(tmp_path: Path) -> None:
    """SIGSTOP for 3 s: one long tick, not 15 short ones, and no machine of more cores than it has."""
    with running("run", *quiet(tmp_path, "agent.tick_s = 0.2")) as command:
        command.wait_for_line("source=")
        command.popen.send_signal(signal.SIGSTOP)
        time.sleep(3)
        before = len(ticks_of(command.lines))
        command.popen.send_signal(signal.SIGCONT)
        wait_for(lambda: len(ticks_of(command.lines)) >= before + 5 or None, "five ticks")
        command.stop(signal.SIGTERM)
    times_s, cores = zip(*ticks_of(command.lines)[before - 1 :], strict=True)
    late_s, next_s = (later - earlier for earlier, later in list(pairwise(times_s))[:2])
    assert late_s > 2
    assert next_s > 0.1
    assert max(cores) <= 1.2 * (os.cpu_count() or 1)


def ticks_of(lines: list[str]) -> list[tuple[float, float]]:
    """Time of day in s, and used cores, of each logged tick."""
    found = re.findall(r"(\d+):(\d+):(\d+),(\d+) INFO .* used_cores=([\d.]+)", "".join(lines))
    return [(int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000, float(cores)) for h, m, s, ms, cores in found]


@pytest.mark.alone
@pytest.mark.parametrize("probe", ["true", "false"])
def test_groups_that_come_and_go_all_the_time_are_no_error(probe: str, tree: Group, tmp_path: Path) -> None:
    config = quiet(tmp_path, f"probe.enabled = {probe}\nagent = {{tick_s = 0.1, rescan_s = 1, slow_every_ticks = 1}}")
    with running("run", *config) as command:
        command.wait_for_line("source=")
        end_s = time.monotonic() + 3
        number = 0
        while time.monotonic() < end_s:
            groups = [tree.child(f"g{number}-{i}") for i in range(20)]
            number += 1
            time.sleep(0.003)
            for group in groups:
                group.path.rmdir()
        ticks = len(command.lines)
        wait_for(lambda: len(command.lines) > ticks or None, "a tick")
        command.stop(signal.SIGTERM)
    assert command.popen.returncode == 0
    unexpected = [
        line for line in command.lines if not re.search(r"source=(bpf|cgroupfs) |sampling: one wait in", line)
    ]
    assert unexpected == []


@pytest.mark.alone
@pytest.mark.parametrize(("probe", "source"), [("true", "bpf"), ("false", "cgroupfs")])
def test_ten_thousand_groups(probe: str, source: str, tree: Group, tmp_path: Path) -> None:
    """All are there, in less memory than 128 MiB, and the machine has no more cores than it has."""
    for i in range(10_000):
        (tree.path / f"g{i}").mkdir()
    words = ["snapshot", "--seconds", "2", "--json", *quiet(tmp_path, f"probe.enabled = {probe}")]
    shown = document(slackwater(*words).stdout)
    assert shown["source"] == source
    assert sum("/g" in group["path"] for group in shown["groups"]) >= 10_000
    assert shown["agent"]["rss_bytes"] <= 128 << 20
    assert shown["node"]["used_cores"] <= 1.1 * shown["node"]["cpus"]


@pytest.mark.alone
@needs("bpf", "cpus:2")
def test_a_ring_that_overflows_is_counted_and_sampling_follows_the_load(
    tree: Group, workloads: Workloads, tmp_path: Path
) -> None:
    """The smallest ring, emptied only once a tick, two pairs of processes that switch as fast as they can."""
    text = "probe.ring_kib_per_8_cpus = 64\nbudget.cpu_pct = 100\nagent = {tick_s = 0.2, drain_interval_ms = 1000}"
    with running("run", *quiet(tmp_path, text)) as command:
        command.wait_for_line("source=bpf")
        pairs = [workloads.start(tree.child(f"p{cpu}"), cpu, "pingpong", 400_000) for cpu in (0, 1)]
        command.wait_for_line("samples dropped")
        for pair in pairs:
            pair.finish(idle)
        command.wait_for_line("10 calm ticks")
        wait_for(lambda: command.lines[-1].count("sampling=1 ") or None, "every wait")
        command.stop(signal.SIGTERM)
    factors = [int(factor) for line in command.lines for factor in re.findall(r" sampling=(\d+)", line)]
    assert max(factors) > 1
    assert all(later in (factor, factor * 2, factor // 2) for factor, later in pairwise(factors))
    lost = [int(lost) for line in command.lines for lost in re.findall(r"lost_samples=(\d+)", line)]
    assert lost == sorted(lost)
    assert lost[-1] == lost_by(command.lines) > 0


def lost_by(lines: list[str]) -> int:
    """What the lines that announce a higher factor sum up to is at most what was lost; the last total counts."""
    announced = sum(int(number) for line in lines for number in re.findall(r": (\d+) samples dropped", line))
    total = max(int(lost) for line in lines for lost in re.findall(r"lost_samples=(\d+)", line))
    assert announced <= total
    return total


def test_a_tree_of_odd_names_is_shown(tree: Group, tmp_path: Path) -> None:
    """Escape, bytes that are no UTF-8, wide characters (the kernel refuses newlines), also where only ASCII can be."""
    names = [b"esc\x1b[31m", b"\xff\xfe", "水".encode(), b"x" * 200]
    for name in names:
        (tree.path / name.decode("utf-8", "surrogateescape")).mkdir()
    done = subprocess.run(
        [SLACKWATER, "snapshot", "--seconds", "0.2", *quiet(tmp_path)],
        env={"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "ascii", "COLUMNS": "300"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout
    assert sum(tree.path.name.encode() in line for line in done.stdout.splitlines()) >= len(names)


def test_nothing_of_ours_stays_loaded_when_the_agent_is_killed(tmp_path: Path) -> None:
    with running("run", *quiet(tmp_path)) as command:
        command.wait_for_line("source=")
        ids = bpf_sys.program_ids_of(command.pid)
        command.stop(signal.SIGKILL)
    still: Callable[[], bool | None] = lambda: None if any(map(bpf_sys.program, ids)) else True  # noqa: E731
    assert wait_for(still, "programs gone")
