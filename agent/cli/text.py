"""Numbers and names for people. Pure."""

from __future__ import annotations

import math
from unicodedata import combining, east_asian_width

from agent.config_explain import one_line

ABSENT = "-"
_DURATIONS = (("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9))
_BIT_RATES = (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9))
_SIZES = (("B", 1.0), ("KiB", 2.0**10), ("MiB", 2.0**20), ("GiB", 2.0**30), ("TiB", 2.0**40))


def duration(value_ns: float) -> str:
    """ns in the largest unit that leaves a number of at least 1, with two digits or more; NaN is "-"."""
    return _scaled(value_ns, _DURATIONS, 1000)


def size(value_bytes: float) -> str:
    """Bytes in binary units."""
    return _scaled(value_bytes, _SIZES, 1024)


def bits_per_s(value_bytes_per_s: float) -> str:
    """Bytes per second as bits: 95M."""
    return _scaled(value_bytes_per_s * 8, _BIT_RATES, 1000)


def _scaled(value: float, units: tuple[tuple[str, float], ...], step: int) -> str:
    if math.isnan(value):
        return ABSENT
    if not value:
        return "0"
    texts = ((_digits(value / scale), unit) for unit, scale in units)
    return next(
        (text + unit for text, unit in texts if float(text) < step), f"{value / units[-1][1]:.0f}{units[-1][0]}"
    )


def _digits(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 9.95 else f"{value:.0f}"


def decimal(value: float, digits: int = 2) -> str:
    """A number with `digits` decimals; NaN is "-"."""
    return ABSENT if math.isnan(value) else f"{value:.{digits}f}"


def percent(ratio: float) -> str:
    """A ratio in whole per cent; NaN is "-"."""
    return ABSENT if math.isnan(ratio) else f"{ratio * 100:.0f}%"


def ratio(part: float, whole: float) -> float:
    """part / whole; NaN where there is no whole."""
    return part / whole if whole > 0 else math.nan


def fitted(name: str, width: int) -> str:
    """`name` made printable, without its middle if it is too long, padded to `width` >= 3 columns of a terminal."""
    name = one_line(name)
    if _columns(name) > width:
        tail = (width - 1) * 2 // 3
        name = f"{_cut(name, width - 1 - tail)}…{_cut(name[::-1], tail)[::-1]}"
    return name + " " * (width - _columns(name))


def begun(text: str, width: int) -> str:
    """`text` made printable, without its end if it is too long for `width` columns, padded to them."""
    text = one_line(text)
    if _columns(text) > width:
        text = _cut(text, width - 1) + "…"
    return text + " " * (width - _columns(text))


def _cut(name: str, width: int) -> str:
    """As much of the beginning of `name` as `width` columns hold."""
    name = name[:width]  # a character has at least one column, but for combining ones
    while _columns(name) > width:
        name = name[:-1]
    return name


def _columns(name: str) -> int:
    """Columns of a terminal: 2 for wide characters, 0 for combining ones. Source: Unicode Standard Annex 11."""
    if name.isascii():
        return len(name)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in name)
