"""Each fuzzer, for a few seconds and with the corpus that is there: AddressSanitizer and UBSan have nothing to say.

Longer: `make fuzz SECONDS=300`.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz.sh")
HARNESSES = sorted(path.stem for path in SCRIPT.parent.glob("fuzz_*.c"))
FUZZ_S = 5

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("clang"), reason="no clang")]


@pytest.mark.parametrize("name", HARNESSES)
def test_a_fuzzer_finds_nothing(name: str) -> None:
    run = subprocess.run([SCRIPT, str(FUZZ_S), name], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    assert "stat::number_of_executed_units" in run.stderr
