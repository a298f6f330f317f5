"""The protobuf exposition of Prometheus, with native histograms. Pure.

Format: io.prometheus.client.MetricFamily messages (prometheus/client_model, metrics.proto), each behind its length as a
varint. Written by hand because it is a dozen fields, and so that the labels of a group are encoded once per scrape
and all varints of the histograms in one numpy operation. Field numbers below are those of metrics.proto.
A histogram has its classic buckets too: a server that reads protobuf but no native histograms takes those.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import cycle, pairwise, repeat

import numpy as np
from numpy.typing import NDArray

from agent.metrics.families import FAMILIES
from agent.metrics.family import WAIT_HISTOGRAMS, Family, Kind, Labels, View
from agent.metrics.histograms import LE_S, Histograms, arrange, classic
from agent.metrics.series import Points, Shown, points_of, show
from agent.records import WAIT_CLASSES

PROTOBUF_TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
ZERO_THRESHOLD_S = 2.0**-128
"""Prometheus' default; below 1 ns, the smallest wait that is not 0."""

_TYPE = {Kind.COUNTER: 0, Kind.GAUGE: 1, Kind.INFO: 1, Kind.HISTOGRAM: 4}
_VARINT, _FIXED64, _BYTES = 0, 1, 2


@lru_cache(maxsize=1024)
def varint(value: int) -> bytes:
    """value >= 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varints(values: NDArray[np.uint64]) -> tuple[bytes, list[int]]:
    """All values as varints one after another, and where each begins (and the last one ends)."""
    lengths = np.ones(len(values), np.intp)
    for bits in range(7, 64, 7):
        lengths += values >= np.uint64(1 << bits)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    out = np.zeros(int(lengths.sum()), np.uint8)
    for i in range(int(lengths.max(initial=0))):
        has = lengths > i
        more = np.where(lengths[has] > i + 1, 0x80, 0).astype(np.uint8)
        out[starts[has] + i] = ((values[has] >> np.uint64(7 * i)) & np.uint64(0x7F)).astype(np.uint8) | more
    return out.tobytes(), [0, *ends.tolist()]


def zigzag(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """sint32 and sint64: small numbers of either sign become small varints."""
    return ((values << 1) ^ (values >> 63)).astype(np.uint64)


def render_protobuf(view: View) -> Iterator[bytes]:
    """The exposition in chunks of whole messages, one per family."""
    shown = show(view.tick.groups)
    groups = [_labels(labels) for labels in shown.labels]
    for family in FAMILIES:
        if WAIT_HISTOGRAMS in family.columns:
            metrics = list(_histograms(view, shown, groups))
        else:
            metrics = [m for points in points_of(family, view, shown) for m in _scalars(family, points, groups)]
        if metrics:
            head = _field(1, family.name.encode()) + _field(2, family.help.encode()) + _number(3, _TYPE[family.kind])
            body = b"".join([head, *metrics])
            yield varint(len(body)) + body


def _tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def _field(number: int, content: bytes) -> bytes:
    return _tag(number, _BYTES) + varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _tag(number, _VARINT) + varint(value)


def _double(number: int, value: float) -> bytes:
    return _tag(number, _FIXED64) + struct.pack("<d", value)


def _labels(labels: Labels) -> bytes:
    """Metric.label = 1 {name = 1, value = 2}, repeated."""
    return b"".join(_field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in labels)


def _scalars(family: Family, points: Points, groups: list[bytes]) -> Iterator[bytes]:
    """MetricFamily.metric = 4 {label = 1, gauge = 2 or counter = 3 {value = 1}}."""
    value_head = _tag(3 if family.kind is Kind.COUNTER else 2, _BYTES) + varint(9) + _tag(1, _FIXED64)
    size = len(value_head) + 8
    metric_tag, pack = _tag(4, _BYTES), struct.Struct("<d").pack
    extras = [_labels(labels) for labels in points.labels]
    each_extra = extras if len(extras) == len(points.values) else repeat(extras[0])
    each_group = repeat(b"") if points.rows is None else (groups[row] for row in points.rows)
    for group, extra, value in zip(each_group, each_extra, points.values, strict=False):
        yield metric_tag + varint(len(group) + len(extra) + size) + group + extra + value_head + pack(value)


def _histograms(view: View, shown: Shown, groups: list[bytes]) -> Iterator[bytes]:
    """MetricFamily.metric = 4 {label = 1, histogram = 7 {...}}."""
    if view.tick.histograms is None:
        return
    histograms = arrange(view.tick.histograms, view.tick.wait.ids)
    waits = [_labels((("wait", wait),)) for wait in WAIT_CLASSES]
    scale = _field_schema(histograms.schema)
    natives = zip(_spans(histograms), _deltas(histograms), _classic_buckets(histograms), strict=True)
    for j, (spans, deltas, buckets) in enumerate(natives):
        row = histograms.rows[j]
        if shown.unique[row]:
            content = b"".join(
                (
                    _number(1, int(histograms.count[j])),
                    _double(2, float(histograms.sum_s[j])),
                    buckets,
                    scale,
                    _number(7, int(histograms.zero_count[j])),
                    spans,
                    _field(13, deltas),
                )
            )
            yield _field(4, groups[row] + waits[histograms.class_index[j]] + _field(7, content))


def _field_schema(schema: int) -> bytes:
    """Histogram.schema = 5 (sint32), zero_threshold = 6."""
    return _number(5, int(zigzag(np.array([schema]))[0])) + _double(6, ZERO_THRESHOLD_S)


def _deltas(histograms: Histograms) -> Iterator[bytes]:
    """Histogram.positive_delta = 13 (sint64, packed): the first count, then the differences."""
    previous = np.concatenate([[0], histograms.bucket_count[:-1]])[: len(histograms.bucket_count)]
    begins = histograms.first[:-1][np.diff(histograms.first) > 0]
    previous[begins] = 0
    encoded, ends = varints(zigzag(histograms.bucket_count - previous))
    bounds = [ends[i] for i in histograms.first.tolist()]
    return (encoded[start:end] for start, end in pairwise(bounds))


def _spans(histograms: Histograms) -> Iterator[bytes]:
    """Histogram.positive_span = 12 {offset = 1 (sint32: gap to the span before), length = 2}: runs of buckets."""
    bucket, first = histograms.bucket, histograms.first
    begins = np.ones(len(bucket), np.bool_)
    begins[1:] = np.diff(bucket) != 1
    begins[first[:-1][np.diff(first) > 0]] = True
    at = np.flatnonzero(begins)
    lengths = np.diff(np.append(at, len(bucket)))
    gaps = bucket[at] - np.concatenate([[-1], bucket[at[1:] - 1]])[: len(at)] - 1
    first_span = np.searchsorted(at, first)
    opening = first_span[:-1][np.diff(first_span) > 0]
    gaps[opening] = bucket[at[opening]]
    offsets, offset_ends = varints(zigzag(gaps))
    sizes, size_ends = varints(lengths.astype(np.uint64))
    span_tag, offset_tag, length_tag = _tag(12, _BYTES), _tag(1, _VARINT), _tag(2, _VARINT)
    spans = []
    for (start, end), (size_start, size_end) in zip(pairwise(offset_ends), pairwise(size_ends), strict=True):
        size = varint(end - start + size_end - size_start + 2)
        spans.append(span_tag + size + offset_tag + offsets[start:end] + length_tag + sizes[size_start:size_end])
    return (b"".join(spans[start:end]) for start, end in pairwise(first_span.tolist()))


def _classic_buckets(histograms: Histograms) -> Iterator[bytes]:
    """Histogram.bucket = 3 {cumulative_count = 1, upper_bound = 2}."""
    bounds = [_double(2, bound) for bound in LE_S]
    heads = [_tag(3, _BYTES) + varint(1 + size + len(bounds[0])) + _tag(1, _VARINT) for size in range(11)]
    counts, ends = varints(classic(histograms).astype(np.uint64).ravel())
    buckets = [
        heads[end - start] + counts[start:end] + bound for (start, end), bound in zip(pairwise(ends), cycle(bounds))
    ]
    width = len(bounds)
    return (b"".join(buckets[i : i + width]) for i in range(0, len(buckets), width))
