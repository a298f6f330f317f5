"""The token bucket of a group that uses more than its owner's quota."""

from __future__ import annotations

import numpy as np
import pytest

from agent.config import Config
from agent.decisions.budget import Budget
from tests.agent.decisions.world import NAN, WEB


def test_fractions_of_a_second_count_in_the_budget() -> None:
    """Ten ticks of 0.1 s spend what one tick of 1 s does."""
    config, ids = Config().burst, np.array([WEB], np.uint64)
    short = long = Budget().after(ids, np.array([100.0]), 1.0, config)
    for _ in range(10):
        short = short.after(ids, np.array([250.0]), 0.1, config)
    long = long.after(ids, np.array([250.0]), 1.0, config)
    assert short.tokens[0] == pytest.approx(long.tokens[0])
    assert long.tokens[0] == 60 * 200 - 150


def test_the_budget_is_saved_up_below_save_pct_only_and_not_by_what_is_not_known() -> None:
    config, ids = Config().burst, np.array([WEB], np.uint64)
    spent = Budget(ids, np.array([100.0]))
    for use_pct, tokens in ((59, 141), (60, 100), (99, 100), (NAN, 100), (150, 50), (900, 0)):
        assert spent.after(ids, np.array([float(use_pct)]), 1.0, config).tokens[0] == tokens
