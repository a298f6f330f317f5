"""A latency sketch with memory of its own. Errors, bounds and ranks: the contract in native/sketch.h."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from native._slackwater import ffi, lib


class Sketch:
    """Exponential histogram of whole numbers of ns, 0..2**64-1; any quantile within 0.55 %. For one thread."""

    def __init__(self, capacity_octaves: int = lib.SKETCH_OCTAVES) -> None:
        """Memory for values in `capacity_octaves` octaves, which costs nothing until they are met. MemoryError."""
        arena = ffi.new("struct sketch_arena *")
        if lib.sketch_arena_init(arena, capacity_octaves):
            raise MemoryError(f"no memory for {capacity_octaves} octaves of a sketch")
        self._arena = ffi.gc(arena, lib.sketch_arena_free)
        self._sketch = ffi.new("struct sketch *")

    def insert(self, value_ns: int, weight: int = 1) -> None:
        """Count a value `weight` times. If there is no room for its octave, `refused` counts it instead."""
        lib.sketch_insert(self._sketch, self._arena, value_ns, weight)

    def insert_many(self, values_ns: NDArray[np.uint64]) -> None:
        """Count each value once. The array must be contiguous."""
        if values_ns.dtype != np.uint64:
            raise TypeError(f"values in ns must be uint64, not {values_ns.dtype}")
        lib.sketch_insert_many(
            self._sketch, self._arena, ffi.from_buffer("uint64_t[]", values_ns.ravel()), values_ns.size
        )

    @property
    def count(self) -> int:
        """How many values were inserted, by weight."""
        return lib.sketch_count(self._sketch, self._arena)

    @property
    def zero_count(self) -> int:
        """How many of them were 0 ns: these are in no bucket."""
        return self._sketch.zero_count

    @property
    def refused(self) -> int:
        """How many values, by weight, found no room and are not in `count`."""
        return self._arena.refused

    def quantiles(self, qs: ArrayLike, max_ns: int = 0) -> NDArray[np.float64]:
        """Values in ns at `qs` (0..1, ascending), cut at the true maximum if it is known (not 0). Empty: NaN."""
        wanted = np.atleast_1d(np.asarray(qs, dtype=np.float64))
        if not np.all(wanted[:-1] <= wanted[1:]):
            raise ValueError(f"quantiles must ascend: {wanted}")
        out_ns = np.empty(wanted.size)
        lib.sketch_quantiles(
            ffi.new("struct sketch *[]", [self._sketch]),
            1,
            self._arena,
            max_ns,
            ffi.from_buffer("double[]", wanted),
            wanted.size,
            ffi.from_buffer("double[]", out_ns),
        )
        return out_ns

    def fold(self, schema: int) -> dict[int, int]:
        """Counts by bucket index at `schema` (0..6), without zeros and without empty buckets."""
        if not 0 <= schema <= lib.SKETCH_SCHEMA:
            raise ValueError(f"schema must be 0..{lib.SKETCH_SCHEMA}, not {schema}")
        lowest, highest = lib.sketch_index(1), lib.sketch_index(2**64 - 1)
        first, last = (-(-index >> (lib.SKETCH_SCHEMA - schema)) for index in (lowest, highest))
        counts = np.zeros(last - first + 1, dtype=np.uint64)
        lib.sketch_fold(self._sketch, self._arena, schema, first, ffi.from_buffer("uint64_t[]", counts), counts.size)
        return {first + int(j): int(counts[j]) for j in np.flatnonzero(counts)}
