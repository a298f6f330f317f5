from dataclasses import replace

import numpy as np
import pytest

from agent.cli.log import log_line
from agent.cli.table import HEADER_LINES, SortKey, View, shown_rows, table
from agent.profiles.profile import Profiler
from agent.records import CpiProfile, Profile, Qos, Source, Tick
from agent.status_partitions import PartitionStatus
from tests.agent.ticks import S_NS, groups_of, tick_of

NAN = float("nan")
PATHS = {1: "/system.slice/web.service", 2: "/batch/[job]-1", 3: "/idle"}


def measured(source: Source = Source.BPF) -> tuple[Tick, Profile, Tick]:
    """A tick with three groups, its profile, and the tick before."""
    groups = groups_of(PATHS)
    before = tick_of(groups, interval_ns=0, cpu_usage_ns=[0, 0, 0])
    tick = tick_of(
        groups,
        number=1,
        time_ns=S_NS,
        source=source,
        sampling=4,
        dropped=7,
        node_used_ns=S_NS,
        cpu_usage_ns=[S_NS / 2, S_NS, 0],
        count=[10, 20, 0],
        sum_ns=[1e8, 2e6, 0],
        contention_ns=[75e6, 2e6, 0],
        throttle_ns=[25e6, 0, 0],
        p50_ns=[1500, 200, NAN],
        p95_ns=[2e6, 300, NAN],
        p99_ns=[12e6, 400, NAN],
        max_ns=[15e6, 500, NAN],
        throttle_events=[2, 5, 0],
        throttle_p99_ns=[30e6, NAN, NAN],
        pairs=[(1, 2, 60e6), (1, 0, 15e6), (2, 2, 2e6)],
    )
    profiler = Profiler(60)
    profiler.update(before)
    return tick, profiler.update(tick), before


def row_of(lines: list[str], name: str) -> list[str]:
    return next(line for line in lines if line.startswith(name)).split()


def test_a_row_has_what_is_known_of_the_group() -> None:
    tick, profile, before = measured()
    lines = table(tick, profile, View(160, None), before)
    titles = "group class cores wait/s p50 p95 p99 max cont thr thr/s thr p99 share culprit"
    assert lines[HEADER_LINES - 1].split() == titles.split()
    assert row_of(lines, "/system") == [
        *("/system.slice/web.service", "LS", "0.50", "100ms", "1.5us", "2ms", "12ms", "15ms"),
        *("75%", "25%", "2.0", "30ms", "80%", "/batch/[job]-1"),
    ]
    assert row_of(lines, "/batch")[-2:] == ["100%", "(itself)"]


def test_where_the_network_is_shaped_devices_have_a_line_and_groups_what_they_send() -> None:
    """A group that sends nothing, or is not known there, has a dash."""
    tick, profile, before = measured()
    view = View(
        180, None, notes=("device eth0: 1 Gbit/s",), sends_bytes_per_s={"/system.slice/web.service": 12_500_000}
    )
    lines = table(tick, profile, view, before)
    assert lines[HEADER_LINES - 1] == "device eth0: 1 Gbit/s"
    assert lines[HEADER_LINES].split()[-2:] == ["bit/s", "culprit"]
    assert row_of(lines, "/system")[-2] == "100M"
    assert row_of(lines, "/batch")[-2] == "-"


def test_where_caches_have_counters_there_are_columns_of_groups_that_have_a_partition_alone() -> None:
    """As far as they fit."""
    tick, profile, _ = measured()
    own = PartitionStatus(7, "/x", ("/x",), None, None, False, 3.25e6, 6.7e8, None)
    nothing = PartitionStatus(7, "/x", ("/x",), None, None, False, None, None, None)
    partitions = {"/system.slice/web.service": own, "/idle": nothing}
    lines = table(tick, profile, View(160, None, partitions=partitions))
    assert lines[HEADER_LINES - 1].split()[-3:] == ["llc", "mem/s", "culprit"]
    assert row_of(lines, "/system")[-3:-1] == ["3.1MiB", "639MiB"]
    assert row_of(lines, "/batch")[-3:-1] == row_of(lines, "/idle")[-3:-1] == ["-", "-"]
    assert table(tick, profile, View(100, None, partitions=partitions)) == table(tick, profile, View(100, None))


def test_what_is_not_known_is_a_dash_and_never_a_zero() -> None:
    tick, profile, _ = measured()
    row = row_of(table(tick, profile, View(160, None)), "/idle")
    assert row == ["/idle", "LS", "0.00", "0", "-", "-", "-", "-", "-", "-", "0.0", "-", "-", "-"]


def test_cycles_per_instruction_have_a_column_only_where_they_are_counted() -> None:
    tick, profile, _ = measured()
    counted = replace(profile, cpi=CpiProfile(*[np.array([1.234, NAN, NAN])] * 5))
    titles, web, batch, *_ = table(tick, counted, View(160, None))[HEADER_LINES - 1 :]
    at = titles.index("CPI") + len("CPI")
    assert "CPI" not in table(tick, profile, View(160, None))[HEADER_LINES - 1]
    assert (web[at - 4 : at], batch[at - 4 : at]) == ("1.23", "   -")


def test_the_header_says_where_the_figures_come_from_what_is_lost_and_what_the_agent_costs() -> None:
    tick, profile, before = measured()
    lines = table(tick, profile, View(160, None), before)
    assert lines[0] == "slackwater  1.00 of 2 cores used  3 groups  1 s"
    assert lines[1] == "source bpf, 1 wait in 4  lost 7  agent 40MiB, 0.0% of a core + BPF 0.0%"
    tick, profile, _ = measured(Source.CGROUPFS)
    assert table(tick, profile, View(160, None))[1] == "source cgroupfs  lost 7  agent 40MiB"


@pytest.mark.parametrize("width", [20, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_the_p99_is_never_dropped(width: int) -> None:
    tick, profile, before = measured()
    lines = table(tick, profile, View(width, 24, footer="x" * 300), before)
    assert max(map(len, lines)) <= width
    assert "p99" in lines[HEADER_LINES - 1] or width == 20


@pytest.mark.parametrize("height", [1, 5, 6, 24])
def test_as_many_rows_as_the_terminal_has_and_the_rest_is_counted(height: int) -> None:
    tick, profile, _ = measured()
    lines = table(tick, profile, View(120, height))
    assert len(lines) <= max(height, HEADER_LINES + 2)
    rows = len(lines) - HEADER_LINES - 1
    assert lines[-1] == ("" if rows == 3 else f"{3 - rows} more groups")


@pytest.mark.parametrize(
    ("sort", "order"),
    [("wait", [1, 2, 3]), ("cpu", [2, 1, 3]), ("throttle", [2, 1, 3]), ("name", [2, 3, 1])],
)
def test_rows_are_sorted_by_the_key_and_what_is_not_known_comes_last(sort: SortKey, order: list[int]) -> None:
    tick, profile, _ = measured()
    assert [tick.groups[row].id for row in shown_rows(tick, profile, View(80, 24, sort))] == order


def test_without_percentiles_the_sum_of_the_waits_sorts() -> None:
    groups = groups_of({1: "/a", 2: "/b"})
    tick = tick_of(groups, sum_ns=[1, 5])
    assert shown_rows(tick, Profiler(1).update(tick), View(80, 24)) == [1, 0]


@pytest.mark.parametrize(
    ("text", "ids"), [("", [1, 2, 3]), ("[job]", [2]), ("/*", [3]), ("/**/*.service", [1]), ("nothing", [])]
)
def test_the_filter_is_a_part_of_the_path_or_a_glob(text: str, ids: list[int]) -> None:
    tick, profile, _ = measured()
    assert [tick.groups[row].id for row in shown_rows(tick, profile, View(80, 24, filter=text))] == ids


def test_a_name_cannot_send_commands_to_the_terminal() -> None:
    tick = tick_of(groups_of({1: "/\x1b[2J\nx"}, Qos.BE))
    lines = table(tick, Profiler(1).update(tick), View(120, 24))
    assert all(line.isprintable() for line in lines)


def test_the_log_line_names_the_group_that_waited_longest() -> None:
    tick, profile, _ = measured()
    assert log_line(tick, profile) == (
        "source=bpf sampling=4 lost_samples=7 groups=3 used_cores=1.00 "
        "worst=/system.slice/web.service wait_p99=12ms culprit=/batch/[job]-1"
    )


def test_the_log_line_is_short_where_nobody_waited() -> None:
    tick = tick_of(groups_of({1: "/a"}), p99_ns=np.array([NAN]))
    assert log_line(tick, Profiler(1).update(tick)) == "source=bpf sampling=1 lost_samples=0 groups=1 used_cores=-"
