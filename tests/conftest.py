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


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run whose tests were all skipped has shown nothing: it fails, as one that found none does."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not reporter or exitstatus != pytest.ExitCode.OK:
        return
    if reporter.stats.get("skipped") and not reporter.stats.get("passed"):
        reporter.ensure_newline()
        reporter.write_line("no test was run: all were skipped", red=True)
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


def pytest_unconfigure() -> None:
    """As agent/cli/main.py does: else msgspec may crash while the interpreter ends, and all that passed has failed."""
    gc.freeze()
