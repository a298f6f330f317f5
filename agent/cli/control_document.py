"""History and status as JSON documents. Pure.

The shapes are a contract: keys may be added, never renamed or removed. Null is "not known" or "does not apply".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from agent.control import Outcome
from agent.history.entries import Entry
from agent.status import Life, Status
from agent.units import NS_PER_S

HISTORY_SCHEMA = STATUS_SCHEMA = 1


def history_document(entries: Sequence[Entry]) -> dict[str, Any]:
    """What `json.dumps(..., allow_nan=False)` accepts."""
    return {"schema": HISTORY_SCHEMA, "entries": [_entry(entry) for entry in entries]}


def status_document(status: Status | None, life: Life) -> dict[str, Any]:
    """`agent` is running, silent, dead, or none; `status` is what it wrote last."""
    return {
        "schema": STATUS_SCHEMA,
        "agent": str(life) if status else "none",
        "status": msgspec.to_builtins(status) if status else None,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "kind": entry.kind,
        "time": _utc(entry.begin.wall_ns),
        "time_ns": entry.begin.wall_ns,
        "monotonic_ns": entry.begin.monotonic_ns,
        "end_time_ns": None if entry.lasts else entry.end_wall_ns,
        "times": entry.times,
        "controller": entry.controller,
        "resource": entry.resource,
        "group_id": entry.group_id,
        "group": entry.path,
        "cause": entry.cause,
        "reason": entry.reason,
        "gives_back": entry.gives_back,
        "emergency": entry.emergency,
        "inputs": {name: _finite(value) for name, value in entry.inputs.items()},
        "outcomes": [_outcome(outcome) for outcome in entry.outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "group_id": outcome.intent.group_id,
        "group": outcome.intent.path,
        "knob": outcome.intent.knob,
        "value": outcome.intent.value,
        "result": outcome.result,
        "before": outcome.before,
        "after": outcome.after,
        "errno": outcome.errno,
        "kernel_text": outcome.kernel_text,
    }


def _finite(value: float | str) -> float | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _utc(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds")
