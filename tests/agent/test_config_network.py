"""Configuration of the network: what is refused, with which line."""

from __future__ import annotations

import pytest

from agent.config import parse_config
from agent.config_check import check_devices
from agent.errors import ConfigError
from agent.quantity import RATE, format_quantity, parse_quantity

RATES = '"8 kbit/s" to "1000 Gbit/s", in bit/s, kbit/s, Mbit/s or Gbit/s'


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "f")
    return str(caught.value).removeprefix("f: ")


def limit(send: str, more: str = "") -> str:
    return f'{more}\n[[limit]]\nmatch = "/be"\nsend = "{send}"\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (limit("0 Mbit/s"), f'limit[0].send = "0 Mbit/s": allowed is {RATES}'),
        (limit("-5 Mbit/s"), f'limit[0].send = "-5 Mbit/s": is not in its unit, allowed is {RATES}'),
        (limit("100"), f'limit[0].send = "100": has no unit, allowed is {RATES}'),
        (limit("100 MB/s"), f'limit[0].send = "100 MB/s": is not in its unit, allowed is {RATES}'),
        (
            limit("2 Gbit/s", '[network]\nlink_rate = "1 Gbit/s"'),
            'limit[0].send = "2 Gbit/s": with network.link_rate allowed is "8 kbit/s" to "1 Gbit/s"',
        ),
        ('[[limit]]\nmatch = "/be"\n', "limit[0]: lacks the key send, or receive"),
        ("[network]\nbe_low_pct = 50", "network.be_high_pct = 40: with network.be_low_pct = 50 allowed is 50 to 100 %"),
        (
            "[network]\nls_pct = 85",
            "network.ls_pct = 85: with network.system_pct = 10 and network.be_low_pct = 10 allowed is 1 to 80 %",
        ),
        ("[network]\nwatermark_pct = 0", "network.watermark_pct = 0: allowed is 1 to 100 %"),
    ],
)
def test_a_refusal_names_key_value_and_range(text: str, line: str) -> None:
    assert refusal(text) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[network]\ndevices = ['eth7']",
            'network.devices[0] = "eth7": no such device, did you mean eth0?',
        ),
        (
            "[network]\ndevices = ['eth0']\nlink_rate = '2 Gbit/s'",
            'network.link_rate = "2 Gbit/s": with the speed of eth0 allowed is "8 kbit/s" to "1 Gbit/s"',
        ),
        (
            limit("2 Gbit/s", "[network]\ndevices = ['eth0']"),
            'limit[0].send = "2 Gbit/s": with the speed of eth0 allowed is "8 kbit/s" to "1 Gbit/s"',
        ),
    ],
)
def test_what_does_not_fit_the_devices_of_this_host_is_refused(text: str, line: str) -> None:
    config = parse_config(text, "f")
    with pytest.raises(ConfigError) as caught:
        check_devices(config, {"eth0": 125_000_000, "lo": None}, frozenset())
    assert str(caught.value) == line


def test_without_names_the_devices_of_the_default_routes_are_looked_at() -> None:
    config = parse_config(limit("2 Gbit/s"), "f")
    with pytest.raises(ConfigError, match="the speed of eth0"):
        check_devices(config, {"eth0": 125_000_000, "lo": None}, frozenset({"eth0"}))
    check_devices(config, {"eth0": 125_000_000, "lo": None}, frozenset())


@pytest.mark.parametrize(
    ("text", "bytes_per_s"), [("100 Mbit/s", 12_500_000), ("8 kbit/s", 1000), ("2.5Gbit/s", 312_500_000)]
)
def test_rates_are_bytes_inside_and_bits_for_people(text: str, bytes_per_s: int) -> None:
    assert parse_quantity(text, RATE) == bytes_per_s
    assert format_quantity(bytes_per_s, RATE).replace(" ", "") == text.replace(" ", "")
