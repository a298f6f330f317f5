"""What a person writes to say what a group is to have: the kernel's own lines, or percentages. Pure.

L3:0=3f;1=3f       a line of schemata, as the kernel prints it
L3=0-50%           ways of every cache; with CDP of code and data, or L3CODE=... alone
MB=40%             of the most that the machine offers
MB=2000MiB/s       where resctrl is mounted with mba_MBps
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rdt import layout, schemata
from rdt.errors import Invalid, Unreadable
from rdt.info import Info
from rdt.layout import Class, Range
from rdt.schemata import Values

FORMS = "L3:0=3f;1=3f, L3=0-50%, MB=40% or MB=2000MiB/s"
_NUMBER = r"(\d+(?:\.\d+)?)"
_RANGE = re.compile(rf"(\w+)={_NUMBER}-{_NUMBER}%")
_SHARE = re.compile(rf"(\w+)={_NUMBER}%")
_RATE = re.compile(r"(\w+)=(\d+)MiB/s")


def parse(settings: Iterable[str], info: Info, domains: Values) -> dict[str, dict[int, int]]:
    """Resource -> cache id -> value, of what the settings name. Raises Invalid, NoLayout."""
    wanted: dict[str, dict[int, int]] = {}
    for setting in settings:
        found = _line(setting) if ":" in setting else _solved(setting, info, domains)
        for resource, values in found.items():
            wanted.setdefault(resource, {}).update(values)
    return wanted


def _line(setting: str) -> dict[str, dict[int, int]]:
    try:
        line = schemata.parse_line(setting)
    except Unreadable as error:
        raise Invalid(error.what, value=setting, allowed=FORMS) from error
    if line.verbatim is not None:
        raise Invalid("not a setting", value=setting, allowed=FORMS)
    return {line.resource: line.values}


def _solved(setting: str, info: Info, domains: Values) -> dict[str, dict[int, int]]:
    name, wish = _wish(setting)
    solved = layout.solve(info, domains, [wish])[wish.name]
    return {resource: values for resource, values in solved.items() if name in {resource, schemata.level(resource)}}


def _wish(setting: str) -> tuple[str, Class]:
    """The resource that is named, and a class with that wish alone."""
    if found := _RANGE.fullmatch(setting):
        return found[1], Class(setting, caches={found[1]: Range(float(found[2]), float(found[3]))})
    if found := _SHARE.fullmatch(setting):
        if schemata.is_cache(found[1]):
            return found[1], Class(setting, caches={found[1]: Range(0, float(found[2]))})
        return found[1], Class(setting, bandwidths_pct={found[1]: float(found[2])})
    if found := _RATE.fullmatch(setting):
        return found[1], Class(setting, bandwidths_mib_per_s={found[1]: int(found[2])})
    raise Invalid("not a setting", value=setting, allowed=FORMS)
