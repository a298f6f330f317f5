"""agent.cli.words: settings, inputs, outcomes and times in words."""

import errno
import time
from typing import Any

import pytest

from agent.cli.words import change, clock_time, counted, cpu_ranges, elapsed, inputs_in_words, knob_value, listed
from agent.control import Knob, KnobValue, Result
from tests.agent.made_up_entries import outcome


@pytest.mark.parametrize(
    ("knob", "value", "text"),
    [
        (Knob.QUOTA, 50_000, "50ms"),
        (Knob.QUOTA, None, "no limit"),
        (Knob.BURST, 0, "0"),
        (Knob.BURST, 1500, "1.5ms"),
        (Knob.WEIGHT, 100, "100"),
        (Knob.IDLE, 1, "on"),
        (Knob.FREEZE, 0, "off"),
        (Knob.CPUSET, (0, 1, 2, 5), "0-2,5"),
        (Knob.CPUSET, (), "as its parent"),
    ],
)
def test_a_setting_is_told_as_its_owner_would_say_it(knob: Knob, value: KnobValue, text: str) -> None:
    assert knob_value(knob, value) == text


def test_cpus_are_told_as_ranges() -> None:
    assert cpu_ranges([7, 0, 1, 3, 4, 5]) == "0-1,3-5,7"


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        ({}, "quota 50ms -> 60ms: applied"),
        ({"result": Result.UNCHANGED}, "quota 60ms: was so already"),
        ({"result": Result.DRY_RUN}, "quota -> 60ms: not written, dry run"),
        ({"result": Result.GONE}, "quota -> 60ms: the group is gone"),
        ({"result": Result.FOREIGN}, "quota -> 60ms: not written, somebody else has set it to 50ms"),
        ({"result": Result.UNSUPPORTED}, "quota -> 60ms: this host has no such setting"),
        (
            {"result": Result.REFUSED, "errno": errno.EINVAL, "kernel_text": "Invalid argument"},
            "quota 50ms -> 60ms: refused [EINVAL], the kernel says: Invalid argument",
        ),
    ],
)
def test_an_outcome_says_what_was_turned_and_what_came_of_it(rest: dict[str, Any], text: str) -> None:
    assert change(outcome(60_000, 50_000, **rest)) == text


def test_a_write_that_reads_back_otherwise_is_told() -> None:
    from dataclasses import replace

    assert change(replace(outcome(60_000, 50_000), after=59_000)) == "quota 50ms -> 60ms: applied, reads back as 59ms"


def test_inputs_have_their_units() -> None:
    inputs: dict[str, float | str] = {
        "wait_p95_ns": 4.1e6,
        "clear_s": 90.0,
        "share_pct": 83.1,
        "used_ratio": 0.25,
        "room_cores": 1.3,
        "memory_bytes": 2.0**30,
        "sent_bytes_per_s": 2048.0,
        "throttle_per_s": 3.0,
        "tokens_pct_s": 400.0,
        "level": 2,
        "policy": "quota",
        "lost_pct": float("nan"),
    }
    assert inputs_in_words(inputs) == (
        "wait_p95 4.1ms, clear 1min 30s, share 83.1%, used 25%, room 1.30 cores, memory 1GiB, sent 2KiB/s, "
        "throttle 3/s, tokens 400 % x s, level 2, policy quota, lost_pct not known"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.44, "0.4s"),
        (9.99, "10s"),
        (59.4, "59s"),
        (59.7, "1min"),
        (60, "1min"),
        (61, "1min 1s"),
        (3599.9, "1h"),
        (3661, "1h 1min"),
        (86_400, "1d"),
        (90_000, "1d 1h"),
    ],
)
def test_lengths_of_time_have_two_units_at_most(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text


def test_times_are_local_and_have_the_day_if_it_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        now_ns = 1_800_000_000 * 10**9  # 2027-01-15 08:00 UTC
        assert clock_time(now_ns, now_ns) == "17:00:00"
        assert clock_time(now_ns - 86_400 * 10**9, now_ns) == "2027-01-14 17:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_words_for_several() -> None:
    assert [listed([]), listed("a"), listed("ab"), listed("abc")] == ["", "a", "a and b", "a, b and c"]
    assert [counted(1, "step"), counted(2, "step"), counted(0, "entry", "entries")] == [
        "1 step",
        "2 steps",
        "0 entries",
    ]
