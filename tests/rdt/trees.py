"""The resctrl of real kernels and of the kernel's documentation, as trees of files."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "trees" / "resctrl"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))

FROM_DOCUMENTATION = {"snc", "abmc", "haswell", "pseudo-locked", "example-2"}
"""Machines that QEMU cannot be; the others were captured in guests (tests/vm/capture_resctrl.py)."""


def files(name: str) -> dict[str, str]:
    """Path -> content."""
    tree: dict[str, str] = json.loads((FOLDER / f"{name}.json").read_text())
    return tree


def unpack(name: str, into: Path) -> Path:
    """The tree as files. What a kernel would do when they are written to does not happen."""
    for file, content in files(name).items():
        (into / file).parent.mkdir(parents=True, exist_ok=True)
        (into / file).write_text(content)
    return into
