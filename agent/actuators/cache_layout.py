"""From partitions to what is written to resctrl: names of groups, classes for rdt.layout, the order of writes. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count

from agent.actuators.partition import Partition
from rdt import schemata
from rdt.errors import NoLayout
from rdt.info import MBPS, Info
from rdt.layout import FULL, LEVELS, Class, Range
from rdt.schemata import Values

PREFIX = "slackwater-"
BANDWIDTH = "MB"
NAME_MAX = 64
_NOT_SAFE = re.compile(r"[^A-Za-z0-9._@-]+")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a partition is to have now; None: what is configured of it."""

    ways_pct: tuple[int, ...] | None = None
    """From, to."""
    bandwidth: int | None = None


def last_cache(info: Info) -> str | None:
    """The last one that can be divided; None: there is none."""
    levels = set(map(schemata.level, info.caches))
    return next((level for level in LEVELS if level in levels), None)


def is_exclusive(partition: Partition) -> bool:
    """Of any cache."""
    return partition.ways.exclusive or any(range_.exclusive for range_ in partition.other_caches.values())


def group_name(partition: Partition, taken: Collection[str]) -> str:
    """After the class, or the last part of the cgroup's path with its id. One that is taken gets a number."""
    last = _NOT_SAFE.sub("-", partition.name.rstrip("/").rpartition("/")[2])[:NAME_MAX]
    name = PREFIX + (last if partition.id < 0 else f"{last}-{partition.id}")
    names = chain([name], (f"{name}~{number}" for number in count(2)))
    return next(each for each in names if each not in taken)


def as_class(name: str, partition: Partition, wish: Wish, info: Info) -> Class:
    """For the solver. What this machine has not is left out of what was configured; the rest is for it to refuse."""
    ways = partition.ways
    if wish.ways_pct is not None:
        start_pct, end_pct = wish.ways_pct
        ways = Range(start_pct, end_pct, ways.exclusive)
    level = last_cache(info)
    caches = dict(partition.other_caches)
    if level and ways != FULL:  # else it shares what is nobody's own, and wants nothing of whose own it is
        caches[level] = ways
    bandwidth = partition.bandwidth if wish.bandwidth is None else wish.bandwidth
    if bandwidth is None or BANDWIDTH not in info.bandwidths:
        return Class(name, caches)
    if info.bandwidths[BANDWIDTH].unit == MBPS:
        return Class(name, caches, bandwidths_mib_per_s={BANDWIDTH: bandwidth})
    return Class(name, caches, bandwidths_pct={BANDWIDTH: bandwidth})


def narrowed(room: Values, base: Values, info: Info) -> dict[str, dict[int, int]]:
    """What the default group is to have: of what it had, what exclusive ways leave. NoLayout: that is too little."""
    wanted = {}
    for resource, domains in room.items():
        wanted[resource] = {id: mask & base[resource][id] for id, mask in domains.items()}
        for id, mask in wanted[resource].items():
            if allowed := info.caches[resource].refuses(mask):
                value = str(schemata.Line(resource, {id: mask}))
                raise NoLayout("the default group is left with too little of what it had", value=value, allowed=allowed)
    return wanted


def order(found: Mapping[str, Values], wanted: Mapping[str, Values], classes: Sequence[Class]) -> Iterator[str]:
    """Groups that have to be written, in an order in which nobody gets ways that are exclusive while another has them,
    if there is one. `found`: as they are; a group without tasks is in nobody's way, as if it had nothing.
    """
    exclusive = {one.name: frozenset(_exclusive(one, wanted[one.name])) for one in classes}
    now = dict(found)
    left = [name for name in wanted if schemata.difference(wanted[name], now.get(name, {}))]
    left.sort(key=lambda name: bool(exclusive.get(name)))
    while left:
        name = next((name for name in left if not _clashes(name, wanted[name], now, exclusive)), left[0])
        left.remove(name)
        now[name] = wanted[name]
        yield name


def _exclusive(one: Class, values: Values) -> Iterator[str]:
    """Lines of schemata."""
    for line in values:
        range_ = one.caches.get(line) or one.caches.get(schemata.level(line))
        if range_ and range_.exclusive:
            yield line


def _clashes(name: str, values: Values, now: Mapping[str, Values], exclusive: Mapping[str, Collection[str]]) -> bool:
    """Whether another group has ways of `values` where either has them for itself."""
    return any(
        mask & now[other][line].get(id, 0)
        for other in now.keys() - {name}
        for line in now[other]
        for mine in values
        if schemata.is_cache(mine) and schemata.level(mine) == schemata.level(line)
        if mine in exclusive.get(name, ()) or line in exclusive.get(other, ())
        for id, mask in values[mine].items()
    )
