"""agent.samples.cgroup_formats: what the kernel writes is understood, what it does not write breaks nothing."""

import math
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.samples.cgroup_formats import (
    INF,
    Values,
    number,
    parse_blkio_bytes,
    parse_cpu_max,
    parse_cpu_stat_v1,
    parse_cpu_stat_v2,
    parse_io_stat,
    parse_memory_limit,
    parse_number,
    parse_pressure,
    parse_pressure_some,
    parse_quota_v1,
    parse_us,
)

PARSERS = (
    parse_blkio_bytes,
    parse_cpu_max,
    parse_cpu_stat_v1,
    parse_cpu_stat_v2,
    parse_io_stat,
    parse_memory_limit,
    parse_number,
    parse_pressure,
    parse_pressure_some,
    parse_quota_v1,
    parse_us,
)
PIECES = st.sampled_from(
    [
        b"usage_usec ",
        b"nr_periods ",
        b"max",
        b"-1",
        b"8:0 ",
        b"rbytes=",
        b"Read ",
        b"Total ",
        b"some ",
        b" total=",
        b"\n",
        b"9" * 400,
        b"1_0",
        b"+1",
        b"nan",
        b"18446744073709551615",
        b"0",
    ]
)


@pytest.mark.parametrize(
    ("parse", "data", "values"),
    [
        (parse_cpu_stat_v2, b"usage_usec 7\nnr_periods 5\nnr_throttled 2\nthrottled_usec 3\n", (7000, 5, 2, 3000)),
        (parse_cpu_stat_v1, b"nr_periods 5\nnr_throttled 2\nthrottled_time 3\nnr_bursts 0\n", (5, 2, 3)),
        (parse_cpu_max, b"50000 100000\n", (50_000_000, 100_000_000)),
        (parse_cpu_max, b"max 100000\n", (INF, 100_000_000)),
        (parse_quota_v1, b"-1\n", (INF,)),
        (parse_quota_v1, b"20000\n", (20_000_000,)),
        (parse_us, b"100000\n", (100_000_000,)),
        (parse_memory_limit, b"max\n", (INF,)),
        (parse_memory_limit, b"9223372036854771712\n", (INF,)),
        (parse_memory_limit, b"9223372036854710272\n", (INF,)),
        (parse_memory_limit, b"4096\n", (4096,)),
        (parse_io_stat, b"", (0, 0)),
        (parse_io_stat, b"8:0 rbytes=5 wbytes=6 rios=1\n8:16 rbytes=1 wbytes=2 rios=1\n", (6, 8)),
        (parse_blkio_bytes, b"Total 0\n", (0, 0)),
        (parse_blkio_bytes, b"8:0 Read 5\n8:0 Write 6\n8:0 Total 11\n8:16 Read 1\nTotal 12\n", (6, 6)),
        (parse_pressure, b"some avg10=0.00 total=5\nfull avg10=0.00 total=3\n", (5, 3)),
        (parse_pressure_some, b"some avg10=0.00 total=5\nfull avg10=0.00 total=3\n", (5,)),
    ],
)
def test_what_the_kernel_writes_is_understood(parse: Callable[[bytes], Values], data: bytes, values: Values) -> None:
    assert parse(data) == values


def test_a_v2_group_without_cpu_controller_has_usage_and_no_periods() -> None:
    usage_ns, *rest = parse_cpu_stat_v2(b"usage_usec 7\nuser_usec 7\nsystem_usec 0\n")
    assert usage_ns == 7000
    assert all(map(math.isnan, rest))


@pytest.mark.parametrize("parse", [parse_cpu_max, parse_memory_limit, parse_number, parse_pressure, parse_blkio_bytes])
def test_an_empty_file_is_unknown_and_not_zero(parse: Callable[[bytes], Values]) -> None:
    assert all(map(math.isnan, parse(b"")))


def test_more_digits_than_64_bits_have_are_unknown() -> None:
    assert math.isnan(number(b"9" * 21))
    assert number(b"18446744073709551615") == 2.0**64


@given(st.one_of(st.binary(), st.lists(PIECES).map(b"".join)))
@example(b"usage_usec " + b"9" * 5000)
def test_no_bytes_break_a_parser_or_give_a_negative_number(data: bytes) -> None:
    for parse in PARSERS:
        values = parse(data)
        assert len(values) == len(parse(b""))
        assert not any(value < 0 for value in values)
