"""A reader of delimited io.prometheus.client.MetricFamily messages, written from metrics.proto alone: a test oracle."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

Fields = dict[int, list[int | bytes]]


@dataclass
class Native:
    schema: int
    zero_threshold: float
    zero_count: int
    count: int
    sum: float
    buckets: dict[int, int] = field(default_factory=dict)
    classic: dict[float, int] = field(default_factory=dict)


@dataclass
class Family:
    name: str
    help: str
    type: int
    values: dict[tuple[tuple[str, str], ...], float | Native]


def decode(data: bytes) -> list[Family]:
    families = []
    at = 0
    while at < len(data):
        size, at = _varint(data, at)
        assert at + size <= len(data), "the message is cut short"
        families.append(_family(_message(data[at : at + size])))
        at += size
    return families


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _message(data: bytes) -> Fields:
    fields: Fields = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        content: int | bytes
        if key & 7 == 0:
            content, at = _varint(data, at)
        elif key & 7 == 1:
            content, at = data[at : at + 8], at + 8
        else:
            assert key & 7 == 2, "wire type"
            size, at = _varint(data, at)
            content, at = data[at : at + size], at + size
        fields.setdefault(key >> 3, []).append(content)
    return fields


def _bytes(content: int | bytes) -> bytes:
    assert isinstance(content, bytes)
    return content


def _int(content: int | bytes) -> int:
    assert isinstance(content, int)
    return content


def _double(content: int | bytes) -> float:
    value: float = struct.unpack("<d", _bytes(content))[0]
    return value


def _signed(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _family(fields: Fields) -> Family:
    values: dict[tuple[tuple[str, str], ...], float | Native] = {}
    kind = _int(fields[3][0])
    for metric in map(_message, map(_bytes, fields.get(4, []))):
        pairs = map(_message, map(_bytes, metric.get(1, [])))
        labels = tuple(sorted((_bytes(p[1][0]).decode(), _bytes(p[2][0]).decode()) for p in pairs))
        assert labels not in values, "a series appears twice"
        if kind == 4:
            values[labels] = _native(_message(_bytes(metric[7][0])))
        else:
            values[labels] = _double(_message(_bytes(metric[3 if kind == 0 else 2][0]))[1][0])
    return Family(_bytes(fields[1][0]).decode(), _bytes(fields[2][0]).decode(), kind, values)


def _native(fields: Fields) -> Native:
    native = Native(
        schema=_signed(_int(fields[5][0])),
        zero_threshold=_double(fields[6][0]),
        zero_count=_int(fields[7][0]),
        count=_int(fields[1][0]),
        sum=_double(fields[2][0]),
    )
    deltas, at = [], 0
    packed = b"".join(map(_bytes, fields.get(13, [])))
    while at < len(packed):
        delta, at = _varint(packed, at)
        deltas.append(_signed(delta))
    index = count = 0
    rest = iter(deltas)
    for span in map(_message, map(_bytes, fields.get(12, []))):
        index += _signed(_int(span[1][0]))
        for _ in range(_int(span[2][0])):
            count += next(rest)
            native.buckets[index] = count
            index += 1
    assert next(rest, None) is None, "more deltas than the spans hold"
    for bucket in map(_message, map(_bytes, fields.get(3, []))):
        native.classic[_double(bucket[2][0])] = _int(bucket[1][0])
    return native
