"""What the groups of resctrl that are ours, and the default group, have in the caches and move to and from memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.records import CacheOffer, CacheSample, PartitionSample
from rdt import monitor, schemata
from rdt.errors import Gone
from rdt.group import Group
from rdt.info import MBPS, Info
from rdt.monitor import Counters

_LAST = ("L3", "L3DATA", "L2", "L2DATA")
"""The last cache that can be divided, of those that are there."""


def read(groups: Mapping[int, Group], default: Group, info: Info, now_ns: int) -> CacheSample:
    """Everything now, by partition id; a group that is gone is left out. RdtError, but for Gone."""
    monitored = info.monitoring is not None
    found = {id: sample for id, group in groups.items() if monitored and (sample := _partition(group)) is not None}
    return CacheSample(now_ns, found, _partition(default) if monitored else None, offer_of(info))


def offer_of(info: Info) -> CacheOffer:
    """What this machine can divide."""
    name = next((name for name in _LAST if name in info.caches), None)
    last, bandwidth = info.caches[name] if name else None, info.bandwidths.get("MB")
    offer = CacheOffer(
        ways=last.ways if last else None,
        bandwidth_step=None,
        ways_min=max(1, last.min_cbm_bits) if last else 1,
        cache=schemata.level(name) if name else _LAST[0],
    )
    if bandwidth is None:
        return offer
    if bandwidth.unit == MBPS:
        return replace(offer, bandwidth_step=1, is_mib_per_s=True)
    if not bandwidth.maximum:
        return offer
    point = bandwidth.maximum / 100
    return replace(
        offer, bandwidth_step=bandwidth.bandwidth_gran / point, bandwidth_min=bandwidth.min_bandwidth / point
    )


def _partition(group: Group) -> PartitionSample | None:
    """None: it is gone."""
    try:
        domains = monitor.read(group)
    except Gone:
        return None
    return PartitionSample(
        llc_bytes=_values(domains, "llc_occupancy"),
        total_bytes=_values(domains, "mbm_total_bytes"),
        local_bytes=_values(domains, "mbm_local_bytes"),
    )


def _values(domains: Mapping[int, Counters], event: str) -> dict[int, int]:
    """By cache id, of those that have a value now."""
    values = {domain: counters.get(event) for domain, counters in domains.items()}
    return {domain: value for domain, value in values.items() if isinstance(value, int)}
