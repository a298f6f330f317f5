"""Which class gets which ways of which cache, and how much bandwidth: from percentages to what is written. Pure.

The law. Of a cache with n ways a range start..end in percent is the ways floor(n*start/100) <= way < ceil(n*end/100).
An exclusive range is nobody else's, and holds no ways that devices use (shareable_bits); where two ranges meet in
the middle of a way, an exclusive one comes before a shared one, and of two exclusive ones the lower. What is left of
a range is one run of ways (several where the machine takes gaps), at least min_cbm_bits long: a shorter one grows, at
its upper end first. A class that names no range shares all that is nobody's own, and so does the default group.

Exclusive is meant among these classes and the default group; groups of others may overlap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rdt import bitmask, schemata
from rdt.errors import NoLayout
from rdt.info import MBPS, MBPS_MAX, Bandwidth, Cache, Info

LEVELS = ("L3", "L2")
DEFAULT = ""


@dataclass(frozen=True)
class Range:
    """A part of a cache."""

    start_pct: float
    end_pct: float
    exclusive: bool = False

    def __str__(self) -> str:
        return f"{self.start_pct:g}-{self.end_pct:g} %{' exclusive' if self.exclusive else ''}"


@dataclass(frozen=True)
class Class:
    """What one class is to have. What it does not name it has in full.

    `caches`: by L3, L2, or with CDP by L3CODE, L3DATA, ... too. `bandwidths_pct`: by MB, SMBA, of the maximum;
    `bandwidths_mib_per_s`: instead, where resctrl is mounted with mba_MBps.
    """

    name: str
    caches: Mapping[str, Range] = field(default_factory=dict)
    bandwidths_pct: Mapping[str, float] = field(default_factory=dict)
    bandwidths_mib_per_s: Mapping[str, int] = field(default_factory=dict)


Layout = dict[str, dict[str, dict[int, int]]]
"""Class -> resource -> cache id -> mask or bandwidth. DEFAULT: the default group, with the caches it has to leave."""

FULL = Range(0, 100)


@dataclass
class _Claim:
    """One class on one line of schemata of a level."""

    owner: str
    line: str
    range: Range
    named: bool
    mask: int = 0


def solve(info: Info, domains: Mapping[str, Iterable[int]], classes: Sequence[Class], others: int = 0) -> Layout:
    """`domains`: resource -> cache ids that are there; `others`: groups that are not in `classes` nor the default one.

    Raises NoLayout, which says why there is none.
    """
    _check_classes(info, classes, others)
    layout: Layout = {one.name: {} for one in classes}
    for level in LEVELS:
        lines = [line for line in info.caches if schemata.level(line) == level]
        if lines:
            for claim in _masks(info.caches[lines[0]], _claims(level, lines, classes), level):
                layout.setdefault(claim.owner, {})[claim.line] = dict.fromkeys(domains[claim.line], claim.mask)
    for name, bandwidth in info.bandwidths.items():
        for one in classes:
            layout[one.name][name] = dict.fromkeys(domains[name], _bandwidth(one, name, bandwidth))
    return layout


def _check_classes(info: Info, classes: Sequence[Class], others: int) -> None:
    """What needs no look at ways."""
    names = [one.name for one in classes]
    if DEFAULT in names or len(set(names)) < len(names):
        raise NoLayout("each class needs a name of its own", value=" ".join(names))
    if info.closids is None:
        raise NoLayout("this machine has counters only, there is nothing to lay out")
    if len(classes) + others + 1 > info.closids:
        there = f"{info.closids} CLOSIDs, one of the default group, {others} of other groups"
        raise NoLayout(f"{len(classes)} classes do not fit: there are {there}")
    caches = {*info.caches, *map(schemata.level, info.caches)}
    for one in classes:
        bandwidths = {*one.bandwidths_pct, *one.bandwidths_mib_per_s}
        for name in sorted((one.caches.keys() - caches) | (bandwidths - info.bandwidths.keys())):
            has = " ".join(sorted(info.resources))
            raise NoLayout(f"class {one.name} wants {name}, which this resctrl has not", allowed=has)
        for name, range_ in one.caches.items():
            if not 0 <= range_.start_pct < range_.end_pct <= 100:
                raise NoLayout(f"class {one.name}: {name}", value=str(range_), allowed="0 <= start < end <= 100 %")


def _claims(level: str, lines: Sequence[str], classes: Sequence[Class]) -> list[_Claim]:
    """Of all classes on all lines, and those of the default group where something is exclusive."""
    claims = []
    for one in classes:
        for line in lines:
            range_ = one.caches.get(line) or one.caches.get(level)
            claims.append(_Claim(one.name, line, range_ or FULL, named=range_ is not None))
    if any(claim.range.exclusive for claim in claims):
        claims += [_Claim(DEFAULT, line, FULL, named=False) for line in lines]
    return claims


def _masks(cache: Cache, claims: list[_Claim], level: str) -> list[_Claim]:
    """`claims` with their masks. Code and data of a cache lie in the same ways."""
    exclusive = sorted((claim for claim in claims if claim.range.exclusive), key=lambda claim: claim.range.start_pct)
    _check_overlaps(exclusive, claims, level)
    owned: dict[str, int] = {}
    for claim in exclusive:
        taken = _taken(owned, claim.owner) | cache.shareable_bits
        claim.mask = _fit(cache, _ways(cache, claim.range) & ~taken, taken)
        if not claim.mask:
            raise NoLayout(f"class {claim.owner} wants {claim.range} of {level}: no {_minimum(cache)} ways are free")
        owned[claim.owner] = owned.get(claim.owner, 0) | claim.mask
    for claim in claims:
        if not claim.range.exclusive:
            taken = _taken(owned, claim.owner)
            claim.mask = _fit(cache, _ways(cache, claim.range) & ~taken, taken)
            if not claim.mask:
                who = f"class {claim.owner}" if claim.owner else "the default group"
                raise NoLayout(f"{who} is left with less than {_minimum(cache)} ways of {level}")
    return claims


def _check_overlaps(exclusive: Sequence[_Claim], claims: Sequence[_Claim], level: str) -> None:
    """An exclusive range may meet another one that was named, but not overlap with it."""
    for mine in exclusive:
        for other in claims:
            overlap = mine.range.start_pct < other.range.end_pct and other.range.start_pct < mine.range.end_pct
            if overlap and other.named and other.owner != mine.owner:
                wants = f"class {mine.owner} wants {mine.range} of {level}"
                raise NoLayout(f"{wants}, class {other.owner} wants {other.range}")


def _taken(owned: Mapping[str, int], owner: str) -> int:
    """The ways that others have to themselves."""
    taken = 0
    for name, mask in owned.items():
        if name != owner:
            taken |= mask
    return taken


def _ways(cache: Cache, range_: Range) -> int:
    low = math.floor(cache.ways * range_.start_pct / 100)
    return bitmask.span(low, math.ceil(cache.ways * range_.end_pct / 100))


def _minimum(cache: Cache) -> int:
    return max(1, cache.min_cbm_bits)


def _fit(cache: Cache, mask: int, taken: int) -> int:
    """What of `mask` can be set, grown into ways that are not `taken` if it is too little; 0: it cannot be."""
    minimum = _minimum(cache)
    long_enough = [bitmask.span(*run) for run in bitmask.runs(mask) if run[1] - run[0] >= minimum]
    if long_enough:
        return sum(long_enough) if cache.sparse_masks else max(long_enough, key=int.bit_count)
    free = cache.cbm_mask & ~taken
    around = [bitmask.span(*run) for run in bitmask.runs(free) if run[1] - run[0] >= minimum]
    best = max(around, key=lambda run: (run & mask).bit_count(), default=0)
    if not best & mask:
        return 0
    low, high = bitmask.runs(bitmask.longest_run(mask & best))[0]
    high = min(low + minimum, best.bit_length())
    return bitmask.span(high - minimum, high)


def _bandwidth(one: Class, name: str, bandwidth: Bandwidth) -> int:
    """In the machine's unit, on a step that it has."""
    pct, mib_per_s = one.bandwidths_pct.get(name), one.bandwidths_mib_per_s.get(name)
    if bandwidth.unit == MBPS:
        if pct is not None:
            raise NoLayout(f"class {one.name}: {name} is in MiB/s here (mount option mba_MBps), not in percent")
        return MBPS_MAX if mib_per_s is None else mib_per_s
    if mib_per_s is not None:
        raise NoLayout(f"class {one.name}: {name} is in {bandwidth.unit} here; MiB/s needs mount option mba_MBps")
    if bandwidth.maximum is None:
        raise NoLayout(f"the maximum of {name} is not known")
    if pct is not None and not 0 < pct <= 100:
        raise NoLayout(f"class {one.name}: {name}", value=f"{pct:g} %", allowed="above 0 to 100 %")
    value = bandwidth.maximum if pct is None else math.ceil(bandwidth.maximum * pct / 100)
    return min(bandwidth.rounded(max(value, bandwidth.min_bandwidth)), bandwidth.maximum)
