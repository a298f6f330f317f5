"""Fixtures of the kernel tests, and the one place where a missing need skips or fails a test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.actuators.executor import Executor
from tests.kernel import needs
from tests.kernel.knob_files import KnobTree, knob_tree
from tests.kernel.workloads import Group, Workloads, build, own_tree


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): what a kernel test needs of the host (tests/kernel/needs.py)")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            lack = needs.lack(name)
            if lack is None:
                continue
            if lack.fails:
                pytest.fail(f"needs {name}: {lack.reason}", pytrace=False)
            pytest.skip(f"needs {name}: {lack.reason}")


@pytest.fixture(scope="session")
def work_binary() -> Path:
    return build()


@pytest.fixture
def tree() -> Iterator[Group]:
    """A parent group of this test's own."""
    with own_tree(os.getpid()) as group:
        yield group


@pytest.fixture
def workloads(work_binary: Path, tree: Group) -> Iterator[Workloads]:
    """Starts work.c; whatever still runs is ended before `tree` is removed."""
    workloads = Workloads(work_binary)
    yield workloads
    workloads.stop()


@pytest.fixture
def knobs() -> Iterator[KnobTree]:
    """Groups of this test's own with all knobs that this host has: a top one and "a" below it."""
    with knob_tree(os.getpid()) as knobs:
        knobs.make("a")
        yield knobs


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where `executor` has its journal."""
    return tmp_path / "journal"


@pytest.fixture
def executor(knobs: KnobTree, journal: Path) -> Iterator[Executor]:
    """For `knobs`; what a failed test has left is put back."""
    with Executor.open(knobs.host, journal) as executor:
        yield executor
        executor.restore()
