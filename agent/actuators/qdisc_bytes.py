"""Where the kernel does not take the options of a qdisc or filter as it gives them. Pure.

htb       gives its version in another form than it takes (htb_init, htb_dump in net/sched/sch_htb.c), and counts
codel     and fq_codel keep times in units of 1024 ns and give them rounded down to us: taken so they are a unit less
u32       gives whether hardware does the filtering, which it does not take (tc_flags_valid), and counts
matchall  the same
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

from agent.traffic import Part, attribute, attributes

_IN_HARDWARE = 0x4 | 0x8
"""Source: TCA_CLS_FLAGS_IN_HW, TCA_CLS_FLAGS_NOT_IN_HW."""
_FLAGS = {"u32": 11, "matchall": 3}
_COUNTERS = {"u32": 9, "matchall": 4}
_TIMES = {"codel": (1, 3, 5), "fq_codel": (1, 3, 7)}
"""Target, interval and CE threshold. Source: TCA_CODEL_*, TCA_FQ_CODEL_*."""


def comparable(part: Part) -> Part:
    """Without what changes by itself."""
    if part.what == "qdisc" and part.kind == "htb":
        return _with(part, 2, lambda init: struct.pack("=5I", *_htb_init(init)))
    counters = _COUNTERS.get(part.kind) if part.what == "filter" else None
    return part.plain if counters is None else _with(part, counters, lambda _: None)


def askable(part: Part) -> Part:
    """As the kernel takes it."""
    if part.what == "filter" and part.kind in _FLAGS:
        return _with(part, _FLAGS[part.kind], _without_hardware)
    for time in _TIMES.get(part.kind, ()) if part.what == "qdisc" else ():
        part = _with(part, time, _a_us_more)
    return part


def _htb_init(init: bytes) -> tuple[int, ...]:
    """struct tc_htb_glob."""
    version, rate2quantum, default, debug, _ = struct.unpack("=5I", init)
    return version >> 16 or version, rate2quantum, default, debug, 0


def _without_hardware(flags: bytes) -> bytes:
    return struct.pack("=I", struct.unpack("=I", flags)[0] & ~_IN_HARDWARE)


def _a_us_more(time_us: bytes) -> bytes:
    """Rounded down it is the unit that it was read from."""
    return struct.pack("=I", min(struct.unpack("=I", time_us)[0] + 1, 0xFFFFFFFF))


def _with(part: Part, kind: int, change: Callable[[bytes], bytes | None]) -> Part:
    """With another payload of this attribute; None: without it."""
    options = b""
    for each, payload in attributes(part.options):
        payload_now = change(payload) if each == kind else payload
        if payload_now is not None:
            options += attribute(each, payload_now)
    return replace(part.plain, options=options)
