"""What this host has to part caches and memory bandwidth with, by its resctrl. Facts, for `slackwater doctor`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rdt import info
from rdt.errors import NotMounted, RdtError
from rdt.info import DEFAULT_ROOT, Info

_FEATURES = frozenset({"cat_l3", "cat_l2", "cdp_l3", "cdp_l2", "mba", "cqm_llc", "cqm_mbm_total"})
"""Flags of the CPU in /proc/cpuinfo. Source: arch/x86/include/asm/cpufeatures.h."""


@dataclass(frozen=True, slots=True)
class CacheHost:
    """`offers`: resources and counters, in words; where that is empty, `why`, and how to `mend` it."""

    offers: str = ""
    why: str = ""
    mend: str = ""


def look(root: Path = DEFAULT_ROOT, proc: Path = Path("/proc")) -> CacheHost:
    """As it is now."""
    try:
        offers = _offers(info.read(root))
    except NotMounted:
        return _not_mounted(root, proc)
    except (RdtError, OSError) as error:
        return CacheHost(why=str(error), mend="what this line names")
    # Its mode is 0555, which says nothing to who has the capability.
    if not os.access(root, os.W_OK, effective_ids=True):
        why = f"no group can be made: user id {os.geteuid()} lacks CAP_DAC_OVERRIDE"
        return CacheHost(why=why, mend="run as root, or give the service this capability")
    return CacheHost(offers)


def _offers(found: Info) -> str:
    caches = [f"{name} of {cache.ways} ways" for name, cache in sorted(found.caches.items())]
    events = found.monitoring.events if found.monitoring else ()
    return ", ".join([*caches, *sorted(found.bandwidths), *events])


def _not_mounted(root: Path, proc: Path) -> CacheHost:
    if "resctrl" in (proc / "filesystems").read_text().split():
        return CacheHost(why="resctrl is not mounted", mend=f"mount -t resctrl resctrl {root}, or cache.mount = true")
    flags = re.search(r"^flags\s*:(.*)$", (proc / "cpuinfo").read_text(), re.MULTILINE)
    if flags and _FEATURES & set(flags[1].split()):
        return CacheHost(
            why="the kernel has no resctrl", mend="a kernel with CONFIG_X86_CPU_RESCTRL, booted without rdt=!"
        )
    return CacheHost(why="this machine has no RDT, or its hypervisor shows none", mend="a machine whose CPU has it")
