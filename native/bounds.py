"""Write native/sketch_bounds.h: `python -m native.bounds`. Exact integer arithmetic, no logarithm.

In the binade [2**63, 2**64) lie exactly 64 bucket boundaries: 10**9 * 2**34 (which is 2**34 s in ns) times
2**(j/64), j = -57..6. A value shifted left until its top bit is set is compared with these; since it is an
integer, v <= boundary and v <= floor(boundary) are the same.
"""

from __future__ import annotations

from math import isqrt
from pathlib import Path

HEADER = Path(__file__).with_name("sketch_bounds.h")
BOUNDS = 64
CELLS = 128
"""Cells are narrower (2**-7) than the narrowest bucket (2**(1/64) - 1), so a cell holds at most one boundary."""


def floor_bounds() -> list[int]:
    """The 64 boundaries, rounded down, ascending. The 64th root is six square roots; flooring commutes with them."""
    bounds = []
    for j in range(-57, 7):
        power64 = (10**9 << 34) ** 64
        bound = power64 << j if j >= 0 else power64 >> -j
        for _ in range(6):
            bound = isqrt(bound)
        bounds.append(bound)
    return bounds


def render() -> str:
    """The text of the header."""
    bounds = floor_bounds()
    starts = [(CELLS + cell) << (63 - 7) for cell in range(CELLS)]
    below = [sum(bound < start for bound in bounds) for start in starts]
    lines = [
        "/* SPDX-License-Identifier: Apache-2.0 */",
        "/* Written by native/bounds.py, where the reasons are. */",
        "#ifndef SLACKWATER_SKETCH_BOUNDS_H",
        "#define SLACKWATER_SKETCH_BOUNDS_H",
        "",
        "#include <stdint.h>",
        "",
        "/* clang-format off */",
        "",
        "/* Bucket boundaries in [2^63, 2^64), rounded down; the last entry stops the search. */",
        f"static const uint64_t sketch_bounds[{BOUNDS + 1}] = {{",
        *_rows([f"{bound:#018x}," for bound in bounds] + ["UINT64_MAX,"], per_row=4),
        "};",
        "",
        "/* By the 7 bits under the top bit: how many boundaries lie below this cell. */",
        f"static const uint8_t sketch_cells[{CELLS}] = {{",
        *_rows([f"{count:2d}," for count in below], per_row=16),
        "};",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _rows(items: list[str], per_row: int) -> list[str]:
    return ["\t" + " ".join(items[i : i + per_row]) for i in range(0, len(items), per_row)]


if __name__ == "__main__":
    HEADER.write_text(render())
