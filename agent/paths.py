"""Where the agent keeps what has the machine's lifetime: the journal of what it has changed, and its status."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def run_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """As systemd names it to a unit with RuntimeDirectory= (systemd.exec(5))."""
    return Path(environ.get("RUNTIME_DIRECTORY") or "/run/slackwater")


def journal_path() -> Path:
    return run_folder() / "journal"


def status_path() -> Path:
    return run_folder() / "status.json"
