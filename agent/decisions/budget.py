"""How long a group may use more than its owner's quota: a token bucket per group, all groups at once. Pure.

    capacity = budget_s * (ceil_pct - 100)          tokens are per cent of the owner's quota times seconds
    spends   (use - 100) a second while use >= 100 %
    saves    (100 - use) a second while use < save_pct

It begins full. A tick in which the use is not known changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from agent.config_laws import BurstConfig
from agent.profiles.counters import rows_of, same
from agent.records import Floats, Ids


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens of each group; never changed in place."""

    ids: Ids = field(default_factory=lambda: np.zeros(0, np.uint64))
    tokens: Floats = field(default_factory=lambda: np.zeros(0))

    def after(self, ids: Ids, use_pct: Floats, elapsed_s: float, config: BurstConfig) -> Budget:
        """After `elapsed_s` at `use_pct` of the owner's quota (NaN: not known). Groups that are gone are forgotten."""
        capacity = config.budget_s * (config.ceil_pct - 100)
        tokens = self.tokens
        if not same(ids, self.ids):
            rows = rows_of(self.ids, ids)
            tokens = np.full(len(ids), capacity)
            tokens[rows >= 0] = self.tokens[rows[rows >= 0]]
        changes = (use_pct >= 100) | (use_pct < config.save_pct)
        saved = np.where(changes, (100 - use_pct) * elapsed_s, 0.0)
        return Budget(ids, np.clip(tokens + saved, 0.0, capacity))

    def empty_ids(self) -> frozenset[int]:
        """Groups without tokens."""
        return frozenset(self.ids[self.tokens <= 0].tolist())
