"""What joins the stages of the caches, as far as it needs no kernel: the rest is in tests/system/test_cache.py."""

from __future__ import annotations

import subprocess
import sys


def test_an_agent_that_looks_at_no_caches_does_not_pay_for_them() -> None:
    script = (
        "import agent.loop, agent.cli.commands, sys; print([name for name in sys.modules if name.startswith('rdt')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
