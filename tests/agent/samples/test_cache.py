"""agent.samples.cache, on the trees of real kernels: what has a value is read, what has none is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.records import CacheOffer, CacheSample
from agent.samples.cache import offer_of, read
from rdt import info
from rdt.errors import NotMounted
from rdt.group import Tree
from tests.rdt.trees import unpack

BATCH, WEB = -4, 7


def sample(root: Path, *names: str) -> CacheSample:
    tree = Tree(root)
    groups = {BATCH: tree.group("batch")} | {WEB + i: tree.group(name) for i, name in enumerate(names)}
    return read(groups, tree.group(), info.read(root, root / "none"), 5)


def test_counters_are_read_by_partition_and_cache(tmp_path: Path) -> None:
    found = sample(unpack("l3-7.x", tmp_path))
    assert found.time_ns == 5
    assert found.partitions[BATCH].llc_bytes == {0: 327680, 1: 327680}
    assert found.partitions[BATCH].total_bytes.keys() == found.partitions[BATCH].local_bytes.keys() == {0, 1}
    assert found.rest
    assert found.rest.llc_bytes.keys() == {0, 1}


@pytest.mark.parametrize("word", ["Unavailable", "Error", "Unassigned"])
def test_a_counter_that_says_why_it_has_no_value_is_left_out(tmp_path: Path, word: str) -> None:
    root = unpack("l3-7.x", tmp_path)
    (root / "batch/mon_data/mon_L3_01/mbm_total_bytes").write_text(f"{word}\n")
    found = sample(root).partitions[BATCH]
    assert found.total_bytes.keys() == {0}
    assert found.llc_bytes.keys() == {0, 1}


def test_a_cache_that_is_gone_is_left_out(tmp_path: Path) -> None:
    root = unpack("l3-7.x", tmp_path)
    shutil.rmtree(root / "batch/mon_data/mon_L3_01")
    assert sample(root).partitions[BATCH].llc_bytes.keys() == {0}


def test_a_group_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert sample(unpack("l3-7.x", tmp_path), "gone").partitions.keys() == {BATCH}


def test_a_machine_without_counters_has_what_it_can_divide_all_the_same(tmp_path: Path) -> None:
    found = sample(unpack("nomon", tmp_path))
    assert (found.partitions, found.rest) == ({}, None)
    assert found.offer.ways


def test_a_resctrl_that_was_unmounted_meanwhile_is_an_error(tmp_path: Path) -> None:
    root = unpack("l3-7.x", tmp_path)
    tree, offered = Tree(root), info.read(root, root / "none")
    shutil.rmtree(root)
    with pytest.raises(NotMounted):
        read({BATCH: tree.group("batch")}, tree.group(), offered, 5)


@pytest.mark.parametrize(
    ("name", "offer"),
    [
        ("l3-7.x", CacheOffer(12, 10.0, bandwidth_min=10.0)),
        ("cdp", CacheOffer(12, 10.0, bandwidth_min=10.0)),
        ("l3-mbps", CacheOffer(12, 1, is_mib_per_s=True)),
        ("nomba", CacheOffer(12, None)),
        ("mononly", CacheOffer(None, None)),
        ("amd", CacheOffer(16, 100 / 2048)),
        ("haswell", CacheOffer(20, None, ways_min=2)),
    ],
)
def test_what_the_machine_can_divide(tmp_path: Path, name: str, offer: CacheOffer) -> None:
    root = unpack(name, tmp_path)
    assert offer_of(info.read(root, root / "none")) == offer


def test_where_only_the_l2_can_be_divided_it_is_the_last_cache(tmp_path: Path) -> None:
    root = unpack("l2-cdp", tmp_path)
    assert offer_of(info.read(root, root / "none")).cache == "L2"
