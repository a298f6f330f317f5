"""The kernel's programs, C and Python see the same bytes: every shared struct, compared with the BTF of the BPF object.

cffi checks a struct only when it is first used, so each one is made here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from elftools.elf.elffile import ELFFile

from native._slackwater import ffi
from native.build import HEADERS, ROOT

BPF_OBJECTS = [ROOT / "native" / name for name in ("slackwater.bpf.o", "net_class.bpf.o")]


def structs_of(folder: str) -> list[str]:
    """Names of the structs that the headers of a folder define (asked for one only declared, cffi 2.1.1 aborts)."""
    texts = [(ROOT / header).read_text() for header in HEADERS if header.startswith(folder)]
    return [name for text in texts for name in re.findall(r"^struct (\w+) \{", text, re.MULTILINE)]


BTF_KIND_STRUCT = 4
BTF_TAIL_BYTES = {
    1: (4, 0),  # INT
    3: (12, 0),  # ARRAY
    4: (0, 12),  # STRUCT
    5: (0, 12),  # UNION
    6: (0, 8),  # ENUM
    13: (0, 8),  # FUNC_PROTO
    14: (4, 0),  # VAR
    15: (0, 12),  # DATASEC
    17: (4, 0),  # DECL_TAG
    19: (0, 12),  # ENUM64
}
"""What follows a type's first 12 bytes, by kind: a fixed part, and so much per member. All other kinds: nothing."""


class Layout(NamedTuple):
    """Of a struct: its size and the offset of each field, in bytes."""

    size_bytes: int
    offsets_bytes: dict[str, int]


def cffi_layout(name: str) -> Layout:
    ctype = ffi.typeof(f"struct {name}")
    return Layout(ffi.sizeof(ctype), {field: member.offset for field, member in ctype.fields})


def btf_layouts(btf: bytes) -> Iterator[tuple[str, Layout]]:
    """The structs of a .BTF section. Source: Documentation/bpf/btf.rst."""
    magic, _, _, header_bytes, types_at, types_bytes, strings_at, _ = struct.unpack_from("<HBBIIIII", btf)
    assert magic == 0xEB9F, "not little-endian BTF"

    def name_at(offset: int) -> str:
        start = header_bytes + strings_at + offset
        return btf[start : btf.index(b"\0", start)].decode()

    at = header_bytes + types_at
    while at < header_bytes + types_at + types_bytes:
        name, info, size_bytes = struct.unpack_from("<III", btf, at)
        kind, members, at = info >> 24 & 0x1F, info & 0xFFFF, at + 12
        if kind == BTF_KIND_STRUCT:
            fields = struct.iter_unpack("<III", btf[at : at + 12 * members])
            yield name_at(name), Layout(size_bytes, {name_at(field): bits // 8 for field, _, bits in fields})
        fixed_bytes, member_bytes = BTF_TAIL_BYTES.get(kind, (0, 0))
        at += fixed_bytes + member_bytes * members


@pytest.fixture(scope="module")
def kernel_layouts() -> dict[str, Layout]:
    layouts: dict[str, Layout] = {}
    for path in BPF_OBJECTS:
        if not path.exists():
            pytest.fail(f"{path.relative_to(ROOT)} is not built: run `make`")
        with path.open("rb") as file:
            section = ELFFile(file).get_section_by_name(".BTF")
            assert section is not None, "the object has no BTF: build it with -g"
            layouts |= dict(btf_layouts(section.data()))
    return layouts


@pytest.mark.parametrize("name", structs_of("bpf/"))
def test_a_shared_struct_has_the_layout_of_the_bpf_object(name: str, kernel_layouts: dict[str, Layout]) -> None:
    assert name in kernel_layouts, f"the BPF object has no BTF of struct {name}"
    assert cffi_layout(name) == kernel_layouts[name]


@pytest.mark.parametrize("name", structs_of(""))
def test_a_struct_of_the_headers_can_be_made_from_python(name: str) -> None:
    """The compiler's layout is the one that cffi was told."""
    layout = cffi_layout(name)
    assert len(bytes(ffi.buffer(ffi.new(f"struct {name} *")))) == layout.size_bytes
