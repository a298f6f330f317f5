"""What was measured: tables on standard output, CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from demo.measure import Run

PERCENTILES = (50, 95, 99)
SERIES = (
    *("phase", "begin_s", "end_s", "requests", "p50_ms", "p95_ms", "p99_ms"),
    *("service_cores", "batch_cores", "agent_cores", "load_cores", "batch_units_per_s"),
    *("batch_limit_cores", "batch_is_idle", "service_quota_cores", "throttled_periods"),
)
"""Columns of the series, a row per half second. Settings are those at its end. Empty: there is none."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need to be, the first to the left, the others to the right."""
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )


def write_series(path: Path, runs: Sequence[Run]) -> None:
    _write(path, SERIES, (row for run in runs for row in _series(run)))


def write_requests(path: Path, runs: Sequence[Run]) -> None:
    """A row per request; `sent_s`, `latency_ms` as in Latencies: from when it was due."""
    rows = (
        (run.name, f"{due_s:.6f}", f"{sent_s:.6f}", f"{latency_s * 1e3:.3f}")
        for run in runs
        for due_s, sent_s, latency_s in zip(
            run.latencies.due_s, run.latencies.sent_s, run.latencies.latency_s, strict=True
        )
    )
    _write(path, ("phase", "due_s", "sent_s", "latency_ms"), rows)


def write_actions(path: Path, runs: Sequence[Run]) -> None:
    """A row per decision of the agent that changed something."""
    rows = ((run.name, f"{action.at_s:.3f}", action.text, action.reason) for run in runs for action in run.actions)
    _write(path, ("phase", "at_s", "action", "reason"), rows)


def _series(run: Run) -> Iterable[tuple[object, ...]]:
    for (begin_s, end_s), step in zip(run.intervals_s, run.steps, strict=True):
        look = step.last
        yield (
            *(run.name, begin_s, end_s, run.requests(begin_s, end_s)),
            *(run.latency_ms(percentile, begin_s, end_s) for percentile in PERCENTILES),
            *(step.cores(program) for program in ("service", "batch", "agent", "load")),
            *(step.per_s(lambda look: look.batch_units), look.batch_limit_cores, int(look.batch_is_idle)),
            *(look.quota_cores, look.nr_throttled - step.first.nr_throttled),
        )


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([f"{value:.4g}" if isinstance(value, float) else value for value in row] for row in rows)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
