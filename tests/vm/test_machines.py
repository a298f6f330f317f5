"""Machines with RDT: what CPUID says of them, and kernels that cannot be given it. Boots nothing."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.kernel.needs import CHECKS
from tests.vm import __main__ as cli
from tests.vm import machines, rdt_cpuid, rdt_image, vmlinux
from tests.vm.fetch import VmError
from tests.vm.kernels import KERNELS
from tests.vm.machines import MACHINES, Cat, Machine, Mba, Rdt

RDT = [machine for machine in MACHINES.values() if machine.rdt]
LEAF_ROW_BYTES = 40


def answers(rdt: Rdt, leaf: int, subleaf: int) -> tuple[int, ...]:
    """What a CPU that itself says 0 answers."""
    table = [struct.unpack_from("<10I", row) for row in rows_of(rdt_cpuid.table(rdt))]
    found = [row[3::2] for row in table if row[0] == leaf and row[1] in {subleaf, rdt_cpuid.ALL}]
    return found[0] if found else (0, 0, 0, 0)


def rows_of(table: bytes) -> list[bytes]:
    return [table[at : at + LEAF_ROW_BYTES] for at in range(0, len(table), LEAF_ROW_BYTES)]


def bzimage(payload: bytes, size: int) -> bytes:
    """A bzImage with nothing but a header and a payload. `size`: what it says the payload unpacks to."""
    header = bytearray(2 * 512)
    header[0x1F1] = 1
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", header, 0x248, 0, len(payload) + 4)
    return bytes(header) + payload + size.to_bytes(4, "little")


def test_cat_is_as_the_manual_says() -> None:
    """Leaf 10H: ways and CLOSIDs less one, CDP in bit 2, sparse masks in bit 3, shareable ways in EBX."""
    rdt = Rdt(l3=Cat(12, 16, shareable=0xC00, cdp=True, sparse=True), l2=Cat(8, 4))
    assert answers(rdt, 0x10, 0)[1] == 0b110
    assert answers(rdt, 0x10, 1) == (11, 0xC00, 0b1100, 15)
    assert answers(rdt, 0x10, 2) == (7, 0, 0, 3)


def test_bandwidth_is_a_delay_or_a_width() -> None:
    """Intel: the largest delay, less one. AMD: the number of bits of a value, in a leaf of its own."""
    assert answers(Rdt(mba=Mba(closids=8, step_pct=10)), 0x10, 3) == (89, 0, 4, 7)
    assert answers(Rdt(mba=Mba(closids=16), amd=True), 0x80000020, 1) == (11, 0, 0, 15)
    assert answers(Rdt(mba=Mba(closids=16), amd=True), 0x10, 0)[1] == 0


@pytest.mark.parametrize("machine", RDT, ids=lambda machine: machine.name)
def test_table_ends(machine: Machine) -> None:
    """Whole rows, the last of them the end, which no leaf is."""
    assert machine.rdt is not None
    *rows, end = rows_of(rdt_cpuid.table(machine.rdt))
    assert end[:4] == b"\xff" * 4
    assert all(len(row) == LEAF_ROW_BYTES and row[:4] != end[:4] for row in rows)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda machine: machine.name)
def test_what_a_machine_has_can_be_asked(machine: Machine) -> None:
    assert (machines.EVERY_GUEST_HAS | machine.has) <= set(CHECKS)
    assert set(machine.kernels) <= set(KERNELS)


def test_stub_leads_to_the_kernel_and_has_no_other_need() -> None:
    """Linked, it is whole: an MSR that is not its own goes on to the functions it was given."""
    address = 0xFFFFFFFF81800000
    code, symbols = rdt_image.link(address, {"native_read_msr": address - 4096, "native_write_msr": address - 8192})
    assert symbols["table"] == address + len(code)
    (jump,) = struct.unpack_from("<i", code, code.index(b"\x0f\x85", symbols["read_msr"] - address) + 2)
    after = address + code.index(b"\x0f\x85", symbols["read_msr"] - address) + 6
    assert after + jump == address - 4096


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"\0" * 4096, "not a bzImage"),
        (bzimage(b"BZh91AY", 1), "a method not known here .it begins with 425a6839"),
        (bzimage(b"\xfd7zXZ\0junk", 1), "not a whole ELF image"),
    ],
    ids=["no header", "bzip2", "broken"],
)
def test_kernel_that_cannot_be_given_rdt_is_one_line(image: bytes, words: str, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(image)
    with pytest.raises(VmError, match=f"{kernel} cannot be given RDT: .*{words}") as caught:
        rdt_image.patched(kernel, Rdt(l3=Cat(12, 16)))
    assert "\n" not in str(caught.value)


def test_kernel_without_pv_ops_says_so() -> None:
    text = vmlinux.Section(0xFFFFFFFF81000000, 64, 64)
    kernel = vmlinux.Vmlinux(bytes(256), {".text": text, ".data": vmlinux.Section(0, 128, 128)})
    with pytest.raises(VmError, match="found 0 times"):
        rdt_image.find_pv_cpu(kernel)


def test_wrong_machine_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test", "--kernel", "6.1", "--machine", "pdp11"]) == 2
    assert capsys.readouterr().err == f"no machine 'pdp11'; there are: {' '.join(MACHINES)}\n"
    with pytest.raises(VmError, match=r"machine sparse is for kernel 6\.12 7\.x, not 6\.1"):
        machines.check(MACHINES["sparse"], KERNELS["6.1"])
