"""The ring decoder keeps what native/ring.h promises, on ring memory that is laid out here as the kernel does it."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native._slackwater import ffi, lib

SIZE_BYTES = 4096
BUSY, DISCARD = 1 << 31, 1 << 30
U64 = 2**64
HEADER_BYTES = 8
MAP_FIXED = 0x10

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


@contextmanager
def mapped_twice(size_bytes: int) -> Iterator[int]:
    """One piece of memory at two addresses, the second behind the first. The address of the first."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    fd = os.memfd_create("ring")
    os.ftruncate(fd, size_bytes)
    first = libc.mmap(None, 2 * size_bytes, protection, anonymous, -1, 0)
    for address in (first, first + size_bytes):
        assert libc.mmap(address, size_bytes, protection, mmap.MAP_SHARED | MAP_FIXED, fd, 0) == address
    os.close(fd)
    try:
        yield first
    finally:
        libc.munmap(first, 2 * size_bytes)


def whole_bytes(payload_bytes: int) -> int:
    return (payload_bytes + HEADER_BYTES + 7) // 8 * 8


class Ring:
    """A ring and the writer's side of its protocol."""

    def __init__(self, address: int, size_bytes: int, position: int) -> None:
        self.size_bytes = size_bytes
        self._positions = ffi.new("uint64_t[2]", [position, position])
        self._data = ffi.cast("uint8_t *", address)
        self.ring = ffi.new("struct ring *", [self._positions, self._positions + 1, self._data, size_bytes])

    @property
    def consumer(self) -> int:
        return int(self._positions[0])

    @property
    def producer(self) -> int:
        return int(self._positions[1])

    @producer.setter
    def producer(self, position: int) -> None:
        self._positions[1] = position % U64

    def set_header(self, position: int, header: int) -> None:
        ffi.cast("uint32_t *", self._data + position % self.size_bytes)[0] = header

    def put(self, payload: bytes, flags: int = 0) -> int:
        """Write a record; where it is."""
        at = self.producer
        self.set_header(at, len(payload) | flags)
        ffi.memmove(self._data + at % self.size_bytes + HEADER_BYTES, payload, len(payload))
        self.producer = at + whole_bytes(len(payload))
        return at

    def drain(self, on_record: Callable[[bytes], object]) -> int:
        @ffi.callback("void(void *, const void *, uint32_t)")  # type: ignore[untyped-decorator]
        def record(_context: object, data: object, payload_bytes: int) -> None:
            on_record(bytes(ffi.buffer(data, payload_bytes)))

        return int(lib.ring_drain(self.ring, record, ffi.NULL))

    def take(self) -> list[bytes]:
        """The records that a drain gives; their number is its result."""
        got: list[bytes] = []
        assert self.drain(got.append) == len(got)
        return got

    def breaks(self) -> bool:
        """Whether a drain says -EBADMSG, gives nothing, and moves on to the producer."""
        got: list[bytes] = []
        result = self.drain(got.append)
        return result == -errno.EBADMSG and not got and self.consumer == self.producer


@contextmanager
def new_ring(position: int = 0, size_bytes: int = SIZE_BYTES) -> Iterator[Ring]:
    with mapped_twice(size_bytes) as address:
        yield Ring(address, size_bytes, position)


@pytest.fixture
def ring() -> Iterator[Ring]:
    with new_ring() as ring:
        yield ring


POSITIONS = [0, SIZE_BYTES - 8, 2**32 - 16, 2**32 - SIZE_BYTES + 24, 2**63 - 64, U64 - 24, U64 - SIZE_BYTES]
payloads = st.binary(max_size=700)
steps = st.lists(
    st.one_of(st.tuples(st.just("put"), payloads), st.tuples(st.just("discard"), payloads), st.just(("drain", b""))),
    max_size=60,
)


@given(st.sampled_from(POSITIONS), steps)
def test_every_record_comes_once_in_order_unless_discarded(position: int, steps: list[tuple[str, bytes]]) -> None:
    """Against a list. Records wrap at the end of the memory, positions at 2**32 and 2**64."""
    with new_ring(position) as ring:
        expected: list[bytes] = []
        for what, payload in steps:
            room_bytes = ring.size_bytes - (ring.producer - ring.consumer) % U64
            if what != "drain" and room_bytes >= whole_bytes(len(payload)):
                ring.put(payload, DISCARD if what == "discard" else 0)
                expected += [payload] if what == "put" else []
            else:
                assert ring.take() == expected
                assert ring.consumer == ring.producer
                expected = []
        assert ring.take() == expected


@pytest.mark.parametrize("position", POSITIONS)
def test_a_record_that_fills_the_ring_is_read_across_its_end(position: int) -> None:
    with new_ring(position) as ring:
        payload = bytes(i % 251 for i in range(SIZE_BYTES - HEADER_BYTES))
        ring.put(payload)
        assert ring.take() == [payload]


def test_an_empty_ring_gives_nothing(ring: Ring) -> None:
    assert ring.take() == []
    assert ring.consumer == 0


def test_a_record_without_data_is_a_record(ring: Ring) -> None:
    ring.put(b"")
    assert ring.take() == [b""]


@pytest.mark.parametrize("flags", [BUSY, BUSY | DISCARD])
def test_a_busy_record_stops_the_drain_until_it_is_finished(ring: Ring, flags: int) -> None:
    """What comes after it waits, although finished; what came before is given back."""
    ring.put(b"before")
    busy = ring.put(b"slow one", flags)
    ring.put(b"after")
    assert ring.take() == [b"before"]
    assert ring.consumer == busy
    assert ring.take() == []
    ring.set_header(busy, len(b"slow one"))
    assert ring.take() == [b"slow one", b"after"]


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("excess_bytes", [1, 8, SIZE_BYTES, 2**30 - 1 - 8])
@pytest.mark.parametrize("flags", [0, DISCARD])
def test_a_length_past_the_producer_is_a_broken_ring(position: int, excess_bytes: int, flags: int) -> None:
    """Discarded or not: its length says where the next one begins."""
    with new_ring(position) as ring:
        at = ring.put(b"8 bytes.")
        ring.set_header(at, len(b"8 bytes.") + excess_bytes | flags)
        assert ring.breaks()


def test_records_before_a_broken_one_are_given_and_those_behind_are_not(ring: Ring) -> None:
    ring.put(b"good")
    at = ring.put(b"bad")
    ring.put(b"lost")
    ring.set_header(at, SIZE_BYTES)
    got: list[bytes] = []
    assert ring.drain(got.append) == -errno.EBADMSG
    assert got == [b"good"]
    assert ring.consumer == ring.producer
    ring.put(b"new")
    assert ring.take() == [b"new"]


@pytest.mark.parametrize("ahead_bytes", [SIZE_BYTES + 8, 2**32, 2**63, U64 - 8])
def test_a_producer_further_ahead_than_the_ring_is_a_broken_ring(ring: Ring, ahead_bytes: int) -> None:
    """U64 - 8: a producer that went back."""
    ring.producer = ahead_bytes
    assert ring.breaks()


@pytest.mark.parametrize("position", [4, U64 - 1])
def test_a_position_off_the_grid_of_8_is_a_broken_ring(position: int) -> None:
    with new_ring(position) as ring:
        ring.producer = position + 8
        assert ring.breaks()
    with new_ring(0) as ring:
        ring.producer = 12
        assert ring.breaks()


@pytest.mark.parametrize("position", POSITIONS)
def test_memory_is_given_back_at_least_every_quarter_of_the_ring(position: int) -> None:
    with new_ring(position) as ring:
        payload = bytes(64 - HEADER_BYTES)
        for _ in range(SIZE_BYTES // 64):
            ring.put(payload)
        held_bytes: list[int] = []
        read_bytes = iter(range(0, SIZE_BYTES, 64))
        ring.drain(lambda _: held_bytes.append(next(read_bytes) - (ring.consumer - position) % U64))
        assert len(held_bytes) == SIZE_BYTES // 64
        assert max(held_bytes) < SIZE_BYTES // 4
        assert held_bytes.count(0) == 4, "not after each record: the kernel reads the position too"


def test_a_producer_that_keeps_writing_cannot_hold_the_call(ring: Ring) -> None:
    """One more record for each that is read: only what was there when the call began comes."""

    def write_one_more(_: bytes) -> None:
        if len(got) > 100:
            pytest.fail("held")
        got.append(b"")
        ring.put(b"more")

    got: list[bytes] = []
    ring.put(b"first")
    ring.put(b"second")
    assert ring.drain(write_one_more) == 2
    assert ring.take() == [b"more", b"more"]


@given(st.sampled_from(POSITIONS), st.lists(st.integers(0, 2**32 - 1), max_size=40), st.integers(0, SIZE_BYTES // 8))
def test_any_headers_are_survived(position: int, headers: list[int], ahead: int) -> None:
    """Random words where headers are: records or -EBADMSG, never memory outside the ring, and a consumer that stays
    behind the producer."""
    with new_ring(position) as ring:
        for i in range(SIZE_BYTES // 8):
            ring.set_header(position + 8 * i, headers[i % len(headers)] if headers else 0)
        ring.producer = position + 8 * ahead
        got: list[bytes] = []
        result = ring.drain(got.append)
        assert result in (-errno.EBADMSG, len(got))
        assert (ring.producer - ring.consumer) % U64 <= 8 * ahead
        assert sum(whole_bytes(len(payload)) for payload in got) <= 8 * ahead
