"""Configuration of the caches: what is refused, with which line."""

from __future__ import annotations

import pytest

from agent.config import parse_config
from agent.config_cache import MIB_ALLOWED, PERCENT_ALLOWED, WAYS_ALLOWED, all_partitions, parse_bandwidth, parse_ways
from agent.errors import ConfigError

MBPS = "[cache]\nmount = true\nmba_mbps = true\n"
NO_OVERLAP = "allowed are ranges that do not overlap"


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "f")
    return str(caught.value).removeprefix("f: ")


def partition(lines: str, more: str = "") -> str:
    return f"{more}\n[[partition]]\n{lines}\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[cache]\ncdp = true", "cache.cdp = true: with cache.mount = false allowed is false"),
        ("[cache]\nmba_mbps = true", "cache.mba_mbps = true: with cache.mount = false allowed is false"),
        ("[cache]\nup_pct = 0", "cache.up_pct = 0: allowed is 1 to 100 %"),
        ("[cache]\ndown_ratio = 1", "cache.down_ratio = 1: allowed is 0 to 0.9"),
        (partition('ways = "0-50%"'), "partition[0]: lacks the key class, or match"),
        (partition('class = "SYSTEM"'), 'partition[0].class = "SYSTEM": allowed is "LSE", "LSR", "LS", "BE"'),
        (
            partition('class = "LS"\nmatch = "/a"'),
            'partition[0].match = "/a": with partition[0].class allowed is one of the two',
        ),
        (
            partition('match = "/**"'),
            'partition[0].match = "/**": matches /, the root group; allowed are globs of other groups',
        ),
        (
            partition('class = "LS"') + partition('class = "LS"'),
            'partition[1].class = "LS": is that of partition[0]; allowed is one',
        ),
        (partition('class = "LS"\nways = "50-20%"'), f'partition[0].ways = "50-20%": allowed is {WAYS_ALLOWED}'),
        (partition('class = "LS"\nways = "20-20%"'), f'partition[0].ways = "20-20%": allowed is {WAYS_ALLOWED}'),
        (partition('class = "LS"\nways = "0-101%"'), f'partition[0].ways = "0-101%": allowed is {WAYS_ALLOWED}'),
        (partition('class = "LS"\nways = "0-50"'), f'partition[0].ways = "0-50": allowed is {WAYS_ALLOWED}'),
        (partition('class = "LS"\nl2 = "9-3%"'), f'partition[0].l2 = "9-3%": allowed is {WAYS_ALLOWED}'),
        (
            partition('class = "LS"\nbandwidth = "101%"'),
            f'partition[0].bandwidth = "101%": with cache.mba_mbps = false allowed is {PERCENT_ALLOWED}',
        ),
        (
            partition('class = "LS"\nbandwidth = "900 MiB/s"'),
            f'partition[0].bandwidth = "900 MiB/s": with cache.mba_mbps = false allowed is {PERCENT_ALLOWED}',
        ),
        (
            partition('class = "LS"\nbandwidth = "50%"', MBPS),
            f'partition[0].bandwidth = "50%": with cache.mba_mbps = true allowed is {MIB_ALLOWED}',
        ),
        (
            partition('class = "LS"\nbandwidth = "4294967295 MiB/s"', MBPS),
            f'partition[0].bandwidth = "4294967295 MiB/s": with cache.mba_mbps = true allowed is {MIB_ALLOWED}',
        ),
        (partition('class = "LS"\nexclusive = true'), "partition[0]: lacks the key ways, which are to be exclusive"),
        (
            partition('class = "LS"\nexclusive = true\nways = "0-100%"'),
            'partition[0].ways = "0-100%": allowed for exclusive ones is less than all',
        ),
        (
            partition('class = "LS"\nexclusive = true\nways = "40-100%"'),
            f'partition[0].ways = "40-100%": exclusive, but BE, by default, has "0-50%"; {NO_OVERLAP}',
        ),
        (
            partition('class = "LS"\nways = "40-100%"') + partition('class = "BE"\nexclusive = true\nways = "0-41%"'),
            f'partition[1].ways = "0-41%": exclusive, but partition[0] has "40-100%"; {NO_OVERLAP}',
        ),
        (
            partition('class = "LS"\nexclusive = true\nways = "60-100%"') + partition('class = "BE"'),
            f'partition[0].ways = "60-100%": exclusive, but partition[1] has "0-100%"; {NO_OVERLAP}',
        ),
        (
            partition('class = "BE"\nways = "10-15%"'),
            "cache.be_ways_low_pct = 10: with 10-15% for BE allowed is 1 to 5",
        ),
        (
            partition('class = "BE"\nbandwidth = "9%"'),
            "cache.be_bandwidth_low_pct = 10: with 9% for BE allowed is 1 to 9",
        ),
        ("[cache]\nbe_ways_low_pct = 60", "cache.be_ways_low_pct = 60: with 0-50% for BE allowed is 1 to 50"),
    ],
)
def test_a_refusal_names_key_value_and_range(text: str, line: str) -> None:
    assert refusal(text) == line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[cache]\nmount = true\ncdp = true\ncdpl2 = true",
        partition('class = "LS"\nexclusive = true\nways = "50-100%"'),
        partition('class = "LS"') + partition('match = ["/a/*", "/b"]\nways = "60-100%"\nexclusive = true'),
        partition('class = "LS"\nexclusive = true\nways = "60-100%"', '[cache]\npolicy = "static"')
        + partition('class = "BE"\nbandwidth = "30%"'),
        partition('class = "BE"\nways = "0-30%"\nbandwidth = "2000 MiB/s"', MBPS),
    ],
)
def test_what_fits_is_taken(text: str) -> None:
    parse_config(text, "f")


def test_batch_work_has_a_partition_unless_it_is_given_one() -> None:
    (default,) = all_partitions(parse_config("", "f").cache, ())
    assert (default.qos, default.ways_pct, default.bandwidth_most(mib_per_s=False)) == ("BE", (0, 50), 50)
    config = parse_config(partition('class = "BE"\nways = "0-20%"'), "f")
    (given,) = all_partitions(config.cache, config.partitions)
    assert (given.ways_pct, given.bandwidth_most(mib_per_s=False)) == ((0, 20), None)


def test_in_mib_per_s_it_has_no_limit_by_default() -> None:
    (default,) = all_partitions(parse_config(MBPS, "f").cache, ())
    assert default.bandwidth_most(mib_per_s=True) is None


def test_blanks_before_units_are_as_good_as_none() -> None:
    assert parse_ways("0 - 30 %") == parse_ways("0-30%") == (0, 30)
    assert parse_bandwidth("30 %", mib_per_s=False) == parse_bandwidth("30%", mib_per_s=False) == 30
    assert parse_bandwidth("2000MiB/s", mib_per_s=True) == 2000
