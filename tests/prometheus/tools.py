"""Where Prometheus' programs are: Debian's package, installed or unpacked by make."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.kernel.needs import FORCED

UNPACKED = Path(__file__).parents[2] / "build" / "tools" / "usr" / "bin"


def tool(name: str) -> str:
    """Path of `prometheus` or `promtool`; where there is none the test is skipped, or fails if it was to be there."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{UNPACKED}")
    if found is not None:
        return found
    reason = f"no {name} (Debian's package prometheus)"
    if FORCED:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
