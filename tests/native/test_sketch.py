"""The sketch keeps what native/sketch.h promises: exact boundaries, exact counts, quantiles within 0.55 %."""

from __future__ import annotations

import errno
import math
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import bounds
from native._slackwater import ffi, lib
from native.sketch import Sketch

getcontext().prec = 120
U64_MAX = 2**64 - 1
QUANTILES = [0.0, 0.001, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0]
ERROR_RATIO = 0.0055
INDEX_FIRST, INDEX_LAST = -1913, 2183
values_ns = st.one_of(st.integers(0, U64_MAX), st.integers(0, 64).flatmap(lambda bits: st.integers(0, 2**bits - 1)))


def bound_ns(index: int) -> Decimal:
    """The upper bound of a bucket, from its definition."""
    return Decimal(2) ** (Decimal(index) / 64) * 10**9


def last_ns(index: int) -> int:
    """The largest whole number of ns in a bucket or below it. 120 digits; powers of two of seconds are exact."""
    return math.floor(Fraction(2) ** (index // 64) * 10**9 if index % 64 == 0 else bound_ns(index))


def distributions() -> dict[str, np.ndarray]:
    """Named data sets, each hard for some sketch."""
    rng = np.random.default_rng(20261121)
    n = 50_000
    powers = [2**k + d for k in range(64) for d in (-1, 0, 1)]
    return {
        "constant": np.full(n, 1_234_567),
        "constant_one": np.ones(n),
        "uniform": rng.integers(0, 10**9, n),
        "uniform_64_bit": rng.integers(0, U64_MAX, n, dtype=np.uint64, endpoint=True),
        "bimodal": np.concatenate([rng.normal(2e4, 1e3, n // 2), rng.normal(5e7, 1e6, n // 2)]),
        "powers_of_two_and_neighbours": np.array(powers, dtype=np.uint64),
        "bucket_bounds": np.array([last_ns(i) for i in range(-1400, 2100)], dtype=np.uint64),
        "pareto_heavy_tail": np.minimum((1 + rng.pareto(0.7, n)) * 1000, 1e19),
        "lognormal": rng.lognormal(11, 2.5, n),
        "exponential": rng.exponential(1e6, n),
        "zero_and_largest": np.array([0, U64_MAX] * 500, dtype=np.uint64),
        "all_zero": np.zeros(n),
        "one_to_200": rng.integers(1, 201, n),
        "zipf": np.minimum(rng.zipf(1.3, n).astype(np.float64), 1e18),
        "sorted": np.arange(1, n) ** 2,
        "reversed": np.arange(n, 0, -1) * 977,
        "sparse_extremes": np.array([1] * 9990 + [10**18] * 10),
        "one_value": np.array([77_777]),
    }


DISTRIBUTIONS = {name: data.astype(np.uint64) for name, data in distributions().items()}


def exact_quantile(ordered: np.ndarray, q: float) -> int:
    return int(ordered[max(1, math.ceil(q * len(ordered))) - 1])


def sketch_of(data: np.ndarray) -> Sketch:
    sketch = Sketch()
    sketch.insert_many(data)
    return sketch


def close(estimate: float, true: int) -> bool:
    return abs(estimate - true) <= ERROR_RATIO * true


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_quantiles_are_within_055_percent_of_the_order_statistic(name: str) -> None:
    ordered = np.sort(DISTRIBUTIONS[name])
    estimates = sketch_of(DISTRIBUTIONS[name]).quantiles(QUANTILES)
    for q, estimate in zip(QUANTILES, estimates, strict=True):
        assert close(estimate, exact_quantile(ordered, q)), (q, estimate, exact_quantile(ordered, q))


@given(st.lists(values_ns, min_size=1, max_size=300), st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_quantiles_of_any_values_are_within_055_percent(data: list[int], qs: list[float]) -> None:
    qs = sorted(qs)
    estimates = sketch_of(np.array(data, dtype=np.uint64)).quantiles(qs, max_ns=max(data))
    for q, estimate in zip(qs, estimates, strict=True):
        true = exact_quantile(np.sort(np.array(data, dtype=np.uint64)), q)
        assert close(estimate, true), (q, estimate, true)
        assert estimate <= max(data)


def test_small_values_are_exact() -> None:
    """Up to 95 ns each whole number has a bucket of its own."""
    data = np.arange(1, 96, dtype=np.uint64)
    assert sketch_of(data).quantiles((data - 0.5) / 95).tolist() == data.tolist()


def test_the_header_of_bounds_is_what_the_generator_writes() -> None:
    assert bounds.HEADER.read_text() == bounds.render()


def test_the_generator_agrees_with_decimal_arithmetic() -> None:
    """Two ways: integer roots and 120 digits. The floor must not depend on the last digits either."""
    for j, bound in zip(range(-57, 7), bounds.floor_bounds(), strict=True):
        exact = bound_ns(34 * 64 + j)
        assert bound == (10**9 << 34 if j == 0 else math.floor(exact))
        assert j == 0 or Decimal("1e-9") < exact - bound < 1 - Decimal("1e-9")


def test_the_index_is_exact_at_every_boundary() -> None:
    """All boundaries of all octaves: the bound itself is inside (inclusive), bound + 1 is in the next bucket."""
    filled = 0
    for index in range(INDEX_FIRST, INDEX_LAST):
        last, previous_last = last_ns(index), last_ns(index - 1)
        if last == previous_last:
            continue
        filled += 1
        assert lib.sketch_index(last) == index
        assert lib.sketch_index(previous_last + 1) == index
        assert lib.sketch_index(last + 1) > index
    assert filled > 3500
    assert lib.sketch_index(U64_MAX) == INDEX_LAST
    assert lib.sketch_index(0) == lib.SKETCH_INDEX_MIN


@pytest.mark.parametrize("exponent", range(-9, 35))
def test_a_power_of_two_of_seconds_is_inclusive(exponent: int) -> None:
    value_ns = int(Fraction(2) ** exponent * 10**9)
    assert lib.sketch_index(value_ns) == 64 * exponent
    assert lib.sketch_index(value_ns + 1) == 64 * exponent + 1
    assert lib.sketch_upper_ns(64 * exponent) == value_ns
    assert lib.sketch_lower_ns(64 * exponent + 1) == value_ns


@given(values_ns.filter(bool), values_ns.filter(bool))
def test_the_index_is_monotone_and_its_bucket_holds_the_value(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert lib.sketch_index(low) <= lib.sketch_index(high)
    index = lib.sketch_index(a)
    assert index == min(i for i in (index - 1, index, index + 1) if a <= last_ns(i))


def test_bounds_as_reals_are_right_to_the_last_digits() -> None:
    for index in range(lib.SKETCH_INDEX_MIN, INDEX_LAST + 1):
        assert lib.sketch_upper_ns(index) == pytest.approx(float(bound_ns(index)), rel=3e-16, abs=0)
        assert lib.sketch_lower_ns(index) == lib.sketch_upper_ns(index - 1)


def test_counts_are_exact_integers_by_weight() -> None:
    sketch = Sketch()
    sketch.insert(5, weight=2**53)
    sketch.insert(5)
    sketch.insert(0, weight=7)
    assert sketch.count == 2**53 + 8
    assert sketch.zero_count == 7
    assert sketch.fold(6) == {lib.sketch_index(5): 2**53 + 1}


@given(st.lists(st.tuples(values_ns, st.integers(1, 1000)), max_size=60), st.integers(0, 6))
def test_fold_merges_neighbours_into_the_buckets_of_the_lower_schema(data: list[tuple[int, int]], schema: int) -> None:
    sketch = Sketch()
    expected: dict[int, int] = {}
    for value, weight in data:
        sketch.insert(value, weight)
        if value:
            index = math.ceil(Fraction(lib.sketch_index(value), 2 ** (6 - schema)))
            expected[index] = expected.get(index, 0) + weight
            assert lib.sketch_lower_ns((index - 1) * 2 ** (6 - schema) + 1) <= value
            assert value <= lib.sketch_upper_ns(index * 2 ** (6 - schema))
    assert sketch.fold(schema) == expected


def test_fold_adds_nothing_if_a_value_is_outside() -> None:
    arena, sketch = ffi.new("struct sketch_arena *"), ffi.new("struct sketch *")
    assert lib.sketch_arena_init(arena, 4) == 0
    lib.sketch_insert(sketch, arena, 10**6, 1)
    lib.sketch_insert(sketch, arena, 10**9, 1)
    counts = ffi.new("uint64_t[2]")
    assert lib.sketch_fold(sketch, arena, 0, -9, counts, 2) == -errno.ERANGE
    assert lib.sketch_fold(sketch, arena, 0, 0, counts, 2) == -errno.ERANGE
    assert list(counts) == [0, 0]
    lib.sketch_arena_free(arena)


@given(st.integers(1, U64_MAX), st.integers(0, 6))
def test_fold_needs_room_for_the_values_buckets_only(value: int, schema: int) -> None:
    arena, sketch = ffi.new("struct sketch_arena *"), ffi.new("struct sketch *")
    assert lib.sketch_arena_init(arena, 1) == 0
    lib.sketch_insert(sketch, arena, value, 3)
    counts = ffi.new("uint64_t[1]")
    assert lib.sketch_fold(sketch, arena, schema, -(-lib.sketch_index(value) >> (6 - schema)), counts, 1) == 0
    assert counts[0] == 3
    lib.sketch_arena_free(arena)


def test_quantiles_of_several_sketches_are_those_of_their_union() -> None:
    """Sketches of one arena, of different ranges, one of them empty."""
    data = [DISTRIBUTIONS["lognormal"], DISTRIBUTIONS["uniform"], np.array([], dtype=np.uint64)]
    arena = ffi.new("struct sketch_arena *")
    assert lib.sketch_arena_init(arena, 130) == 0
    sketches = [ffi.new("struct sketch *") for _ in data]
    for sketch, values in zip(sketches, data, strict=True):
        lib.sketch_insert_many(sketch, arena, ffi.from_buffer("uint64_t[]", values), len(values))
    out_ns = ffi.new("double[]", len(QUANTILES))
    union = ffi.new("struct sketch *[]", sketches)
    lib.sketch_quantiles(union, len(sketches), arena, 0, QUANTILES, len(QUANTILES), out_ns)
    assert list(out_ns) == sketch_of(np.concatenate(data)).quantiles(QUANTILES).tolist()
    lib.sketch_arena_free(arena)


def test_the_last_rank_is_reached_where_a_double_rounds_the_count_up() -> None:
    sketch = Sketch()
    sketch.insert(5, weight=2**53 + 3)
    assert sketch.quantiles([1.0]).tolist() == [5.0]


def test_an_empty_sketch_has_no_quantiles() -> None:
    assert np.isnan(Sketch().quantiles([0.5, 1.0])).all()


def test_a_full_arena_counts_what_it_refuses() -> None:
    sketch = Sketch(capacity_octaves=2)
    sketch.insert_many(np.array([1_000, 1_000_000, 10**9, 1_001, 0], dtype=np.uint64))
    sketch.insert(10**9, weight=5)
    assert sketch.count == 4
    assert sketch.refused == 6
    assert sketch.quantiles([1.0])[0] == pytest.approx(1e6, rel=ERROR_RATIO)


def test_a_reset_arena_starts_from_zero() -> None:
    arena, sketch = ffi.new("struct sketch_arena *"), ffi.new("struct sketch *")
    assert lib.sketch_arena_init(arena, 1) == 0
    for _ in range(2):
        assert lib.sketch_insert(sketch, arena, 5, 3) == 0
        assert lib.sketch_insert(sketch, arena, 5_000_000, 1) == -errno.ENOSPC
        assert lib.sketch_count(sketch, arena) == 3
        lib.sketch_arena_reset(arena)
        ffi.memmove(sketch, bytes(ffi.sizeof("struct sketch")), ffi.sizeof("struct sketch"))
    assert arena.used == 0
    assert arena.refused == 2
    lib.sketch_arena_free(arena)


def test_a_large_arena_costs_nothing_until_it_is_used() -> None:
    """1 GiB of octaves; the resident size grows by less than 8 MiB (a few huge pages)."""

    def resident_pages() -> int:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1])

    before = resident_pages()
    sketch = Sketch(capacity_octaves=2**21)
    sketch.insert_many(DISTRIBUTIONS["lognormal"])
    assert (resident_pages() - before) * 4096 < 8 << 20
