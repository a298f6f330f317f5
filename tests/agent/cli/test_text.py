import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.text import decimal, duration, fitted, percent, ratio, size

NAN = float("nan")


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [
        (NAN, "-"),
        (0, "0"),
        (1, "1ns"),
        (1.25, "1.2ns"),
        (999, "999ns"),
        (999.6, "1us"),
        (1500, "1.5us"),
        (9_960, "10us"),
        (123_456, "123us"),
        (5e6, "5ms"),
        (999_999_999, "1s"),
        (2.5e9, "2.5s"),
        (7.2e12, "7200s"),
    ],
)
def test_a_duration_has_the_unit_that_fits_and_absent_is_a_dash(value_ns: float, text: str) -> None:
    assert duration(value_ns) == text


def test_sizes_are_binary() -> None:
    assert [size(1023), size(1024), size(64 << 20), size(NAN)] == ["1023B", "1KiB", "64MiB", "-"]


def test_absent_numbers_are_dashes_and_no_whole_has_no_share() -> None:
    assert [decimal(NAN), percent(NAN), percent(ratio(1, 0)), percent(ratio(NAN, 1))] == ["-"] * 4
    assert [decimal(1.234), decimal(1.25, 0), percent(ratio(1, 3))] == ["1.23", "1", "33%"]


def test_a_long_name_loses_its_middle() -> None:
    assert fitted("/system.slice/nginx.service", 20) == "/system…ginx.service"
    assert fitted("/a", 5) == "/a   "


def test_what_does_not_print_is_spelled_out() -> None:
    assert fitted("a\x1b[2J\n\udcff", 20).rstrip() == r"a\x1b[2J\n\udcff"


def test_wide_characters_count_twice() -> None:
    assert fitted("漢字", 6) == "漢字  "
    assert fitted("漢字漢字", 6) == "漢…字 "  # half of a wide one does not fit


@given(st.text(), st.integers(3, 40))
def test_whatever_the_name_it_prints_and_is_no_longer_than_its_place(name: str, width: int) -> None:
    text = fitted(name, width)
    assert text.isprintable()
    if text.isascii():
        assert len(text) == width
