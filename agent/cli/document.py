"""One tick as the JSON document of `snapshot --json`. Pure.

The shape is a contract: keys may be added, never renamed or removed. Counts and ns are whole numbers, null is
"not available"; NaN is never in it. A path is UTF-8: bytes that are none are written as \\xNN, as in /metrics.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from agent.host import Host
from agent.metrics.series import label_text
from agent.records import Floats, Profile, Tick
from agent.units import NS_PER_S

SCHEMA = 1


def document(tick: Tick, profile: Profile, host: Host) -> dict[str, Any]:
    """What `json.dumps(..., allow_nan=False)` accepts."""
    return {
        "schema": SCHEMA,
        "seconds": tick.interval_ns / NS_PER_S,
        "source": str(tick.source),
        "lost_samples": tick.agent.lost_samples,
        "sampling": tick.agent.sampling,
        "groups": _groups(tick, profile),
        "culprits": _culprits(tick),
        "node": {"used_cores": _decimal(profile.node_used_cores, 4), **dataclasses.asdict(tick.node)},
        "agent": dataclasses.asdict(tick.agent),
        "host": {
            "kernel_release": host.kernel_release,
            "machine": host.machine,
            "cgroup_layout": host.layout,
            "lockdown": host.lockdown,
        },
    }


def _groups(tick: Tick, profile: Profile) -> list[dict[str, Any]]:
    wait, throttle, cgroup = tick.wait, tick.throttle, tick.cgroup
    columns = zip(
        tick.groups,
        _decimals(profile.cpu_used_cores, 4),
        _rows(
            count=_wholes(wait.count),
            sum_ns=_wholes(wait.sum_ns),
            contention_ns=_wholes(wait.contention_ns),
            throttle_ns=_wholes(wait.throttle_ns),
            p50_ns=_wholes(wait.p50_ns),
            p95_ns=_wholes(wait.p95_ns),
            p99_ns=_wholes(wait.p99_ns),
            max_ns=_wholes(wait.max_ns),
        ),
        _rows(events=_wholes(throttle.events), sum_ns=_wholes(throttle.sum_ns), p99_ns=_wholes(throttle.p99_ns)),
        profile.main_culprit,
        _wholes(cgroup.memory_bytes),
        _decimals(profile.io_read_bytes_per_s),
        _decimals(profile.io_write_bytes_per_s),
        *_cpi(profile),
        strict=True,
    )
    return [
        {
            "id": group.id,
            "path": label_text(group.path),
            "class": str(group.qos),
            "cpu_used_cores": cores,
            "wait": waits,
            "throttle": throttles,
            "main_culprit": dataclasses.asdict(culprit) | {"path": label_text(culprit.path)} if culprit else None,
            "memory_bytes": memory_bytes,
            "io_read_bytes_per_s": read_per_s,
            "io_write_bytes_per_s": write_per_s,
            "cycles_per_instruction": cpi,
            "llc_misses_per_1000_instructions": misses,
        }
        for group, cores, waits, throttles, culprit, memory_bytes, read_per_s, write_per_s, cpi, misses in columns
    ]


def _cpi(profile: Profile) -> tuple[list[float | None], list[float | None]]:
    """Cycles and cache misses per instruction and per 1000."""
    if profile.cpi is None:
        return [None] * len(profile.groups), [None] * len(profile.groups)
    of = profile.cpi
    return _decimals(of.cycles_per_instruction, 3), _decimals(of.llc_misses_per_1000_instructions, 3)


def _culprits(tick: Tick) -> list[dict[str, Any]]:
    pairs = tick.culprits
    return _rows(
        victim_id=pairs.victim_ids.tolist(),
        culprit_id=pairs.culprit_ids.tolist(),
        wait_ns=_wholes(pairs.wait_ns),
        count=_wholes(pairs.count),
    )


def _rows(**columns: list[Any]) -> list[dict[str, Any]]:
    """Columns as one object per row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _wholes(values: Floats) -> list[int | None]:
    return [round(value) if math.isfinite(value) else None for value in values.tolist()]


def _decimals(values: Floats, digits: int = 2) -> list[float | None]:
    return [_decimal(value, digits) for value in values.tolist()]


def _decimal(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
