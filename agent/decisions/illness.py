"""Whether the node, or what the agent sees of it, is ill: then everything stays as it is. Pure.

    the clock jumped                                    profiles count such ticks
    samples are older than stale_ticks
    samples are lost, more than lost_samples_pct
    the last refused_writes writes were all refused
    the root file system was remounted read-only

It is ill until ill_s after the last sign.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.config import Config
from agent.control import Outcome, Result, Situation
from agent.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class Facts:
    """What an illness is told by; None: not known, which is no sign."""

    sample_age_ns: int
    clock_jumps: int | None
    """Since the last look."""
    lost: int | None
    """Samples since the last look."""
    produced: int | None
    refused_in_a_row: int
    root_is_read_only: bool | None


@dataclass(frozen=True, slots=True)
class Health:
    """`reason`: why it is ill, None: it is well. The counters are those of the last look."""

    reason: str | None = None
    seen_ns: int = 0
    """The last sign."""
    clock_jumps: int | None = None
    lost: int | None = None
    produced: int | None = None
    refused_in_a_row: int = 0


def staleness(sample_age_ns: int, config: Config) -> str | None:
    """That the samples are too old to act by them; None: they are not."""
    stale_ticks = config.enforce.stale_ticks
    if sample_age_ns <= stale_ticks * config.agent.tick_s * NS_PER_S:
        return None
    return f"samples are {sample_age_ns / NS_PER_S:.1f} s old, more than {stale_ticks} ticks"


def illness(facts: Facts, config: Config) -> str | None:
    """The sign that the node is ill; None: there is none."""
    enforce = config.enforce
    if facts.clock_jumps:
        return "the clock jumped"
    if too_old := staleness(facts.sample_age_ns, config):
        return too_old
    if facts.lost and facts.produced is not None:
        lost_pct = facts.lost / max(facts.produced, facts.lost) * 100
        if lost_pct > enforce.lost_samples_pct:
            return f"{lost_pct:.1f} % of the samples are lost, more than {enforce.lost_samples_pct:g} %"
    if facts.refused_in_a_row >= enforce.refused_writes:
        return f"the last {facts.refused_in_a_row} writes were refused"
    if facts.root_is_read_only:
        return "the root file system is read-only"
    return None


def look(health: Health, situation: Situation, config: Config) -> Health:
    """The health now, at a tick."""
    own, jumps = situation.tick.agent, situation.profile.clock_jumps
    lost = own.lost_samples if own.produced is not None else None
    facts = Facts(
        sample_age_ns=situation.now_ns - situation.tick.time_ns,
        clock_jumps=_growth(jumps, health.clock_jumps),
        lost=_growth(lost, health.lost),
        produced=_growth(own.produced, health.produced),
        refused_in_a_row=health.refused_in_a_row,
        root_is_read_only=situation.root_is_read_only,
    )
    sign, reason, seen_ns = illness(facts, config), health.reason, health.seen_ns
    if sign is not None:
        reason, seen_ns = reason or sign, situation.now_ns  # the first sign names it: it is said once
    elif situation.now_ns - seen_ns >= config.enforce.ill_s * NS_PER_S:
        reason = None
    refused = health.refused_in_a_row
    if refused >= config.enforce.refused_writes:
        refused = 0  # they are one sign: after ill_s it is tried again
    return Health(reason, seen_ns, jumps, lost, own.produced, refused)


def after_writes(health: Health, outcomes: tuple[Outcome, ...]) -> Health:
    """With the writes that were refused one after the other."""
    refused = health.refused_in_a_row
    for outcome in outcomes:
        if outcome.result is Result.REFUSED:
            refused += 1
        elif outcome.result in (Result.APPLIED, Result.UNCHANGED):
            refused = 0
    return Health(health.reason, health.seen_ns, health.clock_jumps, health.lost, health.produced, refused)


def _growth(now: int | None, before: int | None) -> int | None:
    """None also for a counter that fell: it began anew."""
    return None if now is None or before is None or now < before else now - before
