"""What no single key of [cache] and [[partition]] says: whether they agree with one another. Pure.

Raises ConfigError with one line: key, value, what is allowed. What only the machine can tell (ways, steps of bandwidth,
how many partitions it can have) is told when a partition is made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.config_cache import PartitionConfig, all_partitions, parse_bandwidth, parse_ways
from agent.config_explain import shown
from agent.discovery.rules import glob_regex
from agent.errors import ConfigError
from agent.records import Qos

if TYPE_CHECKING:
    from agent.config import Config

MOUNT_OPTIONS = ("cdp", "cdpl2", "mba_mbps")


def check_cache(config: Config) -> None:
    """All of it."""
    cache = config.cache
    for name in MOUNT_OPTIONS:
        if getattr(cache, name) and not cache.mount:
            raise ConfigError(f"cache.{name} = true: with cache.mount = false allowed is false")
    for index, partition in enumerate(config.partitions):
        _check_partition(f"partition[{index}]", partition, mib_per_s=cache.mba_mbps)
    for (i, one), (j, other) in itertools.combinations(enumerate(config.partitions), 2):
        if one.qos and one.qos == other.qos:
            raise ConfigError(f"partition[{j}].class = {shown(other.qos)}: is that of partition[{i}]; allowed is one")
    known = list(enumerate(all_partitions(cache, config.partitions)))
    for (i, one), (j, other) in itertools.permutations(known, 2):
        moves = other.qos == Qos.BE and cache.policy == "dynamic"
        if one.exclusive and (other.ways or moves):
            _check_overlap(i, one, j, other, len(config.partitions))
    _check_floors(config)


def _check_partition(key: str, partition: PartitionConfig, *, mib_per_s: bool) -> None:
    if not (partition.qos or partition.globs):
        raise ConfigError(f"{key}: lacks the key class, or match")
    if partition.qos and partition.globs:
        raise ConfigError(f"{key}.match = {shown(partition.match)}: with {key}.class allowed is one of the two")
    for glob in partition.globs:
        if glob_regex(glob).fullmatch("/"):
            raise ConfigError(
                f"{key}.match = {shown(glob)}: matches /, the root group; allowed are globs of other groups"
            )
    _check_text(f"{key}.ways", partition.ways, parse_ways)
    _check_text(f"{key}.l2", partition.l2, parse_ways)
    _check_text(f"{key}.bandwidth", partition.bandwidth, lambda text: parse_bandwidth(text, mib_per_s=mib_per_s))
    if partition.exclusive and not partition.ways:
        raise ConfigError(f"{key}: lacks the key ways, which are to be exclusive")
    if partition.exclusive and partition.ways_pct == (0, 100):
        raise ConfigError(f"{key}.ways = {shown(partition.ways)}: allowed for exclusive ones is less than all")


def _check_text(key: str, text: str, parse: Callable[[str], object]) -> None:
    try:
        if text:
            parse(text)
    except ValueError as error:
        raise ConfigError(f"{key} = {shown(text)}: {error}") from error


def _check_overlap(i: int, mine: PartitionConfig, j: int, other: PartitionConfig, given: int) -> None:
    """Exclusive ways are named by nobody else. `given`: so many partitions are in the file."""
    (begin, end), (other_begin, other_end) = mine.ways_pct, other.ways_pct
    if begin < other_end and other_begin < end:
        whose = f"partition[{j}]" if j < given else "BE, by default,"
        has = shown(other.ways or "0-100%")
        raise ConfigError(
            f"partition[{i}].ways = {shown(mine.ways)}: exclusive, but {whose} has {has}; "
            "allowed are ranges that do not overlap"
        )


def _check_floors(config: Config) -> None:
    """BE has at most no less than what it keeps."""
    cache = config.cache
    batch = next(each for each in all_partitions(cache, config.partitions) if each.qos == Qos.BE)
    begin, end = batch.ways_pct
    if cache.be_ways_low_pct > end - begin:
        raise ConfigError(
            f"cache.be_ways_low_pct = {cache.be_ways_low_pct}: with {begin}-{end}% for BE allowed is 1 to {end - begin}"
        )
    most = None if cache.mba_mbps else batch.bandwidth_most(mib_per_s=False)
    if most is not None and cache.be_bandwidth_low_pct > most:
        raise ConfigError(
            f"cache.be_bandwidth_low_pct = {cache.be_bandwidth_low_pct}: with {most}% for BE allowed is 1 to {most}"
        )
