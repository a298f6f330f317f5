"""What a kernel test needs of the host: `pytestmark = needs("root", "bpf", "cgroup:cpu")`.

Missing: the test is skipped with the reason. With SLACKWATER_KERNEL_TESTS=1 missing is a failure (conftest.py);
where SLACKWATER_HAS lists what this host is meant to have, only what it lists, and the rest is skipped unprobed.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from agent.host import probe
from native.probe import Probe, ProbeOptions

FORCED = os.environ.get("SLACKWATER_KERNEL_TESTS") == "1"
MEANT = frozenset(os.environ["SLACKWATER_HAS"].split()) if "SLACKWATER_HAS" in os.environ else None
"""Keys of `CHECKS`; None: not said. Commands are the tests' own business."""


def needs(*names: str) -> pytest.MarkDecorator:
    """Mark a test or module with what it needs: keys of `CHECKS`, or "command:NAME"."""
    return pytest.mark.needs(*names)


def missing(name: str) -> str | None:
    """Why this host has not got `name`; None: it has."""
    kind, _, argument = name.partition(":")
    if kind == "command":
        return None if shutil.which(argument) else f"no command {argument}"
    return CHECKS[name]()


@dataclass(frozen=True)
class Lack:
    """A need that is not met. `fails`: it was to be there."""

    reason: str
    fails: bool


def lack(name: str) -> Lack | None:
    """None: this host has `name`, and is meant to."""
    if MEANT is not None and name not in MEANT and not name.startswith("command:"):
        return Lack("this host is not meant to have it", fails=False)
    reason = missing(name)
    return Lack(reason, FORCED) if reason else None


def cpu_hierarchy() -> tuple[Path, int] | None:
    """Mount point and version (1 or 2) of the cgroup hierarchy with the cpu controller, from mountinfo.

    Line: `32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu`.
    """
    unified = None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, rest = line.partition(" - ")
        filesystem, _, options = rest.split(" ", 2)
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), mount.split()[4]))
        if filesystem == "cgroup" and "cpu" in options.split(","):
            return point, 1
        if filesystem == "cgroup2":
            unified = point
    if unified is not None and "cpu" in (unified / "cgroup.controllers").read_text().split():
        return unified, 2
    return None


def _no_root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _no_cpu_controller() -> str | None:
    hierarchy = cpu_hierarchy()
    if hierarchy is None:
        return "no cgroup hierarchy with the cpu controller"
    root, version = hierarchy
    if version == 2 and not FORCED and "cpu" not in (root / "cgroup.subtree_control").read_text().split():
        return f"{root}/cgroup.subtree_control has no cpu, and this host is not ours to change"
    return None


def _no_bpf() -> str | None:
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "no kernel BTF"
    state = Path("/proc/self/status").read_text()
    effective = int(re.search(r"^CapEff:\s*([0-9a-f]+)", state, re.MULTILINE)[1], 16)  # type: ignore[index]
    cap_sys_admin, cap_bpf = 1 << 21, 1 << 39
    return None if effective & (cap_sys_admin | cap_bpf) else "no CAP_BPF"


def _no_two_cpus() -> str | None:
    return None if len(os.sched_getaffinity(0)) >= 2 else "one CPU only"


def _no_machine() -> str | None:
    return None if "SLACKWATER_MACHINE" in os.environ else "not a guest of tests/vm"


def _no_resctrl() -> str | None:
    if not FORCED:
        return "this host's caches are not ours to partition"
    return None if "\tresctrl\n" in Path("/proc/filesystems").read_text() else "no resctrl in /proc/filesystems"


def _no_cpu_flag(*wanted: str, vendor: str | None = None) -> str | None:
    said = Path("/proc/cpuinfo").read_text()
    flags = re.search(r"^flags\s*:(.*)", said, re.MULTILINE)
    missing = set(wanted) - set(flags[1].split() if flags else ())
    if missing:
        return f"no {' '.join(sorted(missing))} in /proc/cpuinfo"
    return None if vendor is None or vendor in said else f"not a CPU of {vendor}"


def _no_net() -> str | None:
    """Namespaces, HTB and the commands of the tests."""
    from tests.kernel import namespaces

    if lacks := namespaces.has_commands():
        return lacks
    try:
        with namespaces.inside_a_new_one():
            namespaces.run("tc qdisc add dev lo root handle 1: htb")
    except (OSError, AssertionError) as err:
        return str(err)
    return None


def _no_cgroup2() -> str | None:
    from tests.kernel import namespaces

    return None if namespaces.unified_mount() else "no cgroup2 is mounted"


def _no_bond() -> str | None:
    """Nor VLANs."""
    from tests.kernel import namespaces

    try:
        with namespaces.inside_a_new_one():
            namespaces.run("ip link add bond0 type bond", "ip link add link bond0 name bond0.5 type vlan id 5")
    except (OSError, AssertionError) as err:
        return str(err)
    return None


def _no_net_cls() -> str | None:
    """Of a v1 host without cgroup2."""
    return (
        None
        if re.search(r" - cgroup .*\bnet_cls\b", Path("/proc/self/mountinfo").read_text())
        else "no net_cls is mounted"
    )


def _no_perf_event() -> str | None:
    return None if probe().perf_event else "no cgroup hierarchy with perf_event is mounted"


def _no_tun() -> str | None:
    return None if Path("/dev/net/tun").exists() else "no /dev/net/tun"


def _no_unthrottle_by(method: str) -> str | None:
    with Probe.open(ProbeOptions(unthrottle=method)) as probe:
        found = probe.features
    return None if found.unthrottle == method else errno.errorcode[getattr(found, f"{method}_errno")]


CHECKS: dict[str, Callable[[], str | None]] = {
    "root": _no_root,
    "bond": _no_bond,
    "bpf": _no_bpf,
    "cgroup:cpu": _no_cpu_controller,
    "cgroup:perf_event": _no_perf_event,
    "cgroup2": _no_cgroup2,
    "cpus:2": _no_two_cpus,
    "fentry": partial(_no_unthrottle_by, "fentry"),
    "kprobe": partial(_no_unthrottle_by, "kprobe"),
    "machine": _no_machine,
    "net": _no_net,
    "net_cls": _no_net_cls,
    "resctrl": _no_resctrl,
    "resctrl:l3": partial(_no_cpu_flag, "cat_l3"),
    "resctrl:l2": partial(_no_cpu_flag, "cat_l2"),
    "resctrl:cdp": partial(_no_cpu_flag, "cdp_l3"),
    "resctrl:cdpl2": partial(_no_cpu_flag, "cdp_l2"),
    "resctrl:mba": partial(_no_cpu_flag, "mba"),
    "resctrl:mbps": partial(_no_cpu_flag, "mba", "cqm_mbm_local", vendor="GenuineIntel"),
    "resctrl:monitor": partial(_no_cpu_flag, "cqm_llc"),
    "tun": _no_tun,
}
