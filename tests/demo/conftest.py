"""The demo's programs, compiled once."""

from pathlib import Path

import pytest

from demo.programs import compile_into


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    compile_into(folder)
    return folder
