"""agent.cache_host: what can be parted here, or why nothing can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cache_host import CacheHost, look
from tests.rdt.trees import unpack


def proc_of(tmp_path: Path, filesystems: str, flags: str) -> Path:
    (tmp_path / "filesystems").write_text(filesystems)
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    return tmp_path


def test_what_resctrl_offers_is_said(tmp_path: Path) -> None:
    found = look(unpack("l3-7.x", tmp_path / "resctrl"), tmp_path)
    assert found == CacheHost("L3 of 12 ways, MB, llc_occupancy, mbm_total_bytes, mbm_local_bytes")


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_without_the_capability_to_make_groups_it_is_said(tmp_path: Path) -> None:
    root = unpack("l3-7.x", tmp_path / "resctrl")
    root.chmod(0o555)  # as the kernel has it
    ask = f"from pathlib import Path; from agent.cache_host import look; print(look(Path({str(root)!r})))"
    lacking = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    done = subprocess.run([*lacking, sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert "lacks CAP_DAC_OVERRIDE" in done.stdout
    assert look(root).offers


@pytest.mark.parametrize(
    ("filesystems", "flags", "why", "mend"),
    [
        ("nodev\tresctrl\n", "cat_l3", "not mounted", "mount -t resctrl"),
        ("nodev\tproc\n", "fpu cat_l3 mba", "kernel has no resctrl", "CONFIG_X86_CPU_RESCTRL"),
        ("nodev\tproc\n", "fpu", "no RDT", "a machine"),
    ],
)
def test_why_nothing_can_be_parted_is_said(tmp_path: Path, filesystems: str, flags: str, why: str, mend: str) -> None:
    found = look(tmp_path / "none", proc_of(tmp_path, filesystems, flags))
    assert (found.offers, why in found.why, mend in found.mend) == ("", True, True)
