"""The agent as a user starts it: `slackwater run --config FILE`; what it did is what `slackwater history` tells."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.programs import Program, Programs
from tests.kernel.workloads import Group

COMMAND = str(Path(sys.executable).with_name("slackwater"))
ACTIONS_MAX = 10_000


@dataclass(frozen=True)
class Action:
    """What the agent did, when (s after the load's first moment), and why."""

    at_s: float
    text: str
    reason: str


@dataclass
class Agent(Program):
    config: Path

    def actions(self, start_s: float) -> tuple[Action, ...]:
        """What was really written, at s after `start_s` (CLOCK_MONOTONIC)."""
        words = [COMMAND, "history", "--json", "--limit", str(ACTIONS_MAX), "--config", str(self.config)]
        document = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        return tuple(
            Action(entry["monotonic_ns"] / 1e9 - start_s, text, entry["reason"])
            for entry in document["entries"]
            if (text := "; ".join(map(_written, filter(_is_applied, entry["outcomes"]))))
        )


def start_agent(programs: Programs, group: Group, config: str) -> Agent:
    """Returns when it has seen the first tick. When the demo dies it is asked to end, not killed: it gives all back."""
    file = programs.folder / "slackwater.toml"
    file.write_text(f'{config}\n[history]\npath = "{programs.folder}/history.db"\n')
    words = [COMMAND, "run", "--config", file]
    null = subprocess.DEVNULL
    with programs.log.open("ab") as log:
        begin = log.tell()
        agent = Agent(programs.start(words, group, when_demo_dies="TERM", stdin=null, stdout=null, stderr=log), file)
    while b" source=" not in (said := programs.log.read_bytes()[begin:]):
        if agent.has_ended():
            raise SystemExit(f"the agent does not run: {said.decode(errors='replace').strip()}")
        time.sleep(0.05)
    return agent


def _is_applied(outcome: dict[str, Any]) -> bool:
    return bool(outcome["result"] == "applied")


def _written(outcome: dict[str, Any]) -> str:
    return f"{outcome['knob']} {outcome['before']} -> {outcome['after']}"
