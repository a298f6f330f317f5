"""The fixtures and needs of the kernel tests hold here too: these are tests of the real command on this kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.conftest import (
    pytest_configure,
    pytest_runtest_setup,
    tree,
    work_binary,
    workloads,
)

__all__ = ["pytest_configure", "pytest_runtest_setup", "run_folder", "tree", "work_binary", "workloads"]


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test's agents have one of their own, named as systemd would name it."""
    folder = tmp_path / "run"
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))
    return folder
