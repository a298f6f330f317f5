"""The kernel's own resctrl on a machine of tests/vm/machines.py: it offers what that machine has, and nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.needs import needs
from tests.kernel.resctrl import ROOT, last_words, mounted, schemata, write
from tests.vm.machines import MACHINES, Cat, Machine, Rdt

pytestmark = [needs("root", "machine"), pytest.mark.short]


@pytest.fixture
def machine() -> Machine:
    return MACHINES[os.environ["SLACKWATER_MACHINE"]]


@pytest.fixture
def rdt(machine: Machine) -> Rdt:
    assert machine.rdt is not None
    return machine.rdt


@pytest.fixture
def root() -> Iterator[Path]:
    with mounted() as root:
        yield root


def info(root: Path, resource: str) -> dict[str, str]:
    """File -> content of info/RESOURCE."""
    return {path.name: path.read_text().strip() for path in (root / "info" / resource).iterdir()}


def cat_info(cat: Cat, *, amd: bool, halves: int = 1) -> dict[str, str]:
    """What info/ says of it on every kernel; `halves`: 2 with CDP."""
    return {
        "cbm_mask": f"{(1 << cat.ways) - 1:x}",
        "num_closids": str(cat.closids // halves),
        "min_cbm_bits": "0" if amd else "1",
        "shareable_bits": f"{cat.shareable:x}",
    }


def test_machine_without_rdt_has_no_resctrl(machine: Machine) -> None:
    """Nor has one of which CPUID says nothing else."""
    if machine.rdt is not None:
        pytest.skip(f"machine {machine.name} has RDT")
    done = subprocess.run(["mount", "-t", "resctrl", "resctrl", str(ROOT)], capture_output=True, check=False)
    assert done.returncode != 0
    assert not (ROOT / "schemata").exists()


@needs("resctrl")
def test_kernel_offers_what_the_machine_has(root: Path, machine: Machine, rdt: Rdt) -> None:
    """Folders of info/, lines and domains of schemata."""
    lines = {"L3": rdt.l3, "L2": rdt.l2, "MB": rdt.mba, "SMBA": rdt.smba}
    offered = {name for name, has in lines.items() if has}
    monitored = {"L3_MON"} if rdt.monitoring else set()
    assert {path.name for path in (root / "info").iterdir() if path.is_dir()} == offered | monitored
    found = schemata(root)
    assert set(found) == offered
    assert all(tuple(domains) == machine.cache_ids for domains in found.values())


@needs("resctrl")
@pytest.mark.parametrize("level", ["l3", "l2"])
def test_cache_is_as_the_machine_says(root: Path, rdt: Rdt, level: str) -> None:
    """Ways, CLOSIDs, what may be set; sparse_masks where the kernel has the file."""
    cat: Cat | None = getattr(rdt, level)
    if cat is None:
        pytest.skip(f"no CAT of {level.upper()}")
    found = info(root, level.upper())
    assert found.items() >= cat_info(cat, amd=rdt.amd).items()
    assert found.get("sparse_masks", "0") == str(int(cat.sparse or (rdt.amd and "sparse_masks" in found)))


@needs("resctrl:mba")
def test_bandwidth_is_as_the_machine_says(root: Path, rdt: Rdt) -> None:
    """In percent from a minimum in steps; AMD's from 0 in steps of 1."""
    assert rdt.mba is not None
    step = 1 if rdt.amd else rdt.mba.step_pct
    wanted = {"num_closids": rdt.mba.closids, "bandwidth_gran": step, "min_bandwidth": 0 if rdt.amd else step}
    assert info(root, "MB").items() >= {name: str(value) for name, value in wanted.items()}.items()


@needs("resctrl:cdp")
def test_cdp_has_two_lines_and_half_the_closids(rdt: Rdt) -> None:
    """Mounted with cdp: L3CODE and L3DATA instead of L3."""
    assert rdt.l3 is not None
    with mounted("cdp") as root:
        assert {"L3CODE", "L3DATA"} <= set(schemata(root))
        assert "L3" not in schemata(root)
        for name in ("L3CODE", "L3DATA"):
            assert info(root, name).items() >= cat_info(rdt.l3, amd=rdt.amd, halves=2).items()


@needs("resctrl:cdpl2")
def test_cdpl2_has_two_lines() -> None:
    with mounted("cdpl2") as root:
        assert {"L2CODE", "L2DATA"} == set(schemata(root)) - {"L3", "MB"}


@needs("resctrl")
@pytest.mark.parametrize("level", ["L3", "L2"])
def test_mask_is_taken_and_read_back(root: Path, rdt: Rdt, level: str) -> None:
    """In a new group, of the one domain that is named."""
    if level not in schemata(root):
        pytest.skip(f"no line {level}")
    group = root / "slackwater-test"
    group.mkdir()
    first, *others = schemata(group)[level]
    before = schemata(group)[level]
    assert write(group / "schemata", f"{level}:{first}=3c") is None, last_words()
    assert last_words() == "ok"
    after = schemata(group)[level]
    assert int(after[first], 16) == 0x3C
    assert {number: after[number] for number in others} == {number: before[number] for number in others}
    group.rmdir()
    assert not group.exists()


@needs("resctrl")
def test_bad_mask_is_refused_with_words(root: Path, rdt: Rdt) -> None:
    """EINVAL, and why, as the kernel's releases word it; nothing has changed."""
    for level, cat in (("L3", rdt.l3), ("L2", rdt.l2)):
        if cat is None:
            continue
        before = schemata(root)
        bad = {f"{1 << cat.ways:x}": "out of range", "xyz": "Non-hex character"}
        if not (cat.sparse or rdt.amd):
            bad["5"] = "non-consecutive"
        for mask, words in bad.items():
            refusal = write(root / "schemata", f"{level}:0={mask}")
            assert refusal is not None
            assert refusal.errno == errno.EINVAL
            assert words in last_words()
        assert schemata(root) == before


@needs("resctrl")
def test_gaps_in_a_mask_are_taken_where_the_machine_says_so(root: Path, rdt: Rdt) -> None:
    if rdt.l3 is None or not (rdt.l3.sparse or rdt.amd):
        pytest.skip("masks may have no gaps")
    assert write(root / "schemata", "L3:0=505") is None, last_words()
    assert int(schemata(root)["L3"][0], 16) == 0x505


@needs("resctrl:mba")
def test_bandwidth_is_rounded_up_to_a_step(root: Path, rdt: Rdt) -> None:
    """And one below the minimum or above the maximum is refused with words."""
    assert rdt.mba is not None
    taken, too_much, read_back = ("35", "2049", "35") if rdt.amd else ("35", "101", "40")
    group = root / "slackwater-test"
    group.mkdir()
    assert write(group / "schemata", f"MB:0={taken}") is None, last_words()
    assert schemata(group)["MB"][0] == read_back
    refusal = write(group / "schemata", f"MB:0={too_much}")
    assert refusal is not None
    assert refusal.errno == errno.EINVAL
    assert "out of range" in last_words()
    group.rmdir()


@needs("resctrl:monitor")
def test_counters_are_there_and_grow(root: Path, machine: Machine, rdt: Rdt) -> None:
    """One folder per L3 cache; bandwidth rises, the total faster than the local; occupancy is whole units."""
    assert rdt.monitoring is not None
    assert info(root, "L3_MON")["num_rmids"] == str(rdt.monitoring.rmids)
    folders = {path.name for path in (root / "mon_data").iterdir()}
    assert folders == {f"mon_L3_{number:02}" for number in machine.cache_ids}
    for name in folders:
        folder = root / "mon_data" / name
        before = int((folder / "mbm_total_bytes").read_text())
        assert int((folder / "mbm_total_bytes").read_text()) >= before
        assert int((folder / "llc_occupancy").read_text()) % rdt.monitoring.unit_bytes == 0


@needs("resctrl")
def test_unmounting_forgets_what_was_made(rdt: Rdt) -> None:
    """The next mount has no groups and the masks of the first."""
    if rdt.l3 is None and rdt.l2 is None:
        pytest.skip("no CAT")
    with mounted() as root:
        before = schemata(root)
        level = next(iter(before.keys() & {"L3", "L2"}))
        (root / "slackwater-test").mkdir()
        assert write(root / "schemata", f"{level}:0=f") is None
    with mounted() as root:
        assert schemata(root) == before
        assert not (root / "slackwater-test").exists()
