"""The group table keeps what native/groups.h promises: sums, percentiles, matrix, births, deaths, refusals."""

from __future__ import annotations

import errno
import math
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from native._slackwater import ffi, lib
from native.probe import struct_dtype

ERROR_RATIO = 0.0055
BATCH_HEADER_BYTES = 16
PAIRS_PER_GROUP = 8
OCTAVES_PER_GROUP = 24
U64 = 2**64
Sample = tuple[int, int, int, int]
"""victim id, culprit id, wait_ns, throttle_ns."""


def batch(samples: Iterable[Sample], weight: int = 1) -> bytes:
    """A record of a wait ring."""
    words = np.array(list(samples), dtype=np.uint64).reshape(-1, 4)
    return np.array([0, len(words), weight, 0], dtype=np.uint32).tobytes() + words.tobytes()


class Table:
    """struct groups."""

    def __init__(self, max_groups: int = 16384) -> None:
        self.groups = ffi.gc(lib.groups_new(max_groups), lib.groups_free)
        assert self.groups != ffi.NULL

    def add(self, samples: Iterable[Sample], weight: int = 1) -> None:
        samples = list(samples)
        for first in range(0, len(samples), 64):
            self.record(batch(samples[first : first + 64], weight))

    def record(self, record: bytes, record_bytes: int | None = None) -> None:
        memory = ffi.new("uint64_t[]", len(record) // 8 + 1)
        ffi.memmove(memory, record, len(record))
        lib.groups_on_batch(self.groups, memory, len(record) if record_bytes is None else record_bytes)

    def throttle(self, owner_id: int, duration_ns: int | None = None, kind: int | None = None) -> None:
        """The begin of a throttle, or its end after `duration_ns`."""
        usual = lib.EVENT_THROTTLE_BEGIN if duration_ns is None else lib.EVENT_THROTTLE_END
        event = {"kind": usual if kind is None else kind, "owner_id": owner_id, "duration_ns": duration_ns or 0}
        lib.groups_on_throttle(self.groups, ffi.new("struct throttle_event *", event))

    def born(self, group_id: int) -> None:
        lib.groups_on_born(self.groups, group_id)

    def removed(self, group_id: int) -> None:
        lib.groups_on_removed(self.groups, group_id)

    def sizes(self) -> tuple[int, int]:
        rows, pairs = ffi.new("size_t *"), ffi.new("size_t *")
        lib.groups_size(self.groups, rows, pairs)
        return rows[0], pairs[0]

    def try_tick(self, n_rows: int, n_pairs: int) -> tuple[int, NDArray[np.void], NDArray[np.void]]:
        rows = np.zeros(n_rows, struct_dtype("group_tick"))
        pairs = np.zeros(n_pairs, struct_dtype("group_pair"))
        n = ffi.new("size_t[2]", [2**60, 2**60])
        result = lib.groups_tick(
            self.groups,
            ffi.from_buffer("struct group_tick[]", rows),
            n_rows,
            n,
            ffi.from_buffer("struct group_pair[]", pairs),
            n_pairs,
            n + 1,
        )
        if result == 0:
            assert (n[0], n[1]) == (n_rows, n_pairs), "what groups_size said is exact"
        return result, rows, pairs

    def tick(self) -> tuple[dict[int, np.void], dict[tuple[int, int], tuple[int, int]]]:
        """Rows by id; (wait_ns, count) by victim and culprit."""
        result, rows, pairs = self.try_tick(*self.sizes())
        assert result == 0
        by_id = {int(row["id"]): row for row in rows}
        matrix = {(int(v), int(c)): (int(wait_ns), int(count)) for v, c, wait_ns, count in pairs.tolist()}
        assert len(by_id) == len(rows)
        assert len(matrix) == len(pairs)
        return by_id, matrix

    def try_buckets(self, room: int) -> int:
        out = np.zeros(room, struct_dtype("group_bucket"))
        return int(lib.groups_buckets(self.groups, ffi.from_buffer("struct group_bucket[]", out), room))

    def buckets(self) -> dict[tuple[int, int], Counter[int]]:
        """Counts by bucket, by id and class."""
        out = np.zeros(1 << 16, struct_dtype("group_bucket"))
        n = lib.groups_buckets(self.groups, ffi.from_buffer("struct group_bucket[]", out), len(out))
        assert n >= 0
        found: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        for row in out[:n]:
            found[int(row["id"]), int(row["wait_class"])][int(row["bucket"])] += int(row["count"])
        return found

    @property
    def counters(self) -> dict[str, int]:
        out = ffi.new("struct groups_counters *")
        lib.groups_read_counters(self.groups, out)
        return {name: getattr(out, name) for name in dir(out)}

    def refused(self) -> dict[str, int]:
        """What is not 0 of the counters of what is missing."""
        names = ("groups_refused", "sketch_refused", "pairs_refused", "malformed")
        return {name: count for name in names if (count := self.counters[name])}


def random_samples(seed: int, n: int, groups: int, throttled: float = 0.3) -> list[Sample]:
    rng = np.random.default_rng(seed)
    wait_ns = rng.lognormal(11, 2, n).astype(np.uint64)
    throttle_ns = np.where(rng.random(n) < throttled, wait_ns * rng.random(n), 0).astype(np.uint64)
    victims, culprits = rng.integers(100, 100 + groups, n), rng.integers(100, 100 + groups, n)
    return list(zip(victims.tolist(), culprits.tolist(), wait_ns.tolist(), throttle_ns.tolist(), strict=True))


def exact_quantile(values: list[int], q: float) -> int:
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1]


def close(estimate: float, true: int) -> bool:
    return abs(estimate - true) <= ERROR_RATIO * true


def by_victim(samples: Iterable[Sample]) -> dict[int, list[Sample]]:
    found: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample[0]].append(sample)
    return found


def matrix_of(samples: Iterable[Sample], weight: int = 1) -> dict[tuple[int, int], tuple[int, int]]:
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for victim, culprit, wait_ns, throttle_ns in samples:
        if wait_ns > throttle_ns:
            sum_ns, count = found.get((victim, culprit), (0, 0))
            found[victim, culprit] = sum_ns + (wait_ns - throttle_ns) * weight, count + weight
    return found


def class_of(sample: Sample) -> int:
    """By the larger part; contention where they are equal."""
    return int(lib.WAIT_THROTTLE if 2 * sample[3] > sample[2] else lib.WAIT_CONTENTION)


def bucket_of(wait_ns: int) -> int:
    """At TOTAL_SCHEMA: 2^3 neighbours of schema 6, upper bound inclusive."""
    return -(-lib.sketch_index(wait_ns) >> lib.SKETCH_SCHEMA - lib.TOTAL_SCHEMA) if wait_ns else -(2**31)


@pytest.mark.parametrize("weight", [1, 7, 2**32 - 1])
@pytest.mark.parametrize("groups", [1, 3, 64, 700])
def test_a_tick_says_what_was_added(groups: int, weight: int) -> None:
    """Counts and sums exactly, by weight; percentiles within 0.55 %; the matrix cell by cell."""
    samples = random_samples(groups, 5000, groups)
    table = Table()
    table.add(samples, weight)
    rows, matrix = table.tick()
    assert matrix == matrix_of(samples, weight)
    assert rows.keys() == by_victim(samples).keys()
    for victim, of_victim in by_victim(samples).items():
        row, waits_ns = rows[victim], [sample[2] for sample in of_victim]
        assert row["wait_count"] == len(waits_ns) * weight
        assert row["wait_sum_ns"] == sum(waits_ns) * weight
        assert row["throttle_ns"] == sum(sample[3] for sample in of_victim) * weight
        assert int(row["contention_ns"]) + int(row["throttle_ns"]) == row["wait_sum_ns"]
        assert row["max_ns"] == max(waits_ns)
        for name, q in (("p50_ns", 0.5), ("p95_ns", 0.95), ("p99_ns", 0.99)):
            assert close(row[name], exact_quantile(waits_ns, q)), name
        assert row["p99_ns"] <= row["max_ns"]
        assert row["removed"] == 0
    assert table.counters["consumed"] == 5000
    assert not table.refused()


def test_a_tick_begins_with_nothing() -> None:
    """The second says nothing of the first but for its totals; a percentile of nothing is NaN, not 0."""
    table = Table()
    table.add([(5, 6, 1000, 600), (5, 7, 10, 0)])
    table.throttle(5, 70)
    first = table.tick()[0][5]
    rows, matrix = table.tick()
    assert matrix == {}
    row = rows[5]
    nothing = ("wait_count", "wait_sum_ns", "contention_ns", "throttle_ns", "throttle_events", "throttle_ended")
    assert [int(row[name]) for name in (*nothing, "throttle_sum_ns")] == [0] * 7
    assert all(math.isnan(row[name]) for name in ("p50_ns", "p95_ns", "p99_ns", "max_ns", "throttle_p99_ns"))
    assert row["total_count"].tolist() == first["total_count"].tolist() == [1, 1]
    assert row["total_sum_ns"].tolist() == first["total_sum_ns"].tolist() == [10, 1000]


def test_waits_of_0_ns_and_waits_that_were_all_throttle_blame_nobody() -> None:
    table = Table()
    table.add([(5, 6, 0, 0), (5, 6, 900, 900), (5, 0, 8, 0)])
    rows, matrix = table.tick()
    assert matrix == {(5, 0): (8, 1)}
    assert rows[5]["wait_count"] == 3
    assert rows[5]["contention_ns"] == 8


def test_a_wait_has_the_class_of_its_larger_part() -> None:
    """Contention if they are equal; the shortest and the longest wait have a bucket too."""
    table = Table()
    table.add([(5, 6, 0, 0), (5, 6, 900, 900), (5, 6, 100, 50), (5, 6, 101, 51), (5, 6, 1, 0), (5, 6, 2**56 - 1, 0)])
    table.tick()
    assert table.buckets() == {
        (5, lib.WAIT_CONTENTION): {bucket_of(wait_ns): 1 for wait_ns in (0, 1, 100, 2**56 - 1)},
        (5, lib.WAIT_THROTTLE): {bucket_of(wait_ns): 1 for wait_ns in (101, 900)},
    }


def test_throttles_are_counted_where_they_begin_and_measured_where_they_end() -> None:
    table = Table()
    durations_ns = np.random.default_rng(1).integers(1, 10**8, 500).tolist()
    for duration_ns in durations_ns:
        table.throttle(9)
        table.throttle(9, duration_ns)
    table.throttle(9)
    row = table.tick()[0][9]
    assert row["throttle_events"] == 501
    assert row["throttle_ended"] == 500
    assert row["throttle_sum_ns"] == sum(durations_ns)
    assert close(row["throttle_p99_ns"], exact_quantile(durations_ns, 0.99))
    assert row["wait_count"] == 0
    assert math.isnan(row["p99_ns"])


def test_no_percentile_is_above_the_maximum_of_its_tick() -> None:
    """A value at the lower end of its bucket, after a tick of larger ones."""
    first_ns = math.floor(lib.sketch_upper_ns(lib.sketch_index(10**6))) + 1
    table = Table()
    for value_ns in (10**9, first_ns):
        table.add([(5, 6, value_ns, 0)])
        table.throttle(5, value_ns)
        row = table.tick()[0][5]
        assert row["max_ns"] == value_ns
        assert close(row["p99_ns"], value_ns)
        assert row["p99_ns"] <= value_ns
        assert row["throttle_p99_ns"] <= value_ns


def test_totals_and_buckets_are_the_sums_of_the_ticks() -> None:
    """Sums exactly, and each value in the bucket that native/sketch.h gives it, by class."""
    table, samples = Table(), random_samples(3, 6000, 40)
    for first in range(0, 6000, 1000):
        table.add(samples[first : first + 1000], weight=3)
        rows, _ = table.tick()
    expected: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    sums_ns: Counter[tuple[int, int]] = Counter()
    for sample in samples:
        expected[sample[0], class_of(sample)][bucket_of(sample[2])] += 3
        sums_ns[sample[0], class_of(sample)] += 3 * sample[2]
    assert table.buckets() == expected
    for (victim, wait_class), counts in expected.items():
        assert rows[victim]["total_count"][wait_class] == counts.total()
        assert rows[victim]["total_sum_ns"][wait_class] == sums_ns[victim, wait_class]


def test_buckets_ask_for_more_room_until_it_is_enough() -> None:
    table = Table()
    table.add(random_samples(4, 2000, 9))
    assert table.try_buckets(0) == 0, "as of the last tick"
    table.tick()
    needed = sum(len(counts) for counts in table.buckets().values())
    assert table.try_buckets(needed) == needed
    assert all(table.try_buckets(room) == -errno.ENOSPC for room in range(needed))


@pytest.mark.parametrize(("rows_missing", "pairs_missing"), [(1, 0), (0, 1), (3, 3)])
def test_a_tick_without_room_changes_nothing(rows_missing: int, pairs_missing: int) -> None:
    table, other, samples = Table(), Table(), random_samples(5, 500, 20)
    for each in (table, other):
        each.add(samples)
        each.throttle(100, 7)
        each.removed(101)
    rows, pairs = table.sizes()
    assert table.try_tick(rows - rows_missing, pairs - pairs_missing)[0] == -errno.ENOSPC
    assert table.sizes() == (rows, pairs)
    for _ in range(4):
        result, *arrays = table.try_tick(*table.sizes())
        other_result, *other_arrays = other.try_tick(*other.sizes())
        assert result == other_result == 0
        assert [a.tobytes() for a in arrays] == [a.tobytes() for a in other_arrays]


def test_a_removed_group_stays_for_some_ticks_so_that_late_samples_find_it() -> None:
    table = Table()
    table.add([(5, 6, 1000, 0), (7, 6, 1000, 0)])
    table.removed(5)
    table.removed(5)
    for _ in range(lib.GROUP_LINGER_TICKS):
        table.add([(5, 6, 10, 0)])
        row = table.tick()[0][5]
        assert row["removed"] == 1
    assert row["total_count"][0] == 1 + lib.GROUP_LINGER_TICKS
    rows, _ = table.tick()
    assert rows.keys() == {7}
    assert table.buckets().keys() == {(7, 0)}
    assert table.counters["groups_live"] == 1


def test_a_group_that_is_removed_before_its_first_sample_does_not_stay() -> None:
    """Its samples may come later than the event, and nothing else would free their row."""
    table = Table()
    table.removed(5)
    table.add([(5, 6, 1000, 0)])
    for _ in range(lib.GROUP_LINGER_TICKS):
        table.tick()
    assert table.sizes() == (0, 0)


@pytest.mark.parametrize("linger_ticks", range(lib.GROUP_LINGER_TICKS))
def test_an_id_that_is_born_again_begins_anew(linger_ticks: int) -> None:
    """While the row of the removed group is still there: nothing of it is left, in the row nor in the matrix."""
    table = Table()
    table.add([(5, 6, 1000, 900), (5, 6, 2000, 0)])
    table.throttle(5, 10)
    table.tick()
    table.removed(5)
    for _ in range(linger_ticks):
        table.tick()
    table.add([(5, 6, 40, 0), (4, 6, 7, 0), (5, 4, 50, 0)])
    table.throttle(5, 10)
    table.born(5)
    table.add([(5, 6, 30, 0), (4, 6, 7, 0)])
    rows, matrix = table.tick()
    assert matrix == {(5, 6): (30, 1), (4, 6): (14, 2)}
    assert rows[5]["total_count"].tolist() == [1, 0]
    assert rows[5]["total_sum_ns"].tolist() == [30, 0]
    assert rows[5]["throttle_ended"] == rows[5]["removed"] == 0
    assert table.buckets() == {(5, 0): {bucket_of(30): 1}, (4, 0): {bucket_of(7): 2}}
    assert table.counters["groups_reused"] == 1


def test_an_id_that_comes_after_its_row_went_begins_anew() -> None:
    table = Table()
    table.add([(5, 6, 1000, 900), (5, 6, 2000, 0)])
    table.removed(5)
    for _ in range(lib.GROUP_LINGER_TICKS):
        table.tick()
    table.born(5)
    table.add([(5, 6, 30, 0)])
    rows, _ = table.tick()
    assert rows[5]["total_count"].tolist() == [1, 0]
    assert table.buckets() == {(5, 0): {bucket_of(30): 1}}


def test_a_birth_that_comes_after_the_first_samples_loses_none() -> None:
    """Events and samples come by different rings."""
    table = Table()
    table.add([(5, 6, 1000, 0)])
    table.born(5)
    assert table.tick()[0][5]["wait_count"] == 1
    assert table.counters["groups_reused"] == 0


def test_a_birth_alone_makes_no_row_and_id_0_is_nobody() -> None:
    table = Table()
    table.born(5)
    table.born(0)
    table.removed(0)
    assert table.tick() == ({}, {})


def test_a_full_table_counts_what_it_refuses_and_the_rest_is_right() -> None:
    """16 rows: samples and events of others are counted; a row that becomes free is used again."""
    table = Table(16)
    samples = [(i % 20 + 1, 99, 100 + i, 0) for i in range(200)]
    table.add(samples)
    table.throttle(18)
    known = [sample for sample in samples if sample[0] <= 16]
    assert table.refused() == {"groups_refused": 40 + 1}
    rows, matrix = table.tick()
    assert matrix == matrix_of(known)
    assert {victim: row["wait_sum_ns"] for victim, row in rows.items()} == {
        victim: sum(sample[2] for sample in of_victim) for victim, of_victim in by_victim(known).items()
    }
    table.removed(3)
    for _ in range(lib.GROUP_LINGER_TICKS):
        table.tick()
    table.add([(18, 99, 5, 0)])
    rows, _ = table.tick()
    assert rows[18]["total_count"][0] == 1
    assert rows.keys() == {*range(1, 17), 18} - {3}


def test_a_full_matrix_counts_what_it_refuses_and_the_groups_are_right() -> None:
    """The matrix of 16 groups has room for 128 cells; those that it has still count, and the next tick has room."""
    table, full = Table(16), 16 * PAIRS_PER_GROUP
    for _ in range(2):
        table.add((1 + i % 16, 1000 + i, 50, 10) for i in range(full + 30))
        table.add([(1, 1000, 60, 10)])
        rows, matrix = table.tick()
        assert len(matrix) == full
        assert matrix[1, 1000] == (90, 2)
        assert sum(int(row["wait_count"]) for row in rows.values()) == full + 31
        assert sum(int(row["contention_ns"]) for row in rows.values()) == 40 * (full + 30) + 50
    assert table.refused() == {"pairs_refused": 60}


def test_a_full_arena_counts_what_it_refuses_and_the_sums_are_right() -> None:
    """16 groups have 384 octaves of buckets; 16 * 57 would be needed."""
    table = Table(16)
    samples = [(victim, 0, 2**bit, 0) for bit in range(56) for victim in range(1, 17)]
    samples += [(victim, 0, 0, 0) for victim in range(1, 17)]
    table.add(samples)
    refused = len(samples) - 16 - 16 * OCTAVES_PER_GROUP
    assert table.refused() == {"sketch_refused": refused}
    rows, _ = table.tick()
    assert rows.keys() == set(range(1, 17))
    assert {(int(row["wait_count"]), int(row["wait_sum_ns"])) for row in rows.values()} == {(57, 2**56 - 1)}
    assert sum(int(row["total_count"][0]) for row in rows.values()) == len(samples) - refused
    table.add(samples[:64])
    table.tick()
    assert table.refused() == {"sketch_refused": refused}, "the next tick has room"


GOOD = batch([(1, 2, 3, 0)])


@pytest.mark.parametrize(
    ("record", "record_bytes"),
    [
        (b"", None),
        (GOOD, 0),
        (GOOD, BATCH_HEADER_BYTES - 1),
        (GOOD, len(GOOD) - 1),
        (GOOD + b"\0", None),
        (GOOD + GOOD[BATCH_HEADER_BYTES:], None),
        (batch([]), None),
        (batch([(1, 2, 3, 0)] * 65), None),
        (batch([(1, 2, 3, 0)], weight=0), None),
        (np.array([0, 2**32 - 1, 1, 0], dtype=np.uint32).tobytes() + GOOD[BATCH_HEADER_BYTES:], None),
    ],
)
def test_a_malformed_record_is_counted_and_harmless(record: bytes, record_bytes: int | None) -> None:
    table = Table()
    table.record(record, record_bytes)
    assert table.refused() == {"malformed": 1}
    assert table.counters["consumed"] == 0
    assert table.tick() == ({}, {})


@pytest.mark.parametrize("sample", [(0, 2, 3, 0), (1, 2, 3, 4), (1, 2, 2**56, 0), (1, 2, U64 - 1, 5), (0, 0, 0, 0)])
def test_a_malformed_sample_is_counted_and_its_neighbours_are_right(sample: Sample) -> None:
    """A wait of two years or more is a clock that went wrong."""
    table = Table()
    table.add([(7, 8, 10, 0), sample, (7, 8, 20, 0)])
    assert table.refused() == {"malformed": 1}
    assert table.counters["consumed"] == 3, "produced == consumed + dropped must hold"
    rows, matrix = table.tick()
    assert rows.keys() == {7}
    assert rows[7]["max_ns"] == 20
    assert matrix == {(7, 8): (30, 2)}


def test_a_malformed_event_is_counted_and_harmless() -> None:
    table = Table()
    table.throttle(0)
    table.throttle(5, kind=0)
    table.throttle(5, kind=lib.EVENT_CGROUP_MKDIR)
    table.throttle(5, 2**56)
    assert table.refused() == {"malformed": 4}
    assert table.tick() == ({}, {})


@given(st.data())
def test_no_id_is_lost_when_others_go(data: st.DataObject) -> None:
    """Births and deaths of ids that collide much, against a dict: totals by id after each tick."""
    # ids whose products by the hash's factor are near each other: neighbours in the index, also across its end
    inverse = pow(0x9E3779B97F4A7C15, -1, U64)
    homes = st.sampled_from([0, 1, 2, 254, 255])
    ids = st.tuples(homes, st.integers(1, 9)).map(lambda at: ((at[0] << 56) + at[1]) * inverse % U64)
    table = Table(64)
    totals: Counter[int] = Counter()
    lingering: dict[int, int] = {}
    for _ in range(data.draw(st.integers(1, 8))):
        for group_id in data.draw(st.lists(ids, max_size=25)):
            table.add([(group_id, 1, 50, 0)])
            totals[group_id] += 1
        for group_id in data.draw(st.lists(ids, max_size=12)):
            table.removed(group_id)
            totals[group_id] += 0
            lingering.setdefault(group_id, lib.GROUP_LINGER_TICKS)
        for group_id in data.draw(st.lists(ids, max_size=3)):
            table.born(group_id)
            if lingering.pop(group_id, 0):
                totals[group_id] = 0
        rows, _ = table.tick()
        assert {i: int(row["total_count"][0]) for i, row in rows.items()} == totals
        assert {i for i, row in rows.items() if row["removed"]} == lingering.keys()
        for group_id in [i for i, ticks in lingering.items() if ticks == 1]:
            del lingering[group_id], totals[group_id]
        lingering = {i: ticks - 1 for i, ticks in lingering.items()}
    assert table.counters["groups_live"] == len(totals)


def test_65536_groups_have_room_and_then_it_is_full() -> None:
    table = Table(65536)
    for weight in (1, 2):
        table.add(((i, i + 1, i, 0) for i in range(1, 65538)), weight)
        rows, matrix = table.tick()
        assert {i: int(row["wait_sum_ns"]) for i, row in rows.items()} == {i: i * weight for i in range(1, 65537)}
        assert len(matrix) == 65536
    assert table.refused() == {"groups_refused": 2}


@pytest.mark.parametrize("max_groups", [0, 15, 65537, 2**32 - 1])
def test_a_table_out_of_range_is_not_made(max_groups: int) -> None:
    assert lib.groups_new(max_groups) == ffi.NULL


def test_many_ticks_of_changing_groups_do_not_grow_the_memory() -> None:
    """200 ticks of 100 groups that live for one tick each: the resident size stays within 4 MiB of the tenth's."""

    def resident_bytes() -> int:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    table, early_bytes = Table(), 0
    for tick in range(200):
        ids = range(1 + 100 * tick, 101 + 100 * tick)
        table.add((i, i + 1, 10**6 + 997 * i, 0) for i in ids)
        for group_id in ids:
            table.removed(group_id)
        rows, _ = table.tick()
        assert len(rows) <= 100 * (1 + lib.GROUP_LINGER_TICKS)
        if tick == 10:
            early_bytes = resident_bytes()
    assert resident_bytes() - early_bytes < 4 << 20
    assert table.counters["groups_born"] == 20_000


@pytest.mark.parametrize("max_groups", [64, 100, 1024])
def test_a_matrix_that_is_full_to_the_last_cell_stays_within_its_memory(max_groups: int) -> None:
    """Its index must not grow once more at the last cell. A child process, since the defect is a crash."""
    code = f"""
from native._slackwater import ffi, lib
groups = lib.groups_new({max_groups})
batch = ffi.new("struct wait_batch *", {{"count": 1, "weight": 1}})
size = ffi.offsetof("struct wait_batch", "samples") + ffi.sizeof("struct wait_sample")
for n in range(20 * {max_groups}):
    batch.samples[0] = (1 + n % {max_groups}, 1 + n // {max_groups}, 7, 0)
    lib.groups_on_batch(groups, batch, size)
counters = ffi.new("struct groups_counters *")
lib.groups_read_counters(groups, counters)
assert counters.consumed == 20 * {max_groups} and counters.pairs_refused > 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)
