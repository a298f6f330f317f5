"""From a distribution's kernel the same kernel on a machine with RDT, so that its own resctrl comes up in a guest.

A kernel with CONFIG_PARAVIRT_XXL (Debian's are) executes CPUID, RDMSR and WRMSR of its own through the pointers
pv_ops.cpu.{cpuid,read_msr,write_msr}. They are made to point to a stub (rdt_stub.S) that is put into a hole of the
kernel's text. QEMU boots the image by its PVH note, so that there is no decompressor and no KASLR.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.vm import rdt_cpuid
from tests.vm.fetch import VmError, cache_folder
from tests.vm.machines import Rdt
from tests.vm.vmlinux import Section, Vmlinux, unpack

STUB = Path(__file__).with_name("rdt_stub.S")
SOURCES = (STUB, *(Path(__file__).with_name(name) for name in ("rdt_image.py", "rdt_cpuid.py", "vmlinux.py")))

CPUID, RDMSR, WRMSR = b"\x0f\xa2", b"\x0f\x32", b"\x0f\x30"
XEN_PREFIX = b"xen" + CPUID  # Xen's own cpuid function
INT3 = rb"\xcc"
HIGH_HALF = b"\x48\xc1\xea\x20"  # shr rdx, 32: write_msr() was given 64 bits, not two halves
INSTRUCTION_WITHIN = 48
"""Bytes of a function after which its one instruction of interest has come."""
PAGE_BYTES = 4096


@dataclass(frozen=True)
class PvCpu:
    """`slot`: address of pv_ops.cpu.cpuid, with those of the two MSR functions after it; the rest: what they hold."""

    section: Section
    slot: int
    read_msr: int
    write_msr: int
    halves: bool
    """Whether write_msr() takes the value as two arguments."""


def patched(kernel: Path, rdt: Rdt) -> Path:
    """The image for `rdt` in the cache, made from a bzImage if it is not there yet (1 s) or not whole."""
    original = kernel.read_bytes()
    key = hashlib.sha256(b"\0".join([original, repr(rdt).encode(), *(path.read_bytes() for path in SOURCES)]))
    # Named by what it is for, so that a newer one takes the place of an older; the seal says what it was made of.
    image = cache_folder() / f"vmlinux-rdt-{_sha256(f'{kernel} {rdt}'.encode())[:16]}"
    seal = image.with_suffix(".sha256")

    def sealed(content: bytes) -> str:
        return f"{key.hexdigest()} {_sha256(content)}"

    if not (image.exists() and seal.exists() and seal.read_text() == sealed(image.read_bytes())):
        try:
            content = patch(original, rdt)
        except VmError as error:
            raise VmError(f"{kernel} cannot be given RDT: {error}") from error
        image.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(image, content)
        _write_whole(seal, sealed(content).encode())
    return image


def patch(original: bytes, rdt: Rdt) -> bytes:
    """A bzImage as an ELF image that has `rdt`; VmError: it cannot be done with this kernel."""
    kernel = Vmlinux.of(unpack(original))
    cpu = find_pv_cpu(kernel)
    table = rdt_cpuid.table(rdt)
    address = find_hole(kernel, PAGE_BYTES)
    code, symbols = link(address, {"native_read_msr": cpu.read_msr, "native_write_msr": cpu.write_msr})
    if len(code) + len(table) > PAGE_BYTES:
        raise VmError("the stub is larger than a page")
    kernel.write(kernel.sections[".text"], address, code + table)
    write_msr = symbols["write_msr_halves" if cpu.halves else "write_msr"]
    pointers = (symbols["cpuid"], symbols["read_msr"], write_msr)
    kernel.write(cpu.section, cpu.slot, b"".join(pointer.to_bytes(8, "little") for pointer in pointers))
    return bytes(kernel.data)


def find_pv_cpu(kernel: Vmlinux) -> PvCpu:
    """Five pointers in a row to functions with CPUID, RDMSR, WRMSR and the two that survive a fault.

    Source: struct pv_cpu_ops in arch/x86/include/asm/paravirt_types.h.
    """
    text = kernel.sections[".text"]
    code = bytes(kernel.data[text.offset : text.offset + text.size])

    def holds(address: int, instruction: bytes) -> bool:
        begin = address - text.address
        return 0 <= begin < text.size and instruction in code[begin : begin + INSTRUCTION_WITHIN]

    found = []
    for section in (kernel.sections[name] for name in (".data", ".data..ro_after_init", ".rodata", ".init.data")
                    if name in kernel.sections):  # fmt: skip
        words = kernel.words(section)
        for index in candidates(words, code, text.address):
            wanted = (CPUID, RDMSR, WRMSR, RDMSR, WRMSR)
            five = words[index : index + 5]
            if all(map(holds, five, wanted)) and not holds(five[0], XEN_PREFIX):
                head = code[five[2] - text.address :][:INSTRUCTION_WITHIN].split(WRMSR)[0]
                found.append(PvCpu(section, section.address + 8 * index, five[1], five[2], HIGH_HALF not in head))
    if len(found) != 1:
        raise VmError(f"pv_ops.cpu was found {len(found)} times (is it built with CONFIG_PARAVIRT_XXL?)")
    return found[0]


def candidates(words: Iterable[int], code: bytes, base: int) -> list[int]:
    """Indices of the words that point to shortly before a CPUID instruction: few, found by a set."""
    near = {base + at.start() - before for at in re.finditer(CPUID, code) for before in range(INSTRUCTION_WITHIN)}
    return [index for index, word in enumerate(words) if word in near]


def find_hole(kernel: Vmlinux, size: int) -> int:
    """Address of `size` bytes of padding, aligned to `size`, in the largest hole of the text."""
    text = kernel.sections[".text"]
    code = bytes(kernel.data[text.offset : text.offset + text.size])
    holes = [(at.end() - at.start(), at.start()) for at in re.finditer(INT3 + rb"{%d,}" % (2 * size), code)]
    if not holes:
        raise VmError(f"its text has no hole of {2 * size} bytes")
    _, begin = max(holes)
    return (text.address + begin + size) & -size


def link(address: int, symbols: dict[str, int]) -> tuple[bytes, dict[str, int]]:
    """The stub's code for `address`, and its own symbols. The table is to follow the code."""
    with tempfile.TemporaryDirectory() as scratch:
        parts, linked, code = (Path(scratch) / name for name in ("stub.o", "stub.elf", "stub.bin"))
        _tool("gcc", "-c", str(STUB), "-o", str(parts))
        defined = [f"--defsym={name}={value:#x}" for name, value in symbols.items()]
        _tool("ld", f"-Ttext={address:#x}", "--entry=0", *defined, str(parts), "-o", str(linked))
        _tool("objcopy", "-O", "binary", "--only-section=.text", str(linked), str(code))
        lines = _tool("nm", str(linked)).splitlines()
        return code.read_bytes(), {name: int(value, 16) for value, _, name in map(str.split, lines)}


def _tool(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise VmError(f"no {command[0]}: apt-get install gcc") from error
    except subprocess.CalledProcessError as error:
        raise VmError(f"{command[0]}: {error.stderr.strip()}") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    """Whole or not at all, also where two do it at once."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
