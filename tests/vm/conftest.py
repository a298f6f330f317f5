"""The needs of the kernel tests hold here too."""

from tests.kernel.conftest import pytest_configure, pytest_runtest_setup

__all__ = ["pytest_configure", "pytest_runtest_setup"]
