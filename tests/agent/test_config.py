import datetime
import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import DEFAULT_PATH, FILE_BYTES_MAX, Config, load_config, parse_config
from agent.config_explain import reference
from agent.errors import ConfigError
from agent.records import Qos

SECTIONS = (
    "known are agent, metrics, probe, budget, discovery, class, enforce, burst, suppress, network, limit, cache, "
    "partition, cpi, history, rule, sli"
)
ROOT = Path(__file__).parents[2]


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "f.toml")
    return str(caught.value)


def test_an_empty_file_gives_the_defaults() -> None:
    assert parse_config("", "f.toml") == Config()


def test_every_section_is_read() -> None:
    config = parse_config(
        """
        [agent]
        tick_s = 2
        [metrics]
        address = "[::1]:80"
        [probe]
        ring_kib_per_8_cpus = 256
        unthrottle = "off"
        [budget]
        cpu_pct = 1.5
        [discovery]
        systemd = false
        [[class]]
        match = "/a"
        class = "LSE"
        [[class]]
        match = ["/b", "/c/**"]
        class = "BE"
        """,
        "f.toml",
    )
    assert (config.agent.tick_s, config.agent.window_ticks) == (2.0, 30)
    assert (config.metrics.host, config.metrics.port) == ("::1", 80)
    assert (config.probe.ring_kib_per_8_cpus, config.probe.unthrottle) == (256, "off")
    assert (config.budget.cpu_pct, config.discovery.systemd) == (1.5, False)
    assert [(rule.globs, rule.qos) for rule in config.class_rules] == [
        (("/a",), Qos.LSE),
        (("/b", "/c/**"), Qos.BE),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agent.tick_s = 0", "agent.tick_s = 0: allowed is 0.1 to 60 s"),
        ("agent.tick_s = nan", "agent.tick_s = NaN: allowed is 0.1 to 60 s"),
        ('agent.tick_s = "1s"', 'agent.tick_s = "1s": give a number of seconds, 0.1 to 60'),
        ("agent.tick_s = true", "agent.tick_s = true: give a number of seconds, 0.1 to 60"),
        (
            "agent.drain_interval_ms = 7.5",
            "agent.drain_interval_ms = 7.5: give a whole number of milliseconds, 5 to 1000",
        ),
        ("agent.max_groups = 1", "agent.max_groups = 1: allowed is 16 to 65536"),
        ("agent.tick = 1", "agent.tick: unknown key, did you mean tick_s?"),
        ("[agnet]", "agnet: unknown key, did you mean agent?"),
        ("zzz = 1", f"zzz: unknown key, {SECTIONS}"),
        (
            '"q` - at `$.zzz" = 1',
            f"q` - at `$.zzz: unknown key, {SECTIONS}",
        ),
        ('"a\\nb" = 1', f"a\\nb: unknown key, {SECTIONS}"),
        ("agent = 3", "agent = 3: allowed is a table of keys"),
        ("metrics.enabled = 1", "metrics.enabled = 1: allowed is true or false"),
        (
            'metrics.address = "9753"',
            'metrics.address = "9753": allowed is "HOST:PORT" with a port from 1 to 65535, IPv6 as "[::1]:9753"',
        ),
        ("probe.unthrottle = true", 'probe.unthrottle = true: allowed is "auto", "off"'),
        (
            "probe.ring_kib_per_8_cpus = 1000",
            "probe.ring_kib_per_8_cpus = 1000: allowed is 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384 KiB",
        ),
        ('[[class]]\nclass = "LS"', "class[0]: lacks the key match"),
        (
            '[[class]]\nmatch = "/a"\nclass = "ls"',
            'class[0].class = "ls": allowed is "LSE", "LSR", "LS", "BE", "SYSTEM"',
        ),
        (
            '[[class]]\nmatch = ["/a", "b"]\nclass = "LS"',
            'class[0].match[1] = "b": allowed is a glob that begins with "/", or a list of such globs',
        ),
        ('[[class]]\nmatch = "/a"\nclas = "LS"', "class[0].clas: unknown key, did you mean class?"),
        ("[class]", "class = {}: allowed is a list of tables, written as [[class]]"),
        ("agent.window_s = 3", "agent.window_s = 3: with agent.tick_s = 2 allowed is 4 to 3600 s"),
        ("agent.tick_s = [", "not TOML: Invalid value (at end of document)"),
        (
            "[agent]\ntick_s = 1s",
            "not TOML: Expected newline or end of document after a statement (at line 2, column 11)",
        ),
    ],
)
def test_a_refusal_names_the_file_the_key_the_value_and_what_is_allowed(text: str, message: str) -> None:
    if "window_s" in text:
        text += "\nagent.tick_s = 2"
    assert refusal(text) == f"f.toml: {message}"


@pytest.mark.parametrize("port", [1, 9753, 65535])
def test_ports_up_to_65535_are_accepted(port: int) -> None:
    assert parse_config(f'metrics.address = "localhost:{port}"', "f.toml").metrics.port == port


@pytest.mark.parametrize("address", ["h:0", "h:65536", "h:99999", "h:", ":1", "h", "http://h:1", "::1:80", "h:1\\n"])
def test_other_addresses_are_refused(address: str) -> None:
    assert "HOST:PORT" in refusal(f'metrics.address = "{address}"')


def test_numbers_too_long_for_int_are_one_line() -> None:
    assert refusal("a = " + "1" * 5000).count("\n") == 0


def test_nesting_too_deep_for_the_parser_is_one_line() -> None:
    assert refusal("a = " + "[" * 5000).count("\n") == 0


KEYS = st.text(max_size=8) | st.sampled_from(
    [
        "agent",
        "metrics",
        "probe",
        "budget",
        "discovery",
        "class",
        "match",
        "tick_s",
        "window_s",
        "max_groups",
        "address",
        "enabled",
        "cpu_pct",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.datetimes()
    | st.times()
    | st.sampled_from(["LS", "auto", "/a/**", "127.0.0.1:1", datetime.date(2000, 1, 1)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def toml(value: object) -> str:
    """Any value, written as an inline TOML value."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(char):08x}" for char in value if not 0xD800 <= ord(char) < 0xE000) + '"'
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
        case datetime.date() | datetime.time():
            return value.isoformat()
        case None:
            return "none"
        case _:
            return str(value)


def config_or_one_line(text: str) -> None:
    try:
        parse_config(text, "f.toml")
    except ConfigError as err:
        line = str(err)
    else:
        return
    assert line.startswith("f.toml: ")
    assert line.isprintable()


@given(st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=3), max_size=4))
def test_any_toml_document_gives_a_config_or_one_line(document: dict[str, object]) -> None:
    config_or_one_line("\n".join(f"{toml(key)} = {toml(value)}" for key, value in document.items()))


@given(st.text())
def test_any_text_gives_a_config_or_one_line(text: str) -> None:
    config_or_one_line(text)


def test_a_missing_default_file_gives_the_defaults_and_a_missing_named_file_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    assert load_config(default_path=missing) == Config()
    with pytest.raises(ConfigError, match=r"none\.toml: no such file$"):
        load_config(missing)


def test_a_broken_default_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "slackwater.toml"
    file.write_text("x = 1")
    with pytest.raises(ConfigError, match="x: unknown key"):
        load_config(default_path=file)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        load_config(tmp_path)


def test_a_path_that_holds_a_zero_byte_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot be read"):
        load_config(Path("a\0b"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.touch(mode=0)
    with pytest.raises(ConfigError, match=r"cannot be read: Permission denied$"):
        load_config(file)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_bytes(b"a = 1 \xff")
    with pytest.raises(ConfigError, match="not a text file: byte 6 is not UTF-8"):
        load_config(file)


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"larger than {FILE_BYTES_MAX >> 20} MiB"):
        load_config(Path("/dev/zero"))


def test_the_example_sets_every_key_to_its_default() -> None:
    """deploy/slackwater.toml, with its comment signs taken away, has all keys; as it stands it changes nothing."""
    text = (ROOT / "deploy/slackwater.toml").read_text()
    assert parse_config(text, "f.toml") == Config()
    bare = "\n".join(line.removeprefix("#") for line in text.splitlines() if not line.startswith("# "))
    config = parse_config(bare, "f.toml")
    assert config == Config(
        class_rules=config.class_rules,
        rules=config.rules,
        slis=config.slis,
        limits=config.limits,
        partitions=config.partitions,
    )
    sections = [item for item in tomllib.loads(bare).items() if isinstance(item[1], dict)]
    keys = {f"`{section}.{key}`" for section, table in sections for key in table}
    assert keys == set(re.findall(r"^\| (`[^`\[]+`)", reference(Config), re.MULTILINE))
    assert str(DEFAULT_PATH) in text


def test_the_documented_table_of_keys_is_current() -> None:
    """To mend it: slackwater config reference, into docs/configuration.md."""
    assert reference(Config) in (ROOT / "docs/configuration.md").read_text()
