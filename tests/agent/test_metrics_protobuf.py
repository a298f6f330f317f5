"""The protobuf exposition, read back by a decoder of its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from agent.metrics.family import View
from agent.metrics.live import Metrics
from agent.metrics.protobuf import render_protobuf, varint, varints, zigzag
from agent.metrics.text import render_text
from agent.records import WAIT_CLASSES, ZERO_BUCKET, Group, HistogramSample, Qos
from tests.agent.metrics_decoder import Native, decode
from tests.agent.metrics_samples import groups_of, histogram_of, profile_of, tick_of


def view_of(groups: tuple[Group, ...], histograms: HistogramSample | None = None) -> View:
    metrics = Metrics(version="1.2.3", culprits_per_group=5, clock_ns=lambda: 2_500_000_000)
    metrics.update(tick_of(groups, histograms=histograms), profile_of(groups))
    view = metrics.view()
    assert view is not None
    return view


def natives(view: View) -> dict[tuple[tuple[str, str], ...], Native]:
    (family,) = (f for f in decode(b"".join(render_protobuf(view))) if f.name == "slackwater_group_wait_seconds")
    return {labels: value for labels, value in family.values.items() if isinstance(value, Native)}


@pytest.mark.parametrize("count", [0, 1, 7, 150])
def test_protobuf_and_text_hold_the_same_series_with_the_same_values(count: int) -> None:
    view = view_of(groups_of(count))
    families = decode(b"".join(render_protobuf(view)))
    scalars = {
        (f.name, labels): value for f in families for labels, value in f.values.items() if not isinstance(value, Native)
    }
    parsed = list(parse_classic(b"".join(render_text(view, openmetrics=False)).decode()))
    text = {
        (s.name, tuple(sorted(s.labels.items()))): s.value for f in parsed for s in f.samples if f.type != "histogram"
    }
    assert scalars == text
    assert {f.name.removesuffix("_total"): f.help for f in families} == {f.name: f.documentation for f in parsed}
    types = {0: "counter", 1: "gauge", 4: "histogram"}
    assert {f.name.removesuffix("_total"): types[f.type] for f in families} == {f.name: f.type for f in parsed}


@pytest.mark.parametrize("schema", [0, 3, 6])
@pytest.mark.parametrize("buckets", [1, 5, 20])
def test_native_histograms_hold_the_agents_own_buckets(schema: int, buckets: int) -> None:
    groups = groups_of(3)
    ids = np.array([group.id for group in groups], np.uint64)
    sample = histogram_of(ids, schema=schema, buckets=min(buckets, 20))
    got = natives(view_of(groups, sample))
    assert len(got) == 6
    for labels, native in got.items():
        named = dict(labels)
        row = [g.path.encode("utf-8", "surrogateescape").decode() for g in groups].index(named["group"])
        mine = (sample.ids == ids[row]) & (sample.class_index == WAIT_CLASSES.index(named["wait"]))
        want = dict(zip(sample.bucket[mine].tolist(), sample.count[mine].tolist(), strict=True))
        assert native.zero_count == want.pop(ZERO_BUCKET)
        assert native.buckets == want
        assert native.schema == schema
        assert native.count == sum(want.values()) + native.zero_count
        assert native.classic[16.0] == native.count
        assert 0 < native.zero_threshold < 1e-9


def test_a_histogram_that_begins_where_the_one_before_ended_has_a_span_of_its_own() -> None:
    groups = (Group(7, "/a", Qos.LS),)
    both = histogram_of(np.array([7], np.uint64), buckets=1)
    real = both.bucket != ZERO_BUCKET
    sample = replace(
        both,
        ids=both.ids[real],
        class_index=both.class_index[real],
        bucket=np.array([5, 6], np.int32),
        count=both.count[real],
    )
    assert [sorted(native.buckets) for native in natives(view_of(groups, sample)).values()] == [[5], [6]]


def test_a_histogram_of_zeros_only_is_still_native() -> None:
    groups = (Group(7, "/a", Qos.LS),)
    ids = np.array([7], np.uint64)
    full = histogram_of(ids, buckets=1)
    zeros = full.bucket == ZERO_BUCKET
    sample = replace(
        full,
        ids=full.ids[zeros],
        class_index=full.class_index[zeros],
        bucket=full.bucket[zeros],
        count=full.count[zeros],
    )
    for native in natives(view_of(groups, sample)).values():
        assert (native.count, native.zero_count, native.buckets) == (3, 3, {})


def test_counts_beyond_32_bits_survive() -> None:
    groups = (Group(7, "/a", Qos.LS),)
    sample = histogram_of(np.array([7], np.uint64), buckets=3)
    big = replace(sample, count=sample.count + 2.0**50)
    for native in natives(view_of(groups, big)).values():
        assert native.count == sum(native.buckets.values()) + native.zero_count > 2**52


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_varints_of_an_array_are_the_varints_of_its_values(values: list[int]) -> None:
    encoded, ends = varints(np.array(values, np.uint64))
    assert [encoded[a:b] for a, b in pairwise(ends)] == [varint(value) for value in values]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_zigzag_is_twice_the_number_or_twice_its_distance_below_minus_one(values: list[int]) -> None:
    want = [2 * value if value >= 0 else -2 * value - 1 for value in values]
    assert zigzag(np.array(values, np.int64)).tolist() == want
