"""docs/support.md says what is true of this kernel."""

from __future__ import annotations

import os

import pytest

from tests.kernel.needs import FORCED
from tests.vm import support


def test_document_is_what_it_is_read_as() -> None:
    rows = [{"kernel": "6.12", "cgroup": "v2"}, {"kernel": "6.1", "cgroup": "v2"}]
    assert support.rows(support.document(list(rows))) == rows[::-1]


@pytest.mark.short
@pytest.mark.skipif(not FORCED, reason="only where the host is known: SLACKWATER_KERNEL_TESTS=1")
def test_this_kernel_is_as_documented() -> None:
    """Every cell of its column. A kernel that the page does not have is none of its business."""
    documented = support.rows(support.DOCUMENT.read_text())
    here = support.release(os.uname().release)
    if here not in {row["kernel"] for row in documented}:
        pytest.skip(f"docs/support.md has no kernel {here}")
    found = support.facts()
    same_layout = [row for row in documented if (row["kernel"], row["cgroup"]) == (here, found["cgroup"])]
    if not same_layout:
        pytest.skip(f"docs/support.md has no kernel {here} with cgroup {found['cgroup']}")
    assert found in same_layout
