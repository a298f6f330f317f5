"""Which class a group is in: the configuration's rules first, then what the host's tree says."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from agent.discovery.rules import Rule, first_match
from agent.discovery.systemd import default_class
from agent.records import Qos

if TYPE_CHECKING:
    from agent.config import Config  # which checks its globs with the modules beside this one

_CACHED_PATHS = 4096
"""Bounded, because groups that come and go may have new paths for ever. About 1 MiB when full."""


class Classifier:
    """`classifier(path)` is the class of the group at `path` (as Group.path). The rules are compiled once."""

    def __init__(self, config: Config) -> None:
        self._rules = tuple(Rule(glob, rule.qos) for rule in config.class_rules for glob in rule.globs)
        self._systemd = config.discovery.systemd
        self._cached = lru_cache(_CACHED_PATHS)(self._classify)

    def __call__(self, path: str) -> Qos:
        return self._cached(path)

    def _classify(self, path: str) -> Qos:
        qos = first_match(self._rules, path)
        if qos is None:
            qos = default_class(path) if self._systemd else Qos.SYSTEM
        return qos
