"""Numbers with a unit, as the configuration writes them: "2ms", "5%", "10/s", "1.5cores", "100 Mbit/s". Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.units import NS_PER_MS, NS_PER_S, NS_PER_US

_NUMBER_UNIT = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z/%]*)\Z")


@dataclass(frozen=True, slots=True)
class Dimension:
    """What a number measures. `factors`: unit as written -> its value in `unit`, the unit that the agent counts in."""

    unit: str
    factors: dict[str, float]
    low: float
    high: float
    """The range, in `unit`."""
    allowed: str
    """The same in words."""


TIME = Dimension(
    "ns",
    {"ns": 1, "us": NS_PER_US, "ms": NS_PER_MS, "s": NS_PER_S},
    NS_PER_US,
    60 * NS_PER_S,
    '"1us" to "60s", in us, ms or s',
)
PER_CENT = Dimension("%", {"%": 1}, 0.1, 10_000, '"0.1%" to "10000%"')
PER_SECOND = Dimension("/s", {"/s": 1}, 0.01, 1e6, '"0.01/s" to "1000000/s"')
CORES = Dimension("cores", {"cores": 1}, 0.01, 65_536, '"0.01cores" to "65536cores"')
RATE = Dimension(
    "bytes/s",
    {"bit/s": 1 / 8, "kbit/s": 125, "Mbit/s": 125_000, "Gbit/s": 125_000_000},
    1_000,
    1.25e11,
    '"8 kbit/s" to "1000 Gbit/s", in bit/s, kbit/s, Mbit/s or Gbit/s',
)
"""Bits only for people: counted are bytes."""


def parse_quantity(text: str, dimension: Dimension) -> float:
    """The number in `dimension.unit`. Raises ValueError with what is allowed."""
    match = _NUMBER_UNIT.match(text)
    factor = dimension.factors.get(match[2]) if match else None
    if match is None or factor is None:
        lacks = "has no unit" if match and not match[2] else "is not in its unit"
        raise ValueError(f"{lacks}, allowed is {dimension.allowed}")
    value = float(match[1]) * factor
    if not dimension.low <= value <= dimension.high:
        raise ValueError(f"allowed is {dimension.allowed}")
    return value


def format_quantity(value: float, dimension: Dimension) -> str:
    """`value` in `dimension.unit`, as a person reads it: 2.5 ms, 30 %, 12 /s."""
    fitting = [unit for unit, factor in dimension.factors.items() if value >= factor]
    unit = fitting[-1] if fitting else next(iter(dimension.factors))
    return f"{value / dimension.factors[unit]:.3g} {unit}"
