"""docs/support.md: what each kernel offers to the agent, found out on that kernel.

`python -m tests.vm.support` prints the facts of the kernel it runs on; `python -m tests.vm support` boots every
kernel of the matrix, asks each, and writes the document. test_support.py holds it to what is true.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent import host
from native.probe import Probe, ProbeOptions

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "support.md"

KNOBS = {
    "quota": ("cpu.max", "cpu.cfs_quota_us"),
    "burst": ("cpu.max.burst", "cpu.cfs_burst_us"),
    "weight": ("cpu.weight", "cpu.shares"),
    "idle": ("cpu.idle", "cpu.idle"),
    "cpuset": ("cpuset.cpus", None),
    "freeze": ("cgroup.freeze", None),
    "memory": ("memory.high", None),
    "IO": ("io.max", None),
}
"""Name -> file of a group on cgroup v2, on v1; None: of another hierarchy there, not looked at."""

HEAD = """\
# Kernels

What each kernel offers, as found out on it by `make test-vm` and on the host by `.ci/run`. This page is
generated (`python -m tests.vm support`, as root); a test on each of these kernels fails where it says something else.

"""

NOTES = """
- **waits**: `sched_info` is the kernel's own account of a wait; without it wakeups are stamped.
- **throttle**: `cfs_rq`: a quota stops the group's whole run queue; `task`: each task by itself (Linux 6.18 and later).
- **unthrottle**: what sees the true end of a throttle. `next run`: nothing, so that its end is the group's next run.
- The errno is what the kernel said to the attempt: EPERM is lockdown, ENOENT that the kernel is built without it.
"""


def release(version: str) -> str:
    """6.12.107+deb13-amd64 -> 6.12."""
    return ".".join(version.split(".")[:2])


def facts() -> dict[str, str]:
    """Column -> value, of the running kernel. Needs root, and on cgroup v2 a host that is ours to change."""
    here = host.probe()
    if here.cpu is None:
        raise OSError(errno.ENOENT, "no cgroup hierarchy with the cpu controller")
    with Probe.open(ProbeOptions(cgroup_root=here.cpu.mount)) as probe:
        found = probe.features
    return {
        "kernel": release(here.kernel_release),
        "cgroup": f"v{here.cpu.version}",
        "lockdown": here.lockdown or "not known",
        "waits": "sched_info" if found.sched_info else "wakeup stamps",
        "throttle": found.throttle_source,
        "unthrottle": found.unthrottle or "next run",
        "unthrottle by fentry": _tried("fentry"),
        "unthrottle by kprobe": _tried("kprobe"),
        "births and deaths": _works(found.cgroup_events_errno),
        "CPU accounts by BPF": _works(found.cgroup_stats_errno),
        "PSI per group": "yes" if here.psi and here.cpu.version == 2 else "no",
        "knobs": " ".join(_knobs(Path(here.cpu.mount), here.cpu.version, here.v2_controllers)),
    }


def _tried(method: str) -> str:
    """yes or the errno, of one way to see the end of a throttle."""
    try:
        with Probe.open(ProbeOptions(unthrottle=method)) as probe:
            found = probe.features
    except OSError as error:
        return _works(error.errno or 0)
    return "yes" if found.unthrottle == method else _works(getattr(found, f"{method}_errno"))


def _knobs(root: Path, version: int, controllers: frozenset[str]) -> list[str]:
    """Names of the knobs that a new group has."""
    if version == 2:
        wanted = " ".join(f"+{name}" for name in sorted(controllers & {"cpu", "cpuset", "memory", "io"}))
        (root / "cgroup.subtree_control").write_text(wanted)
    group = root / f"slackwater-support-{os.getpid()}"
    group.mkdir()
    try:
        files = {name: both[version == 1] for name, both in KNOBS.items()}
        return [name for name, file in files.items() if file and (group / file).exists()]
    finally:
        group.rmdir()


def document(rows: Sequence[Mapping[str, str]]) -> str:
    """The page: one column per kernel, in order of release."""
    ordered = sorted(rows, key=lambda row: [int(number) for number in row["kernel"].split(".")])
    names = list(ordered[0])
    lines = [[name, *(row[name] for row in ordered)] for name in names]
    lines.insert(1, ["---"] * len(lines[0]))
    return HEAD + "".join(f"| {' | '.join(line)} |\n" for line in lines) + NOTES


def rows(text: str) -> list[dict[str, str]]:
    """`document` undone. Further sections are left alone."""
    page = text.split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    names = [line[0] for line in lines]
    return [
        {name: value for name, value in zip(names, column, strict=True) if name != "---"}
        for column in list(zip(*lines, strict=True))[1:]
    ]


def _works(error: int) -> str:
    return "yes" if error == 0 else errno.errorcode[error]


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(facts())}\n")
