"""What came of `slackwater restore`, as text and as JSON. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

from agent.actuators.report import Fate, Report, Restored
from agent.config_explain import one_line
from agent.metrics.series import label_text


def lines(report: Report) -> Iterator[str]:
    """As text: what was done, what not, and why; at last the sum."""
    for note in report.notes:
        yield f"journal: {note}"
    for item in report.items:
        yield f"{item.fate:<9} {one_line(item.path)} {item.knob}: {_told(item)}"
    counts = Counter(item.fate for item in report.items)
    yield ", ".join(f"{counts[fate]} {fate}" for fate in Fate if counts[fate]) or "nothing to restore"


def _told(item: Restored) -> str:
    base, found = _shown(item.base), _shown(item.found)
    match item.fate:
        case Fate.RESTORED:
            return f"{found} -> {base}"
        case Fate.AS_FOUND:
            return base
        case Fate.GONE:
            return f"was {base}"
        case Fate.FOREIGN:
            return f"{found} was written by somebody else and stays; {base} was found before"
    return f"stays {found}, was {base}: {item.why}"


def _shown(text: str | None) -> str:
    return "unreadable" if text is None else text or '""'


def document(report: Report) -> dict[str, Any]:
    """For JSON."""
    items = [dataclasses.asdict(item) | {"path": label_text(item.path)} for item in report.items]
    return {"schema": 1, "complete": report.is_complete, "notes": list(report.notes), "items": items}
