"""What no single key says: whether keys agree with one another and with this host. Pure.

Each check raises ConfigError with one line: key, value, what is allowed.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, get_args

from agent.config_check_cache import check_cache
from agent.config_control import RuleConfig, SliConfig
from agent.config_explain import shown
from agent.config_laws import Rung
from agent.decisions.signals import CPI_SIGNAL, SIGNALS
from agent.discovery.overlap import globs_overlap
from agent.discovery.rules import glob_regex
from agent.errors import ConfigError
from agent.quantity import RATE, TIME, Dimension, format_quantity, parse_quantity
from agent.records import Qos

if TYPE_CHECKING:
    from agent.config import Config

RULE_TICKS_MAX = 1000
"""A rule's window costs 5 bytes per group and tick."""


def check(config: Config) -> None:
    """All checks that need no host."""
    _check_ladder(config)
    _check_network(config)
    check_cache(config)
    _check_names("sli", [sli.name for sli in config.slis])
    _check_names("rule", [rule.name for rule in config.rules])
    for index, sli in enumerate(config.slis):
        _check_quantity(f"sli[{index}].target", sli.target)
    for index, rule in enumerate(config.rules):
        _check_rule(f"rule[{index}]", rule, config.slis)
        _check_window(f"rule[{index}].window_s", rule.window_s, config.agent.tick_s)
        if rule.signal == CPI_SIGNAL and not config.cpi.enabled:
            raise ConfigError(f"rule[{index}].signal = {shown(rule.signal)}: needs cpi.enabled = true")
    for (i, one), (j, other) in itertools.combinations(enumerate(config.rules), 2):
        if one.signal == other.signal and _same_knobs(one, other) and _overlap(one, other):
            raise ConfigError(
                f'rule[{j}] = "{other.name}": fights with rule[{i}] = "{one.name}": the same groups, {one.signal} and '
                "controllers; allowed is one of the two"
            )
    check_own_group(config, "/")


def check_own_group(config: Config, own_cgroup: str) -> None:
    """Neither the group that the agent is in nor one above it is BE: it would suppress itself."""
    above = [own_cgroup, *map(str, PurePosixPath(own_cgroup).parents)]
    rules = [
        (f"class[{index}].match", glob, rule.qos)
        for index, rule in enumerate(config.class_rules)
        for glob in rule.globs
    ]
    for path in above:
        key, glob, qos = next((rule for rule in rules if glob_regex(rule[1]).fullmatch(path)), ("", "", Qos.SYSTEM))
        if qos is Qos.BE:
            what = (
                "the root group" if path == "/" else "the agent's own group" if path == own_cgroup else "one above it"
            )
            raise ConfigError(f"{key} = {shown(glob)}: matches {path}, {what}; allowed for BE are other groups")


def check_controllers(config: Config, names: Iterable[str]) -> None:
    """Every controller that a rule names is one of `names`, those that there are."""
    known = sorted(names)
    for index, rule in enumerate(config.rules):
        for name in rule.controllers:
            if name not in known:
                raise ConfigError(
                    f"rule[{index}].controllers = {shown(name)}: unknown controller, {_hint(name, known)}"
                )


def _check_ladder(config: Config) -> None:
    order = list(get_args(Rung))
    rungs = list(config.suppress.rungs)
    if rungs != [rung for rung in order if rung in rungs]:
        raise ConfigError(
            f"suppress.rungs = {shown(rungs)}: allowed is a list of some of {', '.join(order)}, in this order"
        )
    if config.suppress.freeze_max_s < config.suppress.freeze_s:
        raise ConfigError(
            f"suppress.freeze_max_s = {config.suppress.freeze_max_s:g}: with suppress.freeze_s = "
            f"{config.suppress.freeze_s:g} allowed is {config.suppress.freeze_s:g} to 120 s"
        )


def _check_network(config: Config) -> None:
    network = config.network
    if network.link_rate:
        _check_dimension("network.link_rate", network.link_rate, RATE)
    if network.be_high_pct < network.be_low_pct:
        raise ConfigError(
            f"network.be_high_pct = {network.be_high_pct:g}: with network.be_low_pct = {network.be_low_pct:g} "
            f"allowed is {network.be_low_pct:g} to 100 %"
        )
    sure_pct = network.system_pct + network.ls_pct + network.be_low_pct
    if sure_pct > 100:
        rest_pct = 100 - network.system_pct - network.be_low_pct
        raise ConfigError(
            f"network.ls_pct = {network.ls_pct:g}: with network.system_pct = {network.system_pct:g} and "
            f"network.be_low_pct = {network.be_low_pct:g} allowed is 1 to {rest_pct:g} %"
        )
    for index, limit in enumerate(config.limits):
        if not (limit.send or limit.receive):
            raise ConfigError(f"limit[{index}]: lacks the key send, or receive")
        for name, text in (("send", limit.send), ("receive", limit.receive)):
            if text:
                _check_dimension(f"limit[{index}].{name}", text, RATE)
                if network.link_bytes_per_s:
                    check_limit(config, index, name, network.link_bytes_per_s, "network.link_rate")


def check_limit(config: Config, index: int, name: str, most_bytes_per_s: int, whose: str) -> None:
    """A limit is not above what a device can do."""
    text = getattr(config.limits[index], name)
    if text and parse_quantity(text, RATE) > most_bytes_per_s:
        most = format_quantity(most_bytes_per_s, RATE)
        raise ConfigError(f'limit[{index}].{name} = {shown(text)}: with {whose} allowed is "8 kbit/s" to "{most}"')


def check_devices(config: Config, speeds: Mapping[str, int | None], of_routes: frozenset[str]) -> None:
    """Against the devices that this host has: name -> speed in bytes per s, None: not known; and those of the default
    routes.
    """
    for index, name in enumerate(config.network.devices):
        if name not in speeds:
            raise ConfigError(
                f"network.devices[{index}] = {shown(name)}: no such device, {_hint(name, sorted(speeds))}"
            )
    for name in config.network.devices or sorted(of_routes):
        speed = speeds.get(name)
        if speed and config.network.link_bytes_per_s and config.network.link_bytes_per_s > speed:
            most = format_quantity(speed, RATE)
            raise ConfigError(
                f"network.link_rate = {shown(config.network.link_rate)}: with the speed of {name} allowed is "
                f'"8 kbit/s" to "{most}"'
            )
        for at in range(len(config.limits)):
            for direction in ("send", "receive"):
                if speed:
                    check_limit(config, at, direction, speed, f"the speed of {name}")


def _check_names(table: str, names: list[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ConfigError(
                f"{table}[{index}].name = {shown(name)}: {table}[{names.index(name)}] has this name already"
            )


def _check_rule(key: str, rule: RuleConfig, slis: tuple[SliConfig, ...]) -> None:
    own_sli = {sli.signal: sli for sli in slis}
    if rule.signal in own_sli:
        if rule.threshold:
            _check_quantity(f"{key}.threshold", rule.threshold)
    elif rule.signal in SIGNALS:
        if not rule.threshold:
            raise ConfigError(f"{key}: lacks the key threshold")
        _check_quantity(f"{key}.threshold", rule.threshold, rule.signal)
        if not (rule.classes or rule.globs):
            raise ConfigError(f"{key}: lacks the key class, or match")
    else:
        raise ConfigError(
            f"{key}.signal = {shown(rule.signal)}: unknown signal, {_hint(rule.signal, [*SIGNALS, *own_sli])}"
        )
    for glob in rule.globs:
        if glob_regex(glob).fullmatch("/"):
            raise ConfigError(
                f"{key}.match = {shown(glob)}: matches /, the root group; allowed are globs of other groups"
            )


def _check_window(key: str, window_s: float, tick_s: float) -> None:
    low_s, high_s = max(1.0, 2 * tick_s), min(600.0, RULE_TICKS_MAX * tick_s)
    if not low_s <= window_s <= high_s:
        raise ConfigError(f"{key} = {window_s:g}: with agent.tick_s = {tick_s:g} allowed is {low_s:g} to {high_s:g} s")


def _check_quantity(key: str, text: str, signal: str | None = None) -> None:
    _check_dimension(key, text, SIGNALS[signal].dimension if signal else TIME, signal)


def _check_dimension(key: str, text: str, dimension: Dimension, signal: str | None = None) -> None:
    try:
        parse_quantity(text, dimension)
    except ValueError as error:
        of = f" of {signal}" if signal else ""
        raise ConfigError(f"{key} = {shown(text)}{of}: {error}") from error


def _same_knobs(one: RuleConfig, other: RuleConfig) -> bool:
    return not (one.controllers and other.controllers) or bool({*one.controllers} & {*other.controllers})


def _overlap(one: RuleConfig, other: RuleConfig) -> bool:
    """Some group may be a target of both."""
    if one.classes and other.classes and not {*one.classes} & {*other.classes}:
        return False
    pairs = itertools.product(one.globs or ("/**",), other.globs or ("/**",))
    return any(globs_overlap(glob, another) for glob, another in pairs)


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
