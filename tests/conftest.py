"""What holds for all tests."""

import gc

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """How long one example of hypothesis takes says nothing on a machine that others use as well.

    In guests, which have no use for hypothesis, its plug-in is not loaded: 4 s of emulation.
    """
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import settings

        settings.register_profile("slackwater", deadline=None)
        settings.load_profile("slackwater")


def pytest_unconfigure() -> None:
    """As agent/cli/main.py does: else msgspec may crash while the interpreter ends, and all that passed has failed."""
    gc.freeze()
