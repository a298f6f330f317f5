"""agent.actuators.knobs: texts of knob files and values, there and back."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.actuators.knobs import allowed, knob_file, parse_period_us, text_of
from agent.control import CGROUP_KNOBS, Knob, KnobValue

FILES = {(knob, version): knob_file(knob, version) for knob in CGROUP_KNOBS for version in (1, 2)}
CPUS = st.sets(st.integers(0, 300)).map(lambda cpus: tuple(sorted(cpus)))
VALUES = {
    Knob.QUOTA: st.one_of(st.none(), st.integers(1_000, 1 << 43)),
    Knob.BURST: st.integers(0, 1 << 43),
    Knob.WEIGHT: st.integers(1, 10_000),
    Knob.IDLE: st.integers(0, 1),
    Knob.CPUSET: CPUS,
    Knob.FREEZE: st.integers(0, 1),
}


@given(st.sampled_from(sorted(FILES)), st.data())
def test_what_is_written_is_what_is_read(key: tuple[Knob, int], data: st.DataObject) -> None:
    """Every value is allowed and has one text, which gives the value again."""
    value = data.draw(VALUES[key[0]])
    assert allowed(key[0], value) is None
    assert FILES[key].parse(FILES[key].format(value)) == value


@pytest.mark.parametrize(
    ("knob", "version", "data", "text", "value"),
    [
        (Knob.QUOTA, 2, b"50000 100000\n", "50000", 50_000),
        (Knob.QUOTA, 2, b"max 100000\n", "max", None),
        (Knob.QUOTA, 1, b"-1\n", "-1", None),
        (Knob.WEIGHT, 1, b"1024\n", "1024", 100),
        (Knob.WEIGHT, 1, b"2\n", "2", 1),
        (Knob.WEIGHT, 2, b"0\n", "0", 1),
        (Knob.CPUSET, 2, b"\n", "", ()),
        (Knob.CPUSET, 1, b"0-3,6\n", "0-3,6", (0, 1, 2, 3, 6)),
        (Knob.FREEZE, 1, b"0\n", "0", 0),
    ],
)
def test_texts_of_kernels_are_understood(knob: Knob, version: int, data: bytes, text: str, value: KnobValue) -> None:
    assert text_of(data) == text
    assert FILES[knob, version].parse(text) == value


def test_a_list_of_cpus_is_written_as_the_kernel_prints_it() -> None:
    assert FILES[Knob.CPUSET, 2].format((0, 1, 3, 5, 6, 7)) == "0-1,3,5-7"


def test_what_is_written_to_a_file_is_not_always_the_text() -> None:
    """An empty list must be a write; a v1 freezer takes words."""
    assert FILES[Knob.CPUSET, 2].content("") == b"\n"
    assert FILES[Knob.FREEZE, 1].content("1") == b"FROZEN"
    assert FILES[Knob.QUOTA, 2].content("50000") == b"50000"


def test_the_period_is_the_owners_word() -> None:
    assert parse_period_us(b"max 50000\n") == parse_period_us(b"50000\n") == 50_000


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        (Knob.QUOTA, 999),
        (Knob.QUOTA, 1 << 44),
        (Knob.QUOTA, float("nan")),
        (Knob.QUOTA, 50_000.0),
        (Knob.QUOTA, True),
        (Knob.BURST, None),
        (Knob.BURST, -1),
        (Knob.WEIGHT, 0),
        (Knob.WEIGHT, 10_001),
        (Knob.IDLE, 2),
        (Knob.CPUSET, (1, 0)),
        (Knob.CPUSET, (0, 0)),
        (Knob.CPUSET, (-1,)),
        (Knob.CPUSET, None),
        (Knob.CPUSET, ("0",)),
    ],
)
def test_values_that_no_kernel_takes_are_not_asked_for(knob: Knob, value: object) -> None:
    assert allowed(knob, value) is not None  # type: ignore[arg-type]


@given(st.sampled_from(sorted(FILES)), st.binary())
def test_no_bytes_do_more_than_a_value_error(key: tuple[Knob, int], data: bytes) -> None:
    with contextlib.suppress(ValueError):
        FILES[key].parse(text_of(data))
    with contextlib.suppress(ValueError):
        parse_period_us(data)
