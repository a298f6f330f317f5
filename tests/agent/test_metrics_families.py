"""The table of names, and the page made of it."""

from __future__ import annotations

from pathlib import Path

from agent.metrics.__main__ import page
from agent.metrics.families import FAMILIES
from agent.metrics.family import GroupColumn, HostColumn, Kind

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_of_metrics_is_current() -> None:
    assert DOCS.read_text() == page(), "python -m agent.metrics > docs/metrics.md"


def test_names_are_unique_and_only_counters_end_in_total() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert all(family.name.endswith("_total") == (family.kind is Kind.COUNTER) for family in FAMILIES)
    assert all(family.name.endswith("_info") == (family.kind is Kind.INFO) for family in FAMILIES)


def test_all_columns_of_a_family_have_the_same_label_names_and_different_values() -> None:
    for family in FAMILIES:
        stated = [column.labels for column in family.columns if isinstance(column, GroupColumn | HostColumn)]
        assert len({tuple(name for name, _ in labels) for labels in stated}) <= 1
        assert len(set(stated)) == len(stated)


def test_help_is_one_line_that_needs_no_escape() -> None:
    assert not any(set(family.help) & set('\\\n"|') for family in FAMILIES)


def test_what_is_measured_has_a_base_unit_and_what_is_counted_has_none() -> None:
    units = {family.name.removeprefix("slackwater_"): family.unit for family in FAMILIES}
    assert units["group_cpu_used_cores"] == "cores"
    assert units["group_io_read_bytes_total"] == "bytes"
    assert units["group_wait_seconds"] == "seconds"
    assert units["group_waits_total"] == units["node_cpus"] == ""
