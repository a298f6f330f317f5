"""schemata: numbers out of every line that a kernel prints, and the same bytes again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt import schemata
from rdt.errors import Unreadable
from rdt.schemata import Line, parse_line

cache_ids = st.integers(0, 200)
cache_lines = st.builds(
    Line,
    resource=st.sampled_from(["L3", "L2", "L3CODE", "L3DATA", "L2CODE", "L2DATA"]),
    values=st.dictionaries(cache_ids, st.integers(0, (1 << 20) - 1), min_size=1, max_size=12),
    name_width=st.integers(0, 8),
    value_width=st.integers(0, 8),
)
bandwidth_lines = st.builds(
    Line,
    resource=st.sampled_from(["MB", "SMBA"]),
    values=st.dictionaries(cache_ids, st.integers(0, (1 << 32) - 1), min_size=1, max_size=12),
    name_width=st.integers(0, 8),
    value_width=st.integers(0, 5),
)
lines = cache_lines | bandwidth_lines
files = st.lists(lines, max_size=4, unique_by=lambda line: line.resource)


@pytest.mark.parametrize(
    ("text", "resource", "values"),
    [
        ("L3:0=fffff;1=fffff", "L3", {0: 0xFFFFF, 1: 0xFFFFF}),
        ("L3:0=03f;1=fff", "L3", {0: 0x3F, 1: 0xFFF}),
        ("    MB:0=100;1= 50", "MB", {0: 100, 1: 50}),
        ("    MB:0=2048;1=  16;2=2048", "MB", {0: 2048, 1: 16, 2: 2048}),
        ("    MB:0=4294967295;1=4294967295", "MB", {0: 4294967295, 1: 4294967295}),
        ("  SMBA:0=2048;4=64", "SMBA", {0: 2048, 4: 64}),
        ("L3DATA:0=fffff;2=3c0", "L3DATA", {0: 0xFFFFF, 2: 0x3C0}),
        ("L2CODE:0=ff;1=0f", "L2CODE", {0: 0xFF, 1: 0x0F}),
        ("    L3:0=0;1=ffff", "L3", {0: 0, 1: 0xFFFF}),
        ("    L3:0=0000;1=0001", "L3", {0: 0, 1: 1}),
        ("L2:", "L2", {}),
    ],
)
def test_line_of_a_kernel(text: str, resource: str, values: dict[int, int]) -> None:
    """Its numbers, and the line again as it was."""
    line = parse_line(text)
    assert (line.resource, line.values, line.verbatim) == (resource, values, None)
    assert str(line) == text


@pytest.mark.parametrize("text", ["L2:uninitialized", " L4MAX:0=a,b;1=c", "MB_HLIM:0=1"])
def test_line_that_is_not_known_is_kept(text: str) -> None:
    """A later kernel's resource, or a group that is being pseudo-locked: no numbers, no error, the same line."""
    assert str(parse_line(text)) == text
    assert schemata.values([parse_line(text)]) == {}


@pytest.mark.parametrize("text", ["", "L3", ":0=f", "L3:0=uninitialized", "MB:0=f", "L3:0=f;0=f", "L3:0=1ffffffff"])
def test_line_that_no_kernel_prints_is_unreadable(text: str) -> None:
    """With the line in the error."""
    with pytest.raises(Unreadable) as caught:
        parse_line(text)
    assert text in str(caught.value)


@given(files)
def test_what_is_printed_is_parsed_to_the_same_bytes(found: list[Line]) -> None:
    text = schemata.text(found)
    assert schemata.text(schemata.parse(text)) == text


@given(lines)
def test_padding_changes_no_number(line: Line) -> None:
    assert parse_line(str(line)).values == line.values


@given(files, files)
def test_difference_is_what_makes_one_the_other(before: list[Line], wanted: list[Line]) -> None:
    """Written over what is there, it gives what is wanted; of what is there already it has nothing."""
    found, target = schemata.values(before), schemata.values(wanted)
    change = schemata.difference(target, found)
    for resource, values in change.items():
        found.setdefault(resource, {}).update(values)
    assert schemata.difference(target, found) == {}
    assert schemata.difference(target, target) == {}


def test_cache_that_is_not_there_differs() -> None:
    assert schemata.difference({"L3": {0: 1, 1: 2}, "MB": {0: 10}}, {"L3": {0: 1}}) == {"L3": {1: 2}, "MB": {0: 10}}


def test_only_what_is_wanted_is_written() -> None:
    assert schemata.to_write({"L3": {0: 0x3F, 2: 1}, "MB": {}, "SMBA": {0: 64}}) == ["L3:0=3f;2=1\nSMBA:0=64\n"]
    assert schemata.to_write({"MB": {}}) == []


@given(files, st.integers(40, 200))
def test_long_text_is_written_in_parts(found: list[Line], limit_bytes: int) -> None:
    """None longer than the limit, each of whole lines, together what is wanted."""
    wanted = schemata.values(found)
    parts = schemata.to_write(wanted, limit_bytes)
    written: dict[str, dict[int, int]] = {}
    for part in parts:
        assert len(part) <= limit_bytes
        for line in schemata.parse(part):
            written.setdefault(line.resource, {}).update(line.values)
    assert written == wanted
