"""The fixtures and needs of the kernel tests hold here too: these are tests of the real command on this kernel."""

from tests.kernel.conftest import (
    pytest_configure,
    pytest_runtest_setup,
    tree,
    work_binary,
    workloads,
)

__all__ = ["pytest_configure", "pytest_runtest_setup", "tree", "work_binary", "workloads"]
