"""What a missing need does to a test: skipped, or failed where it was to be there."""

from __future__ import annotations

import pytest

from tests.kernel import needs
from tests.kernel.needs import Lack


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has a and has not b."""
    monkeypatch.setattr(needs, "CHECKS", {"a": lambda: None, "b": lambda: "no b here"})


@pytest.mark.parametrize(
    ("forced", "meant", "name", "lack"),
    [
        (False, None, "a", None),
        (False, None, "b", Lack("no b here", fails=False)),
        (True, None, "a", None),
        (True, None, "b", Lack("no b here", fails=True)),
        (True, {"a"}, "b", Lack("this host is not meant to have it", fails=False)),
        (True, {"a", "b"}, "b", Lack("no b here", fails=True)),
        (True, set(), "a", Lack("this host is not meant to have it", fails=False)),
        (True, set(), "command:no-such-command", Lack("no command no-such-command", fails=True)),
        (True, set(), "command:sh", None),
    ],
)
def test_missing_is_a_failure_only_where_it_was_to_be_there(
    forced: bool, meant: set[str] | None, name: str, lack: Lack | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "FORCED", forced)
    monkeypatch.setattr(needs, "MEANT", meant)
    assert needs.lack(name) == lack
