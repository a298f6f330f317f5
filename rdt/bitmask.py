"""Capacity bitmasks: one bit per way of a cache. Pure; a mask is an int.

Source: "Cache Bit Masks (CBM)" in Documentation/filesystems/resctrl.rst.
"""

from __future__ import annotations

from itertools import pairwise

from rdt.errors import Unreadable

MASK_BITS_MAX = 32
"""The kernel keeps a mask in 32 bits."""


def parse(digits: str) -> int:
    """A mask as the kernel prints it: `03f`, `0x3f`. Raises Unreadable."""
    try:
        mask = int(digits, 16)
    except ValueError as error:
        raise Unreadable("not a hexadecimal mask", value=digits) from error
    if not 0 <= mask < 1 << MASK_BITS_MAX or "_" in digits:
        raise Unreadable("not a mask of at most 32 bits", value=digits)
    return mask


def text(mask: int, width: int = 0) -> str:
    """As the kernel prints it, padded with zeros to `width` digits."""
    return f"{mask:0{width}x}"


def span(low: int, high: int) -> int:
    """The ways low <= way < high."""
    return (1 << high) - (1 << low) if high > low else 0


def runs(mask: int) -> list[tuple[int, int]]:
    """Runs of ones from the lowest: [(low, high)], low <= way < high."""
    found = []
    low = 0
    while mask >> low:
        low += _trailing_zeros(mask >> low)
        high = low + _trailing_zeros(~(mask >> low))
        found.append((low, high))
        low = high
    return found


def contiguous(mask: int) -> bool:
    """One run of ones. An empty mask is none."""
    return len(runs(mask)) == 1


def longest_run(mask: int) -> int:
    """The longest run of ones, the lowest of several, as a mask; 0 of 0."""
    return max((span(*run) for run in runs(mask)), key=int.bit_count, default=0)


def shift(mask: int, ways: int, within: int) -> int | None:
    """Moved up by `ways` (down: negative); None where it does not stay inside of `within`."""
    if ways < 0 and mask & span(0, -ways):
        return None
    moved = mask << ways if ways >= 0 else mask >> -ways
    return moved if moved & ~within == 0 else None


def split(mask: int, parts: int) -> list[int]:
    """A contiguous mask cut into contiguous parts from the lowest; their sizes differ by one way at most.

    Raises ValueError for a mask with gaps and for more parts than ways.
    """
    if not contiguous(mask) or not 0 < parts <= mask.bit_count():
        raise ValueError(f"{mask:x} cannot be split into {parts}")
    ((begin, end),) = runs(mask)
    edges = [begin + (end - begin) * part // parts for part in range(parts + 1)]
    return [span(low, high) for low, high in pairwise(edges)]


def _trailing_zeros(number: int) -> int:
    """Of a number that is not 0."""
    return (number & -number).bit_length() - 1
