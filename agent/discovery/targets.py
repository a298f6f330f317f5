"""Which groups a rule is about, and of which groups hardware counters are read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.discovery.rules import glob_regex
from agent.records import Group, Qos

if TYPE_CHECKING:
    from agent.config import Config
    from agent.config_control import RuleConfig, SliConfig

COUNTED = (Qos.LSE, Qos.LSR, Qos.LS)
"""Classes whose counters may be read, the most important first."""


class Targets:
    """The groups that one [[rule]] is about. `sli`: the application's figure that is its signal."""

    def __init__(self, rule: RuleConfig, sli: SliConfig | None = None) -> None:
        self.has_sli = sli is not None
        self._classes = frozenset(rule.classes) or frozenset(Qos) - {Qos.BE}
        self._globs = [glob_regex(glob).fullmatch for glob in rule.globs or ("/**",)]
        self._sli_glob = glob_regex(sli.group).fullmatch if sli else None

    def __contains__(self, group: Group) -> bool:
        if group.qos not in self._classes or group.path == "/":
            return False
        if self._sli_glob and not self._sli_glob(group.path):
            return False
        return any(matches(group.path) for matches in self._globs)


class Counted:
    """Of which groups hardware counters are read: those that a rule is about, or without rules all. What lies in one of
    them is counted with it.
    """

    def __init__(self, config: Config) -> None:
        slis = {sli.signal: sli for sli in config.slis}
        self._rules = [Targets(rule, slis.get(rule.signal)) for rule in config.rules]

    def of(self, groups: Sequence[Group]) -> list[Group]:
        """The most important first: those whose own figure a rule watches, since only for them a cache is suspected;
        then by class and name."""
        ranks = {group.path: rank for group in groups if (rank := self._rank(group)) is not None}
        tops = [group for group in groups if group.path in ranks and not any(path in ranks for path in _above(group))]
        return sorted(tops, key=lambda group: (ranks[group.path], group.path))

    def _rank(self, group: Group) -> tuple[bool, int] | None:
        """The lower, the more important; None: it is not counted."""
        about = [rule for rule in self._rules if group in rule]
        if group.qos not in COUNTED or group.path == "/" or (self._rules and not about):
            return None
        return not any(rule.has_sli for rule in about), COUNTED.index(group.qos)


def _above(group: Group) -> list[str]:
    names = group.path.split("/")
    return ["/".join(names[:depth]) for depth in range(2, len(names))]
