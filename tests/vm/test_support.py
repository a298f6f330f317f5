"""docs/support.md says what is true of this kernel."""

from __future__ import annotations

import os

import pytest

from tests.kernel.needs import FORCED
from tests.vm import support, support_rdt
from tests.vm.machines import MACHINES


def test_document_is_what_it_is_read_as() -> None:
    rows = [{"kernel": "6.12", "cgroup": "v2"}, {"kernel": "6.1", "cgroup": "v2"}]
    assert support.rows(support.document(list(rows))) == rows[::-1]


@pytest.mark.short
@pytest.mark.skipif(not FORCED, reason="only where the host is known: SLACKWATER_KERNEL_TESTS=1")
def test_this_kernel_is_as_documented() -> None:
    """Every cell of its column. A kernel that the page does not have, such as one that came since, is skipped."""
    documented = support.rows(support.DOCUMENT.read_text())
    here = support.release(os.uname().release)
    found = support.facts()
    same = [row for row in documented if (row["kernel"], row["cgroup"]) == (here, found["cgroup"])]
    if not same:
        pytest.skip(f"docs/support.md has no kernel {here} with cgroup {found['cgroup']}")
    assert found in same


def test_machines_do_not_disturb_the_table_of_kernels() -> None:
    rows = [{"kernel": "6.12", "cgroup": "v2"}]
    facts = {"schemata": "L3 0 1 = fff", "CLOSIDs": "16", "RMIDs": "-", "mount options": "-"}
    text = support.document(rows) + support_rdt.document({"l3": facts})
    assert support.rows(text) == rows
    assert support_rdt.documented(text, "l3") == facts


def test_each_machine_is_documented() -> None:
    text = support.DOCUMENT.read_text()
    assert all(support_rdt.documented(text, name) for name in MACHINES)


@pytest.mark.short
@pytest.mark.skipif("SLACKWATER_MACHINE" not in os.environ, reason="not a guest of tests/vm")
def test_this_machine_is_as_documented() -> None:
    documented = support_rdt.documented(support.DOCUMENT.read_text(), os.environ["SLACKWATER_MACHINE"])
    assert support_rdt.facts() == documented
