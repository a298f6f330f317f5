"""Rows of groups: where an id stands in a column of ids. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.records import Ids

Rows = NDArray[np.intp]

ABSENT = -1


def find_rows(ids: Ids, wanted: Ids) -> Rows:
    """Row of each wanted id in `ids` (unique, any order), ABSENT where it is not there."""
    if len(ids) == 0:
        return np.full(len(wanted), ABSENT, dtype=np.intp)
    order = np.argsort(ids)
    place = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    rows = order[place]
    return np.where(ids[rows] == wanted, rows, ABSENT)
