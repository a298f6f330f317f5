"""Which groups a rule is about, and of which hardware counters are read."""

from __future__ import annotations

import pytest

from agent.config import parse_config
from agent.discovery.targets import Counted
from agent.records import Group, Qos

SLI = '[[sli]]\nname = "web"\nurl = "http://h:1/m"\nmetric = "m"\ntarget = "250ms"\ngroup = "/system.slice/web*"\n'
SLI_RULE = f'[[rule]]\nname = "own"\nsignal = "sli:web"\n{SLI}'

PATHS = {
    "/": Qos.SYSTEM,
    "/batch": Qos.BE,
    "/batch/api": Qos.LS,
    "/batch/api/worker": Qos.LS,
    "/exclusive": Qos.LSE,
    "/system.slice": Qos.SYSTEM,
    "/system.slice/api": Qos.LS,
    "/system.slice/reserved": Qos.LSR,
    "/system.slice/web": Qos.LS,
    "/system.slice/web/worker": Qos.LS,
    "/system.slice/web-2": Qos.LS,
}


def counted(config: str) -> list[str]:
    groups = [Group(id, path, qos) for id, (path, qos) in enumerate(PATHS.items())]
    return [group.path for group in Counted(parse_config(config, "f")).of(groups)]


def rule(words: str, name: str = "r") -> str:
    return f'[[rule]]\nname = "{name}"\nsignal = "wait_p99"\nthreshold = "2ms"\n{words}\n'


def test_without_rules_all_services_are_counted_by_class_each_with_all_that_is_below_it() -> None:
    """Neither batch work nor the system is."""
    of_services = ["/batch/api", "/system.slice/api", "/system.slice/web", "/system.slice/web-2"]
    assert counted("") == ["/exclusive", "/system.slice/reserved", *of_services]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ('class = "LSR"', ["/system.slice/reserved"]),
        ('class = ["LS", "LSE"]\nmatch = "/**/web"', ["/system.slice/web"]),
        ('match = "/system.slice/web/*"', ["/system.slice/web/worker"]),
        ('match = ["/batch", "/system.slice"]', []),
        ('match = "/system.slice/**"', [f"/system.slice/{name}" for name in ("reserved", "api", "web", "web-2")]),
    ],
)
def test_with_rules_only_groups_that_one_is_about_are_counted(words: str, expected: list[str]) -> None:
    """And of these only services, whatever else the rule matches."""
    assert counted(rule(words)) == expected


def test_whose_own_figure_is_watched_comes_first() -> None:
    found = counted(rule('class = ["LSE", "LS"]') + SLI_RULE)
    assert found == ["/system.slice/web", "/system.slice/web-2", "/exclusive", "/batch/api", "/system.slice/api"]
