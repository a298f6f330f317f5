"""What joins the stages of the caches, as far as it needs no kernel: the rest is in tests/system/test_cache.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.cache import CacheWatch
from agent.config import parse_config
from agent.control import PartitionView
from agent.records import Group, Qos
from tests.rdt.trees import unpack

GROUPS = (Group(1, "/", Qos.SYSTEM), Group(7, "/db", Qos.LS), Group(8, "/batch", Qos.BE))


def watch(root: Path, config: str = '[[partition]]\nmatch = "/db"') -> CacheWatch:
    return CacheWatch(parse_config(config, "f"), root)


def by_name(views: tuple[PartitionView, ...]) -> dict[str, PartitionView]:
    return {view.name: view for view in views}


def test_who_only_looks_sees_the_partitions_that_another_agent_has_made(tmp_path: Path) -> None:
    root = unpack("l3-7.x", tmp_path)
    (root / "batch").rename(root / "slackwater-BE")
    views = by_name(watch(root).views(GROUPS))
    assert views["BE"].members == ("/batch",)
    assert views["BE"].profile
    assert views["BE"].profile.llc_bytes == 2 * 327680
    assert views["/db"].profile is None


def test_a_workload_of_its_own_is_found_by_its_id(tmp_path: Path) -> None:
    root = unpack("l3-7.x", tmp_path)
    (root / "batch").rename(root / "slackwater-db-7")
    assert by_name(watch(root).views(GROUPS))["/db"].profile


@pytest.mark.parametrize("name", ["l3-7.x", None], ids=["no group is ours", "no resctrl"])
def test_without_partitions_nothing_is_told(tmp_path: Path, name: str | None) -> None:
    root = unpack(name, tmp_path) if name else tmp_path
    assert watch(root).views(GROUPS) == ()


def test_an_agent_that_looks_at_no_caches_does_not_pay_for_them() -> None:
    script = (
        "import agent.loop, agent.cli.commands, sys; print([name for name in sys.modules if name.startswith('rdt')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
