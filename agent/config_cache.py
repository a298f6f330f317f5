"""Configuration of the last-level cache and of memory bandwidth: partitions, and the law that moves batch work's."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from agent.config_base import Glob, Meta, Section
from agent.control import Enforce
from agent.records import Qos

WAYS_ALLOWED = '"FROM-TO%" in whole per cent, as "0-30%", FROM below TO, TO at most 100'
PERCENT_ALLOWED = '"1%" to "100%"'
MIB_ALLOWED = '"1 MiB/s" to "4294967294 MiB/s"'
_MIB_PER_S_MAX = (1 << 32) - 2
"""The kernel takes one more for no limit."""
_WAYS = re.compile(r"(\d{1,3}) ?- ?(\d{1,3}) ?%\Z")
_PERCENT = re.compile(r"(\d{1,3}) ?%\Z")
_MIB_PER_S = re.compile(r"(\d{1,10}) ?MiB/s\Z")


class CacheConfig(Section, frozen=True):
    enforce: Annotated[
        Enforce, Meta(description="How far this controller goes, at most; off: resctrl is not looked at.")
    ] = Enforce.OFF
    policy: Annotated[
        Literal["static", "dynamic"],
        Meta(description="static: partitions are as they are given; dynamic: that of BE gives way and comes back."),
    ] = "dynamic"
    mount: Annotated[bool, Meta(description="Mount resctrl where it is not mounted, and unmount it at the end.")] = (
        False
    )
    cdp: Annotated[bool, Meta(description="Mount it with code and data apart in the L3; with `mount`.")] = False
    cdpl2: Annotated[bool, Meta(description="The same for the L2; with `mount`.")] = False
    mba_mbps: Annotated[
        bool, Meta(description="Mount it with bandwidth in MiB/s instead of per cent; with `mount`.")
    ] = False
    be_ways_low_pct: Annotated[
        int,
        Meta(ge=1, le=100, description="BE keeps this much of the cache, whatever happens.", extra={"unit": "%"}),
    ] = 10
    be_bandwidth_low_pct: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="The same of memory bandwidth; in MiB/s: per cent of what BE has at most.",
            extra={"unit": "%"},
        ),
    ] = 10
    down_ratio: Annotated[
        float, Meta(ge=0, le=0.9, description="A step down leaves BE this part of what it has above its low bounds.")
    ] = 0.5
    up_pct: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="A step up, in points; in MiB/s: per cent of what BE has at most.",
            extra={"unit": "%"},
        ),
    ] = 5


class PartitionConfig(Section, frozen=True):
    """A part of the caches and of memory bandwidth; with [cache]. Of a class, or of each group that matches."""

    qos: Annotated[
        Literal["", "LSE", "LSR", "LS", "BE"],
        Meta(description="All groups of this class share it.", extra={"allowed": '"LSE", "LSR", "LS", "BE"'}),
    ] = msgspec.field(name="class", default="")
    match: Annotated[
        Glob | tuple[Glob, ...],
        Meta(
            description="Instead: each topmost group with such a path has one of its own, with all that lies in it.",
            extra={"allowed": 'a glob that begins with "/", or a list of such globs'},
        ),
    ] = ()
    ways: Annotated[
        str,
        Meta(
            description="Its part of the L3, of the L2 where only that can be divided; left out: what is nobody's own.",
            extra={"allowed": WAYS_ALLOWED},
        ),
    ] = ""
    exclusive: Annotated[
        bool, Meta(description="No other partition has these ways, nor has resctrl's default group.")
    ] = False
    l2: Annotated[
        str,
        Meta(
            description="Its part of the L2 where both can be divided; left out: all.",
            extra={"allowed": WAYS_ALLOWED},
        ),
    ] = ""
    bandwidth: Annotated[
        str,
        Meta(
            description="Memory bandwidth that it has at most; left out: all.",
            extra={"allowed": f"{PERCENT_ALLOWED}; with cache.mba_mbps: {MIB_ALLOWED}"},
        ),
    ] = ""

    @property
    def globs(self) -> tuple[str, ...]:
        return (self.match,) if isinstance(self.match, str) else self.match

    @property
    def ways_pct(self) -> tuple[int, int]:
        return parse_ways(self.ways) if self.ways else (0, 100)

    @property
    def l2_pct(self) -> tuple[int, int] | None:
        return parse_ways(self.l2) if self.l2 else None

    def bandwidth_most(self, *, mib_per_s: bool) -> int | None:
        """In percent or MiB/s; None: it is not limited."""
        return parse_bandwidth(self.bandwidth, mib_per_s=mib_per_s) if self.bandwidth else None


def parse_ways(text: str) -> tuple[int, int]:
    """From and to in percent. Raises ValueError with what is allowed."""
    match = _WAYS.match(text)
    begin, end = (int(match[1]), int(match[2])) if match else (0, 0)
    if not begin < end <= 100:
        raise ValueError(f"allowed is {WAYS_ALLOWED}")
    return begin, end


def parse_bandwidth(text: str, *, mib_per_s: bool) -> int:
    """In percent or MiB/s. Raises ValueError with what is allowed."""
    match = (_MIB_PER_S if mib_per_s else _PERCENT).match(text)
    most = _MIB_PER_S_MAX if mib_per_s else 100
    if match is None or not 1 <= int(match[1]) <= most:
        given = f"with cache.mba_mbps = {'true' if mib_per_s else 'false'} "
        raise ValueError(f"{given}allowed is {MIB_ALLOWED if mib_per_s else PERCENT_ALLOWED}")
    return int(match[1])


def all_partitions(cache: CacheConfig, given: tuple[PartitionConfig, ...]) -> tuple[PartitionConfig, ...]:
    """Those that are given, and one of BE: without it there were nothing to hold batch work back by."""
    if any(partition.qos == Qos.BE for partition in given):
        return given
    # No share of bandwidth is known in MiB/s.
    return (*given, PartitionConfig(qos="BE", ways="0-50%", bandwidth="" if cache.mba_mbps else "50%"))
