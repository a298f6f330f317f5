"""The lines of `schemata`: parsed into numbers and formatted exactly as the kernel prints them. Pure.

    L3:0=fffff;1=fffff            masks, of caches L3, L2, and with CDP L3CODE, L3DATA, L2CODE, L2DATA
        MB:0=100;1= 50            bandwidth in percent, in MiB/s (mount option mba_MBps), in eighths of GB/s (AMD)
      SMBA:0=2048;4=2048          bandwidth of slow memory
        L2:uninitialized          in a group that is being pseudo-locked

Kernels up to 6.12 or so pad values ("03f", " 50"), all pad names to the longest. What is not of the form id=value,
or of a resource that is not known here, is kept word for word. Source: show_doms() in fs/resctrl/ctrlmondata.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

from rdt import bitmask
from rdt.errors import Unreadable

Values = Mapping[str, Mapping[int, int]]
"""Resource -> cache id -> mask or bandwidth."""

CACHE = re.compile(r"L[23](CODE|DATA)?")
BANDWIDTH = frozenset({"MB", "SMBA"})
WRITE_BYTES = 4096
"""The kernel takes a page in one write (kernfs_fop_write_iter() in fs/kernfs/file.c)."""

_DOMAINS = re.compile(r"(?:\d+=[^=;]+)(?:;\d+=[^=;]+)*|")


def is_cache(resource: str) -> bool:
    """Values are masks."""
    return CACHE.fullmatch(resource) is not None


def level(resource: str) -> str:
    """L3CODE, L3DATA -> L3; others are their own."""
    return resource[:2] if is_cache(resource) else resource


def is_bandwidth(resource: str) -> bool:
    """Values are decimal numbers."""
    return resource in BANDWIDTH


@dataclass(frozen=True)
class Line:
    """One resource. `verbatim`: what stands after the colon where it is not a list of values known here."""

    resource: str
    values: dict[int, int] = field(default_factory=dict)
    verbatim: str | None = None
    name_width: int = 0
    value_width: int = 0

    def __str__(self) -> str:
        rest = self.verbatim
        if rest is None:
            rest = ";".join(f"{domain}={self._value(value)}" for domain, value in self.values.items())
        return f"{self.resource:>{self.name_width}}:{rest}"

    def _value(self, value: int) -> str:
        if is_cache(self.resource):
            return bitmask.text(value, self.value_width)
        return f"{value:{self.value_width}}"


def parse(content: str) -> list[Line]:
    """All lines of a file. Raises Unreadable, with the line."""
    return [parse_line(line) for line in content.splitlines()]


def text(lines: Iterable[Line]) -> str:
    """The file again, byte by byte."""
    return "".join(f"{line}\n" for line in lines)


def parse_line(text: str) -> Line:
    """One line, without its end. Raises Unreadable."""
    name, colon, rest = text.partition(":")
    resource = name.strip()
    if not colon or not resource:
        raise Unreadable("a line of schemata has RESOURCE:ID=VALUE;...", value=text)
    if not (is_cache(resource) or is_bandwidth(resource)) or not _DOMAINS.fullmatch(rest):
        return Line(resource, verbatim=rest, name_width=len(name))
    pairs = [part.split("=") for part in rest.split(";")] if rest else []
    values = {int(domain): _number(resource, value, text) for domain, value in pairs}
    if len(values) != len(pairs):
        raise Unreadable("a cache id stands twice in a line of schemata", value=text)
    return Line(resource, values, name_width=len(name), value_width=_width(value for _, value in pairs))


def values(lines: list[Line]) -> dict[str, dict[int, int]]:
    """The numbers alone; lines that are kept verbatim have none."""
    return {line.resource: dict(line.values) for line in lines if line.verbatim is None}


def to_write(wanted: Values, limit_bytes: int = WRITE_BYTES) -> list[str]:
    """What is written to the file to set these, and only these: one text, or more where one would be too long."""
    whole = [Line(resource, dict(domains)) for resource, domains in wanted.items() if domains]
    parts, part = [], ""
    for line in chain.from_iterable(_short_enough(line, limit_bytes) for line in whole):
        if part and len(part) + len(str(line)) + 1 > limit_bytes:
            parts.append(part)
            part = ""
        part += f"{line}\n"
    return [*parts, part] if part else parts


def difference(wanted: Values, found: Values) -> dict[str, dict[int, int]]:
    """Those of `wanted` that `found` has otherwise or not at all."""
    differs = {
        resource: {domain: value for domain, value in domains.items() if found.get(resource, {}).get(domain) != value}
        for resource, domains in wanted.items()
    }
    return {resource: domains for resource, domains in differs.items() if domains}


def _short_enough(line: Line, limit_bytes: int) -> list[Line]:
    """A line, in halves as often as it takes."""
    if len(str(line)) < limit_bytes or len(line.values) < 2:
        return [line]
    pairs = list(line.values.items())
    halves = (pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :])
    return [short for half in halves for short in _short_enough(Line(line.resource, dict(half)), limit_bytes)]


def _number(resource: str, text: str, line: str) -> int:
    try:
        return bitmask.parse(text) if is_cache(resource) else int(text)
    except (Unreadable, ValueError) as error:
        raise Unreadable("not a number in a line of schemata", value=line) from error


def _width(texts: Iterable[str]) -> int:
    """Padded values are all as wide as the padding makes them; 0: none is padded."""
    return max((len(text) for text in texts if text[0] in " 0" and len(text) > 1), default=0)
