"""agent.cli.story and history_table: what an SRE reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pytest

from agent.cli.history_table import table
from agent.cli.story import ENTRIES_TOLD, Story, heading
from agent.control import Cause, Event, Knob, Result
from agent.history.entries import BEFORE_WALL_NS, Entry, Moment, of_agent, of_event
from tests.agent.made_up_entries import BATCH, WEB, at, decided, held, outcome

NOW_S = 3600.0


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def story(*entries: Entry, paths: Sequence[str] = (WEB[1],), width: int = 200, is_agent_alive: bool = True) -> Story:
    return Story(entries, at(NOW_S).wall_ns, width, paths=paths, is_agent_alive=is_agent_alive)


def lines(
    *entries: Entry, paths: Sequence[str] = (WEB[1],), width: int = 200, is_agent_alive: bool = True
) -> list[str]:
    return list(story(*entries, paths=paths, width=width, is_agent_alive=is_agent_alive).lines())


def ended(entry: Entry, second: float, times: int = 1) -> Entry:
    return dataclasses.replace(entry, end_wall_ns=at(second).wall_ns, lasts=False, times=times)


def test_a_decision_tells_cause_reason_change_outcome_and_what_was_seen() -> None:
    entry = decided(5, outcome(1, 0, knob=Knob.IDLE), inputs={"wait_ns": 4e6})
    assert lines(entry) == [
        "08:00:05  suppress, because of batch work on the CPU: p20 4 ms, past 2 ms",
        "          /batch.slice: idle off -> on: applied",
        "          seen: wait 4ms",
    ]


def test_the_groups_own_settings_are_its() -> None:
    assert lines(decided(5, outcome(60_000, 50_000, group=WEB)))[1] == "          its quota 50ms -> 60ms: applied"


def test_for_whose_sake_is_told_where_it_is_another_group() -> None:
    assert lines(decided(5, outcome(1)), paths=[BATCH[1]])[0].startswith(
        "08:00:05  suppress, for /system.slice/web.service, because of batch work on the CPU: "
    )


def test_what_is_given_back_to_what_it_was_says_so() -> None:
    down, further = decided(0, outcome(5000, None)), decided(30, outcome(2000, 5000))
    up = decided(90, outcome(None, 2000), gives_back=True, reason="calm", path=None)
    assert lines(down, further, up)[-2:] == [
        "08:01:30  suppress gives back: calm",
        "          /batch.slice: quota 2ms -> no limit: applied, as it was before 08:00:00 (after 1min 30s)",
    ]


def test_what_is_turned_again_is_told_from_then_on() -> None:
    def down_and_up(second: float) -> list[Entry]:
        return [decided(second, outcome(5000, None)), decided(second + 20, outcome(None, 5000), gives_back=True)]

    told = lines(*down_and_up(0), *down_and_up(60))
    assert told[3].endswith("as it was before 08:00:00 (after 20s)")
    assert told[7].endswith("as it was before 08:01:00 (after 20s)")


def test_what_was_refused_was_never_turned() -> None:
    assert "as it was" not in "".join(lines(decided(0, outcome(2000, None, result=Result.REFUSED))))


def test_steps_of_one_setting_are_one_flight() -> None:
    """Told with the values that it went through."""
    steps = [decided(n, outcome(60_000 + 1000 * n, 59_000 + 1000 * n, group=WEB), reason=f"CPU {n}") for n in range(3)]
    assert lines(*steps) == [
        "08:00:00  suppress, 3 steps until 08:00:02, because of batch work on the CPU: CPU 0",
        "          its quota 59ms -> 60ms -> 61ms -> 62ms: applied",
    ]


def test_a_long_flight_is_told_by_its_ends() -> None:
    steps = [decided(n, outcome(10_000 * (n + 2), 10_000 * (n + 1), group=WEB)) for n in range(30)]
    values = lines(*steps)[1]
    assert (
        values == "          its quota 10ms -> 20ms -> 30ms -> 40ms -> … -> 280ms -> 290ms -> 300ms -> 310ms: applied"
    )


@pytest.mark.parametrize("change", ["direction", "gap", "refused", "other value", "other knob"])
def test_what_is_no_next_step_is_told_apart(change: str) -> None:
    first = decided(0, outcome(60_000, 50_000))
    second = {
        "direction": decided(1, outcome(50_000, 60_000), gives_back=True),
        "gap": decided(60, outcome(70_000, 60_000)),
        "refused": decided(1, outcome(70_000, 60_000, result=Result.REFUSED)),
        "other value": decided(1, outcome(70_000, 55_000)),
        "other knob": decided(1, outcome(70_000, 60_000, knob=Knob.BURST)),
    }[change]
    assert len([line for line in lines(first, second) if line.startswith("08:0")]) == 2


def test_of_many_outcomes_a_few_are_told_and_the_rest_counted() -> None:
    entry = decided(0, *(outcome(1, group=(id, f"/{id}")) for id in range(6)), outcome(1, result=Result.REFUSED))
    assert len(lines(entry)) == 1 + 4 + 1
    assert lines(entry)[-1] == "          and 3 more: 2 applied and 1 refused"


def test_what_was_decided_again_and_again_is_counted() -> None:
    entry = ended(decided(0, outcome(1, result=Result.DRY_RUN)), 58, times=59)
    assert lines(entry)[0].endswith("p20 4 ms, past 2 ms (59 times until 08:00:58)")


def test_holds_say_how_long_and_why_nothing_was_done() -> None:
    """Of an agent that was killed the end is not known."""
    assert lines(ended(held(0), 31), paths=[]) == [
        "08:00:00  nothing was done for 31s, until 08:00:31, because the root disk is read-only"
    ]
    assert lines(held(NOW_S - 90, "full", "burst"), paths=[]) == [
        "08:58:30  burst has done nothing for 1min 30s, because full"
    ]
    killed = dataclasses.replace(ended(held(0), 31), lasts=True)
    assert lines(killed, paths=[], is_agent_alive=False) == [
        "08:00:00  nothing was done for at least 31s, because the root disk is read-only"
    ]


def test_a_short_hold_of_a_controller_that_did_nothing_here_is_no_news() -> None:
    settling = ended(held(0, "settles", "burst"), 3)
    assert lines(settling) == []
    assert lines(settling, decided(9, outcome(1), controller="burst"))[0].startswith(
        "08:00:00  burst did nothing for 3s"
    )


def test_what_the_node_cannot_cure_is_told() -> None:
    event = of_event(Event("0.1 cores are left", *WEB, Cause.OWN_LOAD), at(7))
    assert lines(event) == ["08:00:07  cannot be cured on this node (own load or other services): 0.1 cores are left"]


def test_start_and_end_of_the_agent_are_told() -> None:
    assert lines(of_agent("started: pid 1", at(1))) == ["08:00:01  the agent started: pid 1"]
    killed = dataclasses.replace(of_agent("started", at(9)), inputs={BEFORE_WALL_NS: at(5).wall_ns})
    assert lines(killed) == ["08:00:09  the agent started, last heard of at 08:00:05"]


def test_lines_fit_the_terminal() -> None:
    """But for a name that does not."""
    entry = decided(5, outcome(1, group=(5, "/" + "x" * 300)), reason="because " * 40, inputs={"wait_ns": 4e6})
    assert max(map(len, lines(entry, width=80))) <= 80


def test_a_long_story_is_told_from_its_end() -> None:
    entries = [decided(20 * n, outcome(n)) for n in range(ENTRIES_TOLD + 5)]
    told = lines(*entries)
    assert told[0] == "5 earlier ones are left out; `slackwater history` lists them all"
    assert told[-2].startswith("08:21:20  ")


def test_control_characters_in_names_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in "".join(
        lines(decided(0, outcome(1, group=(1, "/\x1b[2J")), reason="\x1b[2J"), paths=["/\x1b"])
    )


def test_the_summary_counts_steps_causes_and_what_went_wrong() -> None:
    entries = [
        decided(0, outcome(1)),
        ended(decided(20, outcome(2, result=Result.REFUSED)), 30, times=4),
        decided(40, outcome(1), gives_back=True),
        ended(held(50), 81),
    ]
    assert story(*entries).summary() == (
        "5 steps by suppress because of batch work on the CPU, 1 back; 1 refused by the kernel; nothing allowed for 31s"
    )
    assert story().summary() == "nothing was decided for it"


def test_the_heading_says_of_whom_and_of_when() -> None:
    since, now = at(3000).wall_ns, at(3600).wall_ns
    assert heading([WEB[1]], 1, since, now) == "/system.slice/web.service, the last 10min (08:50:00 to 09:00:00 UTC)"
    assert heading([WEB[1]], 3, since, now).startswith("/system.slice/web.service (3 cgroups, one after the other), ")
    assert heading([WEB[1], "/b", "/c"], 3, since, now).startswith("/system.slice/web.service and 2 more, ")


def test_the_table_has_one_line_per_entry() -> None:
    entries = [
        decided(1, outcome(1, 0, knob=Knob.IDLE)),
        ended(decided(2, outcome(60_000, 50_000, group=WEB), outcome(1), cause=Cause.OWN_QUOTA), 9, times=3),
        ended(held(3), 34),
        of_event(Event("full", *WEB, Cause.OWN_LOAD), at(4)),
    ]
    lines = table(entries, at(NOW_S).wall_ns, 200)
    cells = [(line[:8], line[10:18], line[20:45], line[47:73], line[75:]) for line in lines]
    assert [tuple(cell.rstrip() for cell in row) for row in cells] == [
        ("time", "who", "for", "what", "why"),
        ("08:00:01", "suppress", WEB[1], "batch.slice idle off -> on", "batch work on the CPU: p20 4 ms, past 2 ms"),
        ("08:00:02", "suppress", WEB[1], "3 x quota 50ms -> 60ms +1", "own quota: p20 4 ms, past 2 ms"),
        ("08:00:03", "all", "-", "held still 31s", "the root disk is read-only"),
        ("08:00:04", "event", WEB[1], "cannot be cured here", "own load or other services: full"),
    ]


@pytest.mark.parametrize("width", [40, 90, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    entries = [decided(1, outcome(1, group=(5, "/" + "x" * 300)), path="/" + "y" * 300, reason="z" * 300)]
    longest = max(map(len, table(entries, Moment(10**18, 0).wall_ns, width)))
    assert longest <= max(width, 110)
