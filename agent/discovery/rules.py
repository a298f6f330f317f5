"""Globs on group paths. Pure.

`*` is any part of one component, `**` any number of components. `/a/**` is /a and all below it, `/**/x` is x at
any depth. Everything else is literal: systemd's names hold `\\x2d`, `@` and `[` as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from agent.records import Qos

WILD = re.compile(r"(/(?:\*\*/)+|/(?:\*\*/)*\*\*$|\*\*+|\*)")


def glob_regex(glob: str) -> re.Pattern[str]:
    """The glob as a regular expression for `fullmatch`."""

    def translate(part: str) -> str:
        if part.startswith("/**"):
            return "/(?:.*/)?" if part.endswith("/") else "(?:/.*)?"
        if part.startswith("*"):
            return "[^/]*" if part == "*" else ".*"
        return re.escape(part)

    return re.compile("".join(translate(part) for part in WILD.split(glob)), re.DOTALL)


class Rule:
    """One glob and the class of the groups that it matches."""

    __slots__ = ("matches", "qos")

    def __init__(self, glob: str, qos: Qos) -> None:
        self.matches = glob_regex(glob).fullmatch
        self.qos = qos


def first_match(rules: Iterable[Rule], path: str) -> Qos | None:
    """The class by the first rule that matches, None if none does."""
    return next((rule.qos for rule in rules if rule.matches(path)), None)
