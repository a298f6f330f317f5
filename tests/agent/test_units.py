"""Conversions."""

from __future__ import annotations

import pytest

from agent.units import parse_cpus


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-3,6\n", (0, 1, 2, 3, 6)), ("0\n", (0,)), ("\n", ()), ("5,1-2", (1, 2, 5))]
)
def test_list_of_cpus(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpus(text) == cpus
