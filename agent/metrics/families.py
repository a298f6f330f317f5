"""The table of metric families: the one source of the expositions and of docs/metrics.md. Pure."""

from __future__ import annotations

from agent.metrics.cache_families import CACHE_FAMILIES
from agent.metrics.control_families import CONTROL_FAMILIES
from agent.metrics.family import Family
from agent.metrics.group_families import GROUP_FAMILIES
from agent.metrics.host_families import HOST_FAMILIES
from agent.metrics.network_families import NETWORK_FAMILIES
from agent.metrics.sli_families import SLI_FAMILIES

FAMILIES: tuple[Family, ...] = (
    *GROUP_FAMILIES,
    *HOST_FAMILIES,
    *CONTROL_FAMILIES,
    *SLI_FAMILIES,
    *NETWORK_FAMILIES,
    *CACHE_FAMILIES,
)
"""In the order of exposition."""
