"""Masks: what is true of each of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt import bitmask
from rdt.errors import Unreadable

masks = st.integers(0, (1 << 32) - 1)
ways = st.integers(0, 32)


@given(masks, st.integers(0, 8))
def test_text_is_parsed_to_the_mask_it_is_of(mask: int, width: int) -> None:
    text = bitmask.text(mask, width)
    assert bitmask.parse(text) == bitmask.parse(f"0x{text}") == mask
    assert len(text) >= width


@pytest.mark.parametrize("text", ["", "g", "1ffffffff", "-1", "1_0", "3 f"])
def test_what_is_no_mask_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="mask"):
        bitmask.parse(text)


@given(masks)
def test_runs_are_the_mask(mask: int) -> None:
    """Together they are it, none is empty, and no two touch."""
    runs = bitmask.runs(mask)
    assert sum(bitmask.span(*run) for run in runs) == mask
    assert all(low < high for low, high in runs)
    assert all(before[1] < after[0] for before, after in pairwise(runs))


@given(ways, ways)
def test_a_span_is_contiguous(low: int, high: int) -> None:
    mask = bitmask.span(low, high)
    assert mask.bit_count() == max(0, high - low)
    assert bitmask.contiguous(mask) == (low < high)


@given(masks)
def test_longest_run_is_contiguous_and_none_is_longer(mask: int) -> None:
    longest = bitmask.longest_run(mask)
    assert longest & mask == longest
    assert bitmask.contiguous(longest) == (mask != 0)
    assert all(high - low <= longest.bit_count() for low, high in bitmask.runs(mask))


@given(masks, st.integers(-40, 40), masks)
def test_shifted_mask_keeps_its_form_or_is_none(mask: int, by: int, within: int) -> None:
    moved = bitmask.shift(mask, by, within)
    if moved is None:
        assert mask
    else:
        assert moved & ~within == 0
        assert bitmask.shift(moved, -by, mask) == mask


@given(ways, ways, st.integers(1, 40))
def test_parts_are_the_mask_and_alike(low: int, high: int, parts: int) -> None:
    """Contiguous, in order, together the mask, of sizes that differ by one at most; more parts than ways: refused."""
    mask = bitmask.span(low, high)
    if not 0 < parts <= high - low:
        with pytest.raises(ValueError, match="cannot be split"):
            bitmask.split(mask, parts)
        return
    found = bitmask.split(mask, parts)
    assert len(found) == parts
    assert sum(found) == mask
    assert all(map(bitmask.contiguous, found))
    assert found == sorted(found)
    sizes = {part.bit_count() for part in found}
    assert max(sizes) - min(sizes) <= 1


def test_mask_with_gaps_is_not_split() -> None:
    with pytest.raises(ValueError, match="5 cannot be split into 2"):
        bitmask.split(0b101, 2)
