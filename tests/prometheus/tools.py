"""Where Prometheus' programs are: Debian's package, installed or unpacked by make."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

UNPACKED = Path(__file__).parents[2] / "build" / "tools" / "usr" / "bin"


def tool(name: str) -> str:
    """Path of `prometheus` or `promtool`; skips the test where there is none."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{UNPACKED}")
    if found is None:
        pytest.skip(f"no {name} (Debian's package prometheus)")
    return found
