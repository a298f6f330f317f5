"""Whether a service that is slow, and not because of the CPU, is so because batch work has the cache or the memory bus.

    its cycles per instruction are past the usual by `cpi_deviations`,   they are contended
    in most of the last ticks
    BE has `be_cache_pct` of the cache, or of the bandwidth in use       it is BE that contends for them

What is known must say so, all of it; if nothing is known, it is so by exclusion. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agent.config_laws import EnforceConfig
from agent.control import Cause, partition_id
from agent.decisions.tree import Tree
from agent.records import CacheProfile, Profile, Qos

BY_EXCLUSION = "by exclusion: neither hardware counters nor resctrl say more"


@dataclass(frozen=True, slots=True)
class Shares:
    """What batch work has of all that is in use; one that is not known is not there, the other is."""

    of_what: tuple[tuple[float, str], ...]

    def __str__(self) -> str:
        return "batch work has " + " and ".join(f"{pct:.0f} % of {what}" for pct, what in self.of_what)

    def largest_pct(self) -> float:
        return max(pct for pct, _ in self.of_what)


def batch_shares(cache: CacheProfile | None, tree: Tree) -> Shares | None:
    """None: it is not known, as where batch work has no partition of its own."""
    if cache is None or cache.rest is None:
        return None
    batch = [profile for id, profile in cache.partitions.items() if _is_batch(id, tree)]
    all_ = [*cache.partitions.values(), cache.rest]
    shares = (
        (_pct([each.total_bytes_per_s for each in batch], [each.total_bytes_per_s for each in all_]), "the bandwidth"),
        (_pct([each.llc_bytes for each in batch], [each.llc_bytes for each in all_]), "the last-level cache"),
    )
    known = tuple((pct, what) for pct, what in shares if not math.isnan(pct))
    return Shares(known) if known else None


def judge_cache(
    row: int, tree: Tree, profile: Profile, shares: Shares | None, config: EnforceConfig
) -> tuple[Cause, str]:
    """The cause for the group in `row`, and the figures that show it."""
    says = []
    if cpi := _cpi(row, tree, profile):
        says.append(f"its cycles per instruction are {cpi}")
        if not cpi.is_past(config.cpi_deviations):
            return Cause.UNKNOWN, f"but {says[0]}"
    if shares:
        says.append(str(shares))
        if shares.largest_pct() < config.be_cache_pct:
            return Cause.UNKNOWN, f"but {shares}"
    return Cause.CACHE, ", ".join(says) or BY_EXCLUSION


@dataclass(frozen=True, slots=True)
class _Cpi:
    low: float
    usual: float
    deviation: float

    def __str__(self) -> str:
        return f"{self.low:.3g} (usual {self.usual:.3g} \N{PLUS-MINUS SIGN} {self.deviation:.2g})"

    def is_known(self) -> bool:
        return not math.isnan(self.low) and not math.isnan(self.usual)

    def is_past(self, deviations: float) -> bool:
        return self.low > self.usual + deviations * self.deviation


def _cpi(row: int, tree: Tree, profile: Profile) -> _Cpi | None:
    """Of the group, or of the nearest above that is counted."""
    if (of := profile.cpi) is None:
        return None
    figures = (of.low_cycles_per_instruction, of.usual_cycles_per_instruction, of.deviation_cycles_per_instruction)
    all_ = (_Cpi(*(float(column[counted]) for column in figures)) for counted in (row, *tree.above(row)))
    return next((cpi for cpi in all_ if cpi.is_known()), None)


def _is_batch(partition: int, tree: Tree) -> bool:
    """Of the class, or of a workload of it."""
    row = tree.row.get(partition)
    return partition == partition_id(Qos.BE) or (row is not None and bool(tree.is_be[row]))


def _pct(part: Sequence[float], whole: Sequence[float]) -> float:
    """NaN: not known, or nothing."""
    total = sum(whole)
    return sum(part) / total * 100 if part and total else math.nan
