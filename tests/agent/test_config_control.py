"""Configuration of rules and of what they may do: what is refused at load, with which line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config import Config, parse_config
from agent.config_check import check_controllers
from agent.control import Enforce
from agent.decisions.signals import SIGNALS
from agent.errors import ConfigError
from agent.quantity import CORES, PER_CENT, PER_SECOND, TIME, Dimension, format_quantity, parse_quantity

RULE = '[[rule]]\nname = "slow"\n'
SLI = '[[sli]]\nname = "web"\nurl = "http://h:1/m"\nmetric = "m"\ntarget = "250ms"\ngroup = "/web"\n'


def rule(**keys: str) -> str:
    """A rule as TOML, by default a good one."""
    given = {"class": '"LS"', "signal": '"wait_p99"', "threshold": '"2ms"'} | keys
    return RULE + "".join(f"{key} = {value}\n" for key, value in given.items() if value)


def refusal(text: str, own_cgroup: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "f", own_cgroup=own_cgroup)
    return str(caught.value).removeprefix("f: ")


def test_the_signal_of_hardware_counters_needs_them() -> None:
    of_cpi = rule(signal='"cpi_pct"', threshold='"130%"')
    assert refusal(of_cpi) == 'rule[0].signal = "cpi_pct": needs cpi.enabled = true'
    assert parse_config(f"[cpi]\nenabled = true\n{of_cpi}", "f").rules[0].signal == "cpi_pct"


def test_by_default_nothing_is_done() -> None:
    config = Config()
    assert config.enforce.mode is Enforce.OFF
    assert (config.rules, config.slis, config.suppress.always) == ((), (), False)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"signal": '"wait_p98"'}, 'rule[0].signal = "wait_p98": unknown signal, did you mean wait_p99?'),
        ({"signal": '"sli:web"'}, 'rule[0].signal = "sli:web": unknown signal, known are ' + ", ".join(SIGNALS)),
        ({"threshold": ""}, "rule[0]: lacks the key threshold"),
        (
            {"threshold": '"2"'},
            'rule[0].threshold = "2" of wait_p99: has no unit, allowed is "1us" to "60s", in us, ms or s',
        ),
        (
            {"threshold": '"2%"'},
            'rule[0].threshold = "2%" of wait_p99: is not in its unit, allowed is "1us" to "60s", in us, ms or s',
        ),
        ({"threshold": '"61s"'}, 'rule[0].threshold = "61s" of wait_p99: allowed is "1us" to "60s", in us, ms or s'),
        ({"threshold": "2"}, 'rule[0].threshold = 2: allowed is a number with its unit, as "2ms", "5%", "10/s"'),
        (
            {"signal": '"contention_pct"'},
            'rule[0].threshold = "2ms" of contention_pct: is not in its unit, allowed is "0.1%" to "10000%"',
        ),
        ({"percentile": "50"}, "rule[0].percentile = 50: allowed is 1 to 49"),
        ({"percentile": "nan"}, "rule[0].percentile = NaN: allowed is 1 to 49"),
        ({"window_s": "0"}, "rule[0].window_s = 0: allowed is 1 to 600 s"),
        ({"window_s": "1.5"}, "rule[0].window_s = 1.5: with agent.tick_s = 1 allowed is 2 to 600 s"),
        ({"class": '"BE"'}, 'rule[0].class = "BE": allowed is LSE, LSR, LS, or a list of LSE, LSR, LS'),
        ({"class": ""}, "rule[0]: lacks the key class, or match"),
        ({"match": '"/**"'}, 'rule[0].match = "/**": matches /, the root group; allowed are globs of other groups'),
        ({"match": '"web"'}, 'rule[0].match = "web": allowed is a glob that begins with "/", or a list of such globs'),
        ({"name": '"a b"'}, None),
        ({"thresold": '"2ms"'}, "rule[0].thresold: unknown key, did you mean threshold?"),
    ],
)
def test_a_bad_rule_is_refused_with_its_key_value_and_what_is_allowed(keys: dict[str, str], line: str | None) -> None:
    if keys.get("name"):
        assert refusal(rule().replace('"slow"', keys["name"])).startswith('rule[0].name = "a b": allowed is a letter')
    else:
        assert refusal(rule(**keys)) == line


@pytest.mark.parametrize(
    ("one", "other", "fight"),
    [
        ({}, {}, True),
        ({}, {"threshold": '"9ms"'}, True),
        ({}, {"class": '["LS", "LSR"]'}, True),
        ({}, {"class": '"LSR"'}, False),
        ({}, {"signal": '"wait_p95"'}, False),
        ({}, {"class": "", "match": '"/web"'}, True),
        ({"class": "", "match": '"/shop/*"'}, {"class": "", "match": '["/x", "/web"]'}, False),
        ({"controllers": '["burst"]'}, {"controllers": '["suppress"]'}, False),
        ({"controllers": '["burst"]'}, {}, True),
    ],
)
def test_two_rules_that_fight_over_one_knob_are_refused(
    one: dict[str, str], other: dict[str, str], *, fight: bool
) -> None:
    """The same signal of groups that may be the same, for controllers that may be the same: one could say more while
    the other says less.
    """
    text = rule(**one) + rule(**other).replace('"slow"', '"slower"')
    if fight:
        line = 'rule[1] = "slower": fights with rule[0] = "slow": the same groups, wait_p99 and controllers; '
        assert refusal(text) == line + "allowed is one of the two"
    else:
        assert len(parse_config(text, "f").rules) == 2


@pytest.mark.parametrize(
    ("match", "own", "what"),
    [
        ("/", None, "the root group"),
        ("/**", None, "the root group"),
        ("/system.slice/**", "/system.slice/slackwater.service", "the agent's own group"),
        ("/system.slice", "/system.slice/slackwater.service", "one above it"),
    ],
)
def test_a_class_that_would_make_the_root_or_the_agent_itself_batch_work_is_refused(
    match: str, own: str | None, what: str
) -> None:
    line = refusal(f'[[class]]\nmatch = "{match}"\nclass = "BE"', own)
    assert line.startswith(f'class[0].match = "{match}": matches /')
    assert line.endswith(f"{what}; allowed for BE are other groups")


def test_the_first_rule_that_matches_counts_for_the_root_and_the_agent_too() -> None:
    classes = (("/", "SYSTEM"), ("/a", "LS"), ("/**", "BE"))
    text = "".join(f'[[class]]\nmatch = "{glob}"\nclass = "{qos}"\n' for glob, qos in classes)
    parse_config(text, "f", own_cgroup="/a")
    assert "class[2]" in refusal(text, "/b")
    parse_config('[[class]]\nmatch = "/**"\nclass = "LS"', "f", own_cgroup="/b")


def test_a_rule_that_names_an_unknown_controller_is_refused() -> None:
    config = parse_config(rule(controllers='["supress"]'), "f")
    with pytest.raises(ConfigError) as caught:
        check_controllers(config, ["burst", "suppress"])
    assert str(caught.value) == 'rule[0].controllers = "supress": unknown controller, did you mean suppress?'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (rule() + rule(signal='"wait_p95"'), 'rule[1].name = "slow": rule[0] has this name already'),
        (SLI + SLI, 'sli[1].name = "web": sli[0] has this name already'),
        (
            SLI.replace("250ms", "0.25"),
            'sli[0].target = "0.25": has no unit, allowed is "1us" to "60s", in us, ms or s',
        ),
        (SLI.replace("http://h:1/m", "h:1"), 'sli[0].url = "h:1": allowed is "http://HOST:PORT/PATH" or "https://..."'),
        (SLI + "quantile = 95", "sli[0].quantile = 95: allowed is 0.01 to 0.9999"),
        ('enforce.mode = "yes"', 'enforce.mode = "yes": allowed is "off", "dry-run", "on"'),
        ("burst.burst_pct = 1000", "burst.burst_pct = 1000: allowed is 0 to 100 %"),
        (
            'suppress.rungs = ["quota", "idle"]',
            'suppress.rungs = ["quota", "idle"]: allowed is a list of some of idle, cpuset, quota, freeze, in this '
            "order",
        ),
        ('suppress.rungs = ["idle", "idle"]', None),
        (
            "suppress.freeze_s = 60",
            "suppress.freeze_max_s = 30: with suppress.freeze_s = 60 allowed is 60 to 120 s",
        ),
        ("rule = 3", "rule = 3: allowed is a list of tables, written as [[rule]]"),
    ],
)
def test_other_bad_values_are_refused_with_one_line(text: str, line: str | None) -> None:
    assert refusal(text) == line if line else refusal(text)


def test_the_target_of_an_sli_is_the_threshold_of_its_rule() -> None:
    config = parse_config(SLI + RULE + 'signal = "sli:web"\n', "f")
    assert config.slis[0].target_ns == 250e6
    assert config.rules[0].threshold == ""


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [("2ms", TIME, 2e6), ("1.5 s", TIME, 1.5e9), ("5%", PER_CENT, 5), ("10/s", PER_SECOND, 10), ("2cores", CORES, 2)],
)
def test_quantities_are_read_in_their_unit(text: str, dimension: Dimension, value: float) -> None:
    assert parse_quantity(text, dimension) == value


@pytest.mark.parametrize("text", ["", "ms", "-1ms", "1e3ms", "2 ms ", "2ms\n", "nan", "inf", "²ms", "1" * 400 + "s"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed is"):
        parse_quantity(text, TIME)


def test_quantities_are_told_in_the_largest_unit_that_fits() -> None:
    assert [format_quantity(value, TIME) for value in (5, 2.5e3, 9e6, 1.25e9)] == ["5 ns", "2.5 us", "9 ms", "1.25 s"]
    assert format_quantity(0.3, PER_CENT) == "0.3 %"


def test_every_signal_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/control.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    units = {name: row for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(SIGNALS) <= set(units)
    assert all(signal.dimension.unit.replace("ns", "ms") in units[name] for name, signal in SIGNALS.items())
