"""How many waits are sent: all, or under overload one in `factor`.

The factor doubles when samples were dropped, or when emptying the rings alone took more than the CPU budget, in the
last tick. It halves after `CALM_TICKS` ticks with neither, so that it does not swing; a tick is calm at under half of
the budget. What a tick costs by its number of groups does not count here: fewer samples would not make it cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass

CALM_TICKS = 10


@dataclass(frozen=True, slots=True)
class SamplingState:
    """`factor` >= 1, a power of two; `calm_ticks`: in a row."""

    factor: int = 1
    calm_ticks: int = 0


@dataclass(frozen=True, slots=True)
class SamplingLimits:
    """`max_factor` >= 1 (config probe.max_sampling); `cpu_budget_pct` of one core (config budget.cpu_pct)."""

    max_factor: int
    cpu_budget_pct: float


def decide_sampling(
    state: SamplingState, limits: SamplingLimits, *, dropped: int, drain_cpu_pct: float
) -> tuple[SamplingState, str | None]:
    """The next state, and the reason if the factor changed. Both figures are of the last tick."""
    over_budget = drain_cpu_pct > limits.cpu_budget_pct
    if dropped or over_budget:
        factor = min(state.factor * 2, limits.max_factor)
        if factor == state.factor:
            return SamplingState(factor), None
        why = (
            f"{dropped} samples dropped"
            if dropped
            else f"{drain_cpu_pct:.1f} % CPU for samples, of {limits.cpu_budget_pct:g} %"
        )
        return SamplingState(factor), why
    if drain_cpu_pct > limits.cpu_budget_pct / 2 or state.factor == 1:
        return SamplingState(state.factor), None
    if state.calm_ticks + 1 < CALM_TICKS:
        return SamplingState(state.factor, state.calm_ticks + 1), None
    return SamplingState(state.factor // 2), f"{CALM_TICKS} calm ticks"
