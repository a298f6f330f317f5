"""The first root of a guest: busybox, the modules that reach the host's files, init, and a copy of the tree.

The tree travels in here, so that a file that is saved on the host meanwhile changes nothing in the guest, and lies
in the guest's memory, where tests may write.
Source of the archive's form: Documentation/driver-api/early-userspace/buffer-format.rst ("newc").
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.vm.fetch import VmError

TREE_PARTS = (
    *("agent", "native", "rdt", "bpf", "tests", "benchmarks", "demo", "docs", "deploy"),
    *("pyproject.toml", "build/work"),
)

INIT = Path(__file__).with_name("init.sh")


class Archive:
    """A newc archive in the making."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._folders: set[str] = set()
        self._inode = 0

    def add(self, name: str, content: bytes, mode: int = 0o644, mtime_s: int = 0) -> None:
        """A file, and the folders above it."""
        for folder in reversed(Path(name).parents):
            self.folder(str(folder))
        self._entry(name, stat.S_IFREG | mode, content, mtime_s)

    def folder(self, name: str) -> None:
        if name not in self._folders | {"."}:
            self._folders.add(name)
            self._entry(name, stat.S_IFDIR | 0o755)

    def compressed(self) -> bytes:
        self._entry("TRAILER!!!", 0)
        return gzip.compress(bytes(self._data), compresslevel=1)

    def _entry(self, name: str, mode: int, content: bytes = b"", mtime_s: int = 0) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, mtime_s, len(content), 0, 0, 0, 0, len(path), 0)
        self._data += b"070701" + b"".join(b"%08x" % field for field in fields)
        for part in (path, content):
            self._data += part + bytes(-(len(self._data) + len(part)) % 4)


def build(modules: Path | None, wanted: Iterable[str], tree: Path | None) -> bytes:
    """The archive. `modules`: /lib/modules/VERSION of the kernel, of which `wanted` are loaded in this order."""
    archive = Archive()
    busybox = shutil.which("busybox")
    if busybox is None:
        raise VmError("no busybox: apt-get install busybox-static")
    archive.add("bin/busybox", Path(busybox).read_bytes(), 0o755)
    archive.add("init", INIT.read_bytes(), 0o755)
    files = list(load_order(modules, wanted)) if modules else []
    for number, file in enumerate(files):
        archive.add(f"modules/{number:02}", _module(file))
    archive.folder("modules")
    for folder in ("proc", "sys", "dev", "results", "host", "memory", "root", "tree"):
        archive.folder(folder)
    if tree is not None:
        for file in tree_files(tree):
            status = file.stat()
            name = f"tree/{file.relative_to(tree)}"
            archive.add(name, file.read_bytes(), stat.S_IMODE(status.st_mode), int(status.st_mtime))
    return archive.compressed()


def tree_files(tree: Path) -> Iterator[Path]:
    """What tests need of the tree. Compiled Python goes along: times and paths are the same in the guest."""
    for part in TREE_PARTS:
        yield from (path for path in sorted([tree / part, *(tree / part).rglob("*")]) if path.is_file())


def load_order(modules: Path, wanted: Iterable[str]) -> Iterator[Path]:
    """The files of these modules, each after what it depends on; what is built in needs none."""
    paths: dict[str, str] = {}
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, below = line.partition(":")
        paths[_module_name(path)] = path
        needs[path] = below.split()[::-1]  # the lowest comes last in the file
    built_in = {_module_name(line) for line in (modules / "modules.builtin").read_text().splitlines()}
    seen: set[str] = set()
    for name in wanted:
        if name not in paths:
            if name not in built_in:
                raise VmError(f"{modules}: no module {name}; it must be Debian's full flavour")
            continue
        for path in (*needs[paths[name]], paths[name]):
            if path not in seen:
                seen.add(path)
                yield modules / path


def _module_name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def _module(file: Path) -> bytes:
    return lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
