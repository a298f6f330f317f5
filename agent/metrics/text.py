"""The two text formats of Prometheus, written directly. Pure.

Sources: Prometheus "Text-based format" 0.0.4 and OpenMetrics 1.0.0. They differ here in four things: how a counter and
an info metric are named in their header, the UNIT line, and the end mark. Why not prometheus-client's writer: it makes
a sample object with a dict of labels per line, and takes 9 times the CPU (benchmarks/scrape_cost.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np

from agent.metrics.families import FAMILIES
from agent.metrics.family import WAIT_HISTOGRAMS, Family, Kind, Labels, View
from agent.metrics.histograms import LE_S, Histograms, arrange, classic
from agent.metrics.series import Points, Shown, points_of, show
from agent.records import WAIT_CLASSES

CLASSIC_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_HISTOGRAMS_PER_CHUNK = 100
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render_text(view: View, *, openmetrics: bool) -> Iterator[bytes]:
    """The exposition in chunks of whole lines, about one per family."""
    shown = show(view.tick.groups)
    groups = [_labels(labels) for labels in shown.labels]
    for family in FAMILIES:
        if WAIT_HISTOGRAMS in family.columns:
            chunks = _histogram_chunks(family, view, shown, groups)
        else:
            chunks = ("".join(_lines(family.name, points, groups)) for points in points_of(family, view, shown))
        yield from (chunk.encode() for chunk in _headed(_header(family, openmetrics), chunks))
    if openmetrics:
        yield b"# EOF\n"


def _headed(header: str, chunks: Iterator[str]) -> Iterator[str]:
    """A family without any series is not mentioned."""
    for chunk in filter(None, chunks):
        yield header + chunk
        header = ""


def _header(family: Family, openmetrics: bool) -> str:
    name, kind, unit = family.name, family.kind.value, ""
    if openmetrics:
        name = name.removesuffix("_total").removesuffix("_info")
        unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    elif family.kind is Kind.INFO:
        kind = Kind.GAUGE.value
    return f"# HELP {name} {family.help}\n# TYPE {name} {kind}\n{unit}"


def _labels(labels: Labels) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels)


def _lines(name: str, points: Points, groups: list[str]) -> Iterator[str]:
    extras = [_labels(labels) for labels in points.labels]
    each_extra = extras if len(extras) == len(points.values) else repeat(extras[0])
    if points.rows is None:
        for extra, value in zip(each_extra, points.values, strict=False):
            yield f"{name}{{{extra}}} {value!r}\n" if extra else f"{name} {value!r}\n"
    else:
        for row, extra, value in zip(points.rows, each_extra, points.values, strict=False):
            yield f"{name}{{{groups[row]},{extra}}} {value!r}\n" if extra else f"{name}{{{groups[row]}}} {value!r}\n"


def _histogram_chunks(family: Family, view: View, shown: Shown, groups: list[str]) -> Iterator[str]:
    if view.tick.histograms is None:
        return
    histograms = arrange(view.tick.histograms, view.tick.wait.ids)
    lines = list(_histogram_lines(family.name, histograms, shown, groups))
    for start in range(0, len(lines), _HISTOGRAMS_PER_CHUNK):
        yield "".join(lines[start : start + _HISTOGRAMS_PER_CHUNK])


def _histogram_lines(name: str, histograms: Histograms, shown: Shown, groups: list[str]) -> Iterator[str]:
    """One text per histogram: its buckets, its count, its sum."""
    bounds = [f',le="{bound!r}"}} ' for bound in LE_S]
    waits = [_labels((("wait", wait),)) for wait in WAIT_CLASSES]
    cumulative = classic(histograms)
    for j in np.flatnonzero(shown.unique[histograms.rows]).tolist():
        labels = f"{groups[histograms.rows[j]]},{waits[histograms.class_index[j]]}"
        bucket, count = f"{name}_bucket{{{labels}", int(histograms.count[j])
        buckets = [f"{bucket}{le}{n}\n" for le, n in zip(bounds, cumulative[j].tolist(), strict=True)]
        buckets.append(f'{bucket},le="+Inf"}} {count}\n')
        buckets.append(f"{name}_count{{{labels}}} {count}\n{name}_sum{{{labels}}} {float(histograms.sum_s[j])!r}\n")
        yield "".join(buckets)
