"""The ELF image inside a distribution's bzImage. Pure, but for the programs that undo zstd and LZ4.

Sources: Documentation/arch/x86/boot.rst (the header's payload_offset and payload_length, protocol 2.08), elf(5).
"""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from tests.vm.fetch import VmError

_SETUP_SECTORS, _MAGIC, _PAYLOAD = 0x1F1, 0x202, 0x248
_SECTOR_BYTES = 512
_GZIP_WINDOW = 31
_ELF = b"\x7fELF"


@dataclass(frozen=True)
class Section:
    """Where a section lies in memory and in the file."""

    address: int
    offset: int
    size: int


class Vmlinux:
    """An ELF image that may be changed in place."""

    def __init__(self, image: bytes, sections: Mapping[str, Section]) -> None:
        self.data, self.sections = bytearray(image), sections

    @classmethod
    def of(cls, image: bytes) -> Vmlinux:
        """With the sections that its own table has."""
        return cls(image, dict(_sections(image)))

    def words(self, section: Section) -> tuple[int, ...]:
        """The 64-bit words of a section."""
        return struct.unpack_from(f"<{section.size // 8}Q", self.data, section.offset)

    def write(self, section: Section, address: int, content: bytes) -> None:
        """Replace what is at `address` of a section."""
        begin = section.offset + address - section.address
        self.data[begin : begin + len(content)] = content


def unpack(image: bytes) -> bytes:
    """The ELF image of a bzImage; VmError says what is wrong with it."""
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise VmError("not a bzImage")
    setup_sectors = image[_SETUP_SECTORS] or 4
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    begin = (setup_sectors + 1) * _SECTOR_BYTES + offset
    packed, size = image[begin : begin + length - 4], image[begin + length - 4 : begin + length]
    unpacked = _decompress(packed)
    if unpacked[:4] != _ELF or len(unpacked) != int.from_bytes(size, "little"):
        raise VmError("its payload is not a whole ELF image")
    return unpacked


def _decompress(packed: bytes) -> bytes:
    try:
        match packed[:4]:
            case b"\xfd7zX":
                return lzma.LZMADecompressor().decompress(packed)
            case b"\x28\xb5\x2f\xfd":
                return _by("zstd", packed)
            case b"\x02\x21\x4c\x18":
                return _by("lz4", packed)
            case start if start[:2] == b"\x1f\x8b":
                return zlib.decompress(packed, _GZIP_WINDOW)
            case start:
                raise VmError(f"its payload is compressed by a method not known here (it begins with {start.hex()})")
    except (lzma.LZMAError, zlib.error, subprocess.CalledProcessError) as error:
        raise VmError(f"its payload cannot be decompressed: {error}") from error


def _by(program: str, packed: bytes) -> bytes:
    if shutil.which(program) is None:
        raise VmError(f"no {program}: apt-get install {program}")
    return subprocess.run([program, "-dcq"], input=packed, capture_output=True, check=True).stdout


def _sections(image: bytes) -> list[tuple[str, Section]]:
    (table,) = struct.unpack_from("<Q", image, 0x28)
    count, names_index = struct.unpack_from("<HH", image, 0x3C)
    headers = [struct.unpack_from("<IIQQQQ", image, table + 64 * number) for number in range(count)]
    names = headers[names_index][4]
    return [
        (image[names + name : image.index(b"\0", names + name)].decode(), Section(address, offset, size))
        for name, _, _, address, offset, size in headers
    ]
