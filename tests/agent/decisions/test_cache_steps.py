"""Steps of batch work's part of the cache: from anywhere to the floor, and back, on any machine, each of them felt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import parse_config
from agent.config_cache import CacheConfig
from agent.decisions.cache_steps import Scale, bandwidth_scale, ways_scale
from agent.records import CacheOffer

WAYS = st.integers(1, 32)
STEPS_PCT = st.sampled_from([1.0, 5.0, 10.0, 20.0, 100 / 2048])


@st.composite
def scales(draw: st.DrawFn) -> Scale:
    """Of ways or of bandwidth, in percent or in MiB/s, on some machine, with some configuration."""
    low, down_ratio, up_pct = draw(st.integers(1, 50)), draw(st.floats(0, 0.9)), draw(st.integers(1, 60))
    config = CacheConfig(be_ways_low_pct=low, be_bandwidth_low_pct=low, down_ratio=down_ratio, up_pct=up_pct)
    begin = draw(st.integers(0, 100 - low - 1))
    end = draw(st.integers(begin + low, 100))
    match draw(st.sampled_from(["ways", "percent", "MiB/s"])):
        case "ways":
            found = ways_scale(config, (begin, end), CacheOffer(draw(WAYS), None, ways_min=draw(st.integers(1, 3))))
        case "percent":
            offer = CacheOffer(None, draw(STEPS_PCT), bandwidth_min=draw(st.sampled_from([0, 10, 20])))
            found = bandwidth_scale(config, draw(st.integers(low, 100)), offer)
        case _:
            config = CacheConfig(be_bandwidth_low_pct=low, down_ratio=down_ratio, up_pct=up_pct, mba_mbps=True)
            found = bandwidth_scale(config, draw(st.integers(1, (1 << 32) - 2)), CacheOffer(None, 1, is_mib_per_s=True))
    assert found
    return found


@st.composite
def standing(draw: st.DrawFn) -> tuple[Scale, int]:
    scale = draw(scales())
    return scale, draw(st.integers(scale.low, scale.high))


@given(standing())
def test_under_pressure_every_step_takes_something_and_ends_at_the_floor(at: tuple[Scale, int]) -> None:
    """In as many steps as the machine has, or less; one that changes nothing on it is the last."""
    scale, now = at
    steps = 0
    while now != scale.low:
        after = scale.down(now)
        assert scale.low <= after < now
        assert scale.effect(after) < scale.effect(now) or after == scale.low
        now, steps = after, steps + 1
    assert steps <= scale.effect(at[1]) - scale.effect(scale.low) + 1
    assert scale.down(now) == now


@given(standing())
def test_when_clear_every_step_gives_something_and_ends_at_the_ceiling(at: tuple[Scale, int]) -> None:
    scale, now = at
    steps = 0
    while now != scale.high:
        after = scale.up(now)
        assert now < after <= scale.high
        assert scale.effect(after) > scale.effect(now) or after == scale.high
        now, steps = after, steps + 1
    assert steps <= min((scale.high - at[1]) // scale.up_points, scale.effect(scale.high) - scale.effect(at[1])) + 1
    assert scale.up(now) == now


@given(standing())
def test_a_step_down_leaves_no_more_than_its_part_as_the_machine_has_it(at: tuple[Scale, int]) -> None:
    scale, now = at
    part = scale.low + int((now - scale.low) * scale.down_ratio)
    assert scale.effect(scale.down(now)) <= scale.effect(part)


def steps(scale: Scale) -> tuple[list[int], list[int]]:
    """From the ceiling to the floor, and back."""
    down, up = [scale.high], [scale.low]
    while down[-1] != scale.low:
        down.append(scale.down(down[-1]))
    while up[-1] != scale.high:
        up.append(scale.up(up[-1]))
    return down, up


DEFAULT = CacheConfig()
MBPS = parse_config(
    '[cache]\nmount = true\nmba_mbps = true\n[[partition]]\nclass = "BE"\nbandwidth = "8000 MiB/s"', "f"
).cache


@pytest.mark.parametrize(
    ("scale", "down", "up"),
    [
        # 100 ways: a point is a way, the law as it stands
        (
            ways_scale(DEFAULT, (0, 50), CacheOffer(100, None)),
            [50, 30, 20, 15, 12, 11, 10],
            [10, 15, 20, 25, 30, 35, 40, 45, 50],
        ),
        # 12 ways: 6, 4, 3 and 2 of them
        (ways_scale(DEFAULT, (0, 50), CacheOffer(12, None)), [50, 33, 25, 10], [10, 25, 33, 41, 50]),
        (ways_scale(DEFAULT, (50, 100), CacheOffer(4, None)), [100, 60], [60, 100]),
        (bandwidth_scale(DEFAULT, 50, CacheOffer(None, 10.0)), [50, 30, 20, 10], [10, 20, 30, 40, 50]),
        (bandwidth_scale(MBPS, 8000, CacheOffer(None, 1, is_mib_per_s=True)), None, list(range(800, 8001, 400))),
    ],
)
def test_from_ceiling_to_floor_and_back(scale: Scale, down: list[int] | None, up: list[int]) -> None:
    assert steps(scale)[1] == up
    assert down is None or steps(scale)[0] == down


def test_what_the_machine_or_the_configuration_has_not_has_no_scale() -> None:
    assert ways_scale(DEFAULT, (0, 50), CacheOffer(None, 10.0)) is None
    assert bandwidth_scale(DEFAULT, 50, CacheOffer(12, None)) is None
    assert bandwidth_scale(DEFAULT, None, CacheOffer(12, 10.0)) is None
    assert bandwidth_scale(DEFAULT, 50, CacheOffer(12, 1, is_mib_per_s=True)) is None
