"""agent.errors: one line, the right exit status."""

import errno

import pytest

from agent.errors import ConfigError, HostError, SlackwaterError, UsageError, is_gone


def test_an_error_is_one_line_that_names_thing_value_and_what_is_allowed() -> None:
    error = ConfigError("agent.tick_s", path="a.toml", value=0, allowed="0.1 to 60")
    assert str(error) == "a.toml: agent.tick_s: 0 (allowed: 0.1 to 60)"


def test_what_the_kernel_said_stays_on_the_same_line() -> None:
    error = HostError("cannot load", errno=errno.EPERM, kernel_text="line one\nline two")
    assert str(error) == "cannot load [EPERM]; the kernel says: line one line two"


def test_a_refused_file_is_told_in_the_systems_words() -> None:
    assert (
        str(HostError.of(PermissionError(errno.EACCES, "Permission denied"), "/a")) == "/a: Permission denied [EACCES]"
    )


@pytest.mark.parametrize(
    ("kind", "status"),
    [(SlackwaterError, 1), (UsageError, 2), (ConfigError, 2), (HostError, 1)],
    ids=["base", "usage", "config", "host"],
)
def test_exit_status_is_2_for_usage_and_configuration_and_1_for_the_host(
    kind: type[SlackwaterError], status: int
) -> None:
    assert kind("x").exit_status == status


@pytest.mark.parametrize(
    ("number", "gone"), [(errno.ENOENT, True), (errno.ENODEV, True), (errno.ESRCH, True), (errno.EACCES, False)]
)
def test_gone_is_told_from_refused(number: int, gone: bool) -> None:
    assert is_gone(OSError(number, "")) is gone
