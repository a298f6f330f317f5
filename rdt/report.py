"""What `python -m rdt` prints: tables for a person, documents for a program. Pure, but for reading groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rdt import bitmask, monitor, schemata
from rdt.group import Group
from rdt.info import MBPS_MAX, Info
from rdt.monitor import Absent, Counters, Value

MIB = 1 << 20


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as what is in them, the first row above."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def info_table(info: Info) -> str:
    """One line per fact."""
    rows = [["resource", "what", "value"]]
    for name, cache in info.caches.items():
        sparse = {None: "not known", True: "yes", False: "no"}[cache.sparse_masks]
        rows += [
            [name, "ways", f"{cache.ways} (mask {cache.cbm_mask:x}, at least {cache.min_cbm_bits})"],
            [name, "masks with gaps", sparse],
            [name, "ways that devices use too", bitmask.text(cache.shareable_bits)],
            [name, "CLOSIDs", str(cache.num_closids)],
        ]
    for name, bandwidth in info.bandwidths.items():
        most = "no maximum" if bandwidth.maximum is None else str(bandwidth.maximum)
        steps = f"{bandwidth.min_bandwidth} to {most} in steps of {bandwidth.bandwidth_gran}"
        rows += [[name, bandwidth.unit, steps], [name, "CLOSIDs", str(bandwidth.num_closids)]]
    if info.monitoring is not None:
        rows.append(["monitoring", "events", " ".join(info.monitoring.events)])
        rows.append(["monitoring", "RMIDs", str(info.monitoring.num_rmids)])
    closids = "none" if info.closids is None else str(info.closids)
    rows.append(["groups", "at most, with the default one", closids])
    rows.append(["mount", "options", " ".join(sorted(info.mount_options)) or "none"])
    return table(rows)


def info_document(info: Info) -> dict[str, Any]:
    return dataclasses.asdict(info) | {"mount_options": sorted(info.mount_options), "closids": info.closids}


def group_document(group: Group) -> dict[str, Any]:
    """What a group is now. A part that this machine's groups do not have is None."""
    lines = _if_there(group, "schemata")
    mode = _if_there(group, "mode")
    return {
        "group": group.name or "/",
        "mode": mode and mode.strip(),
        "tasks": len(group.tasks()),
        "cpus": group.read("cpus_list").strip(),
        "schemata": None if lines is None else schemata.values(schemata.parse(lines)),
    }


def groups_table(documents: Iterable[Mapping[str, Any]]) -> str:
    rows = [["group", "mode", "tasks", "cpus", "schemata"]]
    for one in documents:
        lines = [_settings(name, values) for name, values in (one["schemata"] or {}).items()]
        rows.append([one["group"], one["mode"] or "-", str(one["tasks"]), one["cpus"] or "-", "  ".join(lines) or "-"])
    return table(rows)


def group_table(document: Mapping[str, Any], info: Info) -> str:
    """One line per cache, with its share of the whole."""
    rows = [["resource", "cache", "value", "share"]]
    for name, values in (document["schemata"] or {}).items():
        for domain, value in values.items():
            rows.append([name, str(domain), _value(name, value), _share(name, value, info)])
    head = f"{document['group']}: {document['mode'] or 'monitoring only'}, {document['tasks']} tasks\n"
    return head + (table(rows) if len(rows) > 1 else "")


def counters_document(name: str, found: Mapping[int, Counters], rates: Mapping[int, Counters]) -> dict[str, Any]:
    """Bytes, and bytes per second where there are two readings; null with the kernel's word where there is none."""
    return {
        "group": name or "/",
        "caches": {
            domain: {event: _or_word(value) for event, value in events.items()}
            | {f"{event}_per_s": _or_word(value) for event, value in rates.get(domain, {}).items()}
            for domain, events in found.items()
        },
    }


def counters_table(documents: Iterable[Mapping[str, Any]]) -> str:
    rows = [["group", "cache", "occupancy", "total/s", "local/s"]]
    for one in documents:
        for domain, events in one["caches"].items():
            shown = ("llc_occupancy", "mbm_total_bytes_per_s", "mbm_local_bytes_per_s")
            rows.append([one["group"], str(domain), *(_mib(events.get(event)) for event in shown)])
    return table(rows)


def rates(before: Mapping[int, Counters], now: Mapping[int, Counters], seconds: float) -> dict[int, dict[str, Value]]:
    """Bytes per second of the bandwidth counters that have grown by a known amount."""
    found: dict[int, dict[str, Value]] = {}
    for domain, events in now.items():
        for event, value in events.items():
            grown = monitor.growth(before.get(domain, {}).get(event), value)
            if event.startswith("mbm_") and grown is not None:
                found.setdefault(domain, {})[event] = round(grown / seconds)
    return found


def _if_there(group: Group, file: str) -> str | None:
    return group.read(file) if (group.path / file).exists() else None


def _settings(name: str, values: Mapping[int, int]) -> str:
    return f"{name}:" + ";".join(f"{domain}={_value(name, value)}" for domain, value in values.items())


def _value(name: str, value: int) -> str:
    return bitmask.text(value) if schemata.is_cache(name) else str(value)


def _share(name: str, value: int, info: Info) -> str:
    if name in info.caches:
        return f"{value.bit_count()} of {info.caches[name].ways} ways"
    bandwidth = info.bandwidths[name]
    if bandwidth.maximum is None:
        return "no limit" if value == MBPS_MAX else bandwidth.unit
    return f"{100 * value / bandwidth.maximum:.0f} %"


def _or_word(value: Value) -> int | str:
    return value.value if isinstance(value, Absent) else value


def _mib(value: int | str | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value / MIB:.1f}MiB"
