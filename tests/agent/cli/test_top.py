import contextlib
import logging
import os
import pty
import termios
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import pytest

from agent.cli.table import View
from agent.cli.terminal import draw, read_keys, whole_screen
from agent.cli.top import Keys, LastMessage, LiveTable, pressed, with_status
from agent.control import Enforce
from agent.history.entries import clock_now
from agent.profiles.profile import Profiler
from agent.status import Status, StatusFile, read_status
from agent.status_partitions import PartitionStatus
from tests.agent.ticks import S_NS, groups_of, tick_of


def typed(text: str) -> Keys:
    return reduce(pressed, text, Keys())


@pytest.mark.parametrize(
    ("char", "sort"), [("w", "wait"), ("c", "cpu"), ("t", "throttle"), ("n", "name"), ("x", "wait")]
)
def test_a_key_chooses_what_sorts_and_others_change_nothing(char: str, sort: str) -> None:
    assert typed(char) == Keys(sort=sort)  # type: ignore[arg-type]


def test_q_quits_but_not_while_a_filter_is_typed() -> None:
    assert typed("q").quit
    assert typed("/q") == Keys(typing="q")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("/web\r", Keys(filter="web")),
        ("/wex\x7fb\n", Keys(filter="web")),
        ("/a\r/b\x1b", Keys(filter="a")),
        ("/a\r/\r", Keys()),
        ("//x/*\r", Keys(filter="/x/*")),
        ("/\x01\r", Keys()),
    ],
)
def test_a_filter_is_typed_after_a_slash(text: str, keys: Keys) -> None:
    assert typed(text) == keys


def test_the_footer_shows_what_is_being_typed() -> None:
    assert typed("/we").footer.startswith("filter: we_")
    assert typed("c/web\r").footer.startswith("sort cpu  filter web  w wait")


def test_partitions_that_are_shared_have_a_line_and_groups_that_have_one_alone_their_figures(tmp_path: Path) -> None:
    own = PartitionStatus(7, "/db", ("/db",), (60, 100), None, False, 1e6, 5.0, None)
    batch = PartitionStatus(-4, "BE", ("/batch",), (0, 30), 20, False, 2e6, None, None)
    services = PartitionStatus(-3, "LS", ("/a", "/b"), (50, 100), None, False, 3e6, None, None)
    view = with_status(View(100, 20), status(tmp_path, (own, batch, services)))
    assert [line.split(":")[0] for line in view.notes] == ["partition BE", "partition LS"]
    assert view.partitions == {"/db": own, "/batch": batch}
    assert view.sends_bytes_per_s is None


def test_where_caches_have_no_counters_there_are_no_columns_of_them(tmp_path: Path) -> None:
    batch = PartitionStatus(-4, "BE", ("/batch",), (0, 30), 20, False, None, None, None)
    view = with_status(View(100, 20), status(tmp_path, (batch,)))
    assert (len(view.notes), view.partitions) == (1, None)
    assert with_status(View(100, 20), status(tmp_path, ())) == View(100, 20)


def status(folder: Path, partitions: tuple[PartitionStatus, ...]) -> Status:
    file = StatusFile(folder / "s", version="1", tick_s=1.0, enforce=Enforce.ON, controllers={}, clock=clock_now)
    file.write(groups=1, holds=(), knobs=(), slis=(), history=None, partitions=partitions)
    found = read_status(folder / "s")
    assert found
    return found


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The user's end and the program's end of a terminal."""
    user, program = pty.openpty()
    termios.tcsetwinsize(program, (12, 100))
    yield user, program
    for fd in (user, program):
        with contextlib.suppress(OSError):  # the test closed it
            os.close(fd)


def test_the_terminal_is_put_back_also_after_an_error(terminal: tuple[int, int]) -> None:
    user, program = terminal
    before = termios.tcgetattr(program)
    with open(program, "w", closefd=False) as out:
        with contextlib.suppress(ZeroDivisionError), whole_screen(out, program):
            during = termios.tcgetattr(program)
            raise ZeroDivisionError
        assert during != before
        assert termios.tcgetattr(program) == before
    written = b""
    while not written.endswith(b"\x1b[?25h\x1b[?1049l"):  # a pty may hand it over in parts
        written += os.read(user, 100)


def test_arrow_keys_are_no_letters_and_a_terminal_that_is_gone_says_so(terminal: tuple[int, int]) -> None:
    user, program = terminal
    with open(program, "w", closefd=False) as out, whole_screen(out, program):
        os.write(user, b"\x1b[A\x1b[1;5Cc\x1bOPn")
        assert read_keys(program) == "cn"
    os.close(user)
    assert read_keys(program) is None


def drawn(user: int) -> str:
    """What was written up to the end of a screen; a pty may hand it over in parts."""
    text = ""
    while not text.endswith("\x1b[J"):
        text += os.read(user, 10_000).decode()
    return text


def test_each_tick_is_drawn_and_keys_redraw_it(terminal: tuple[int, int]) -> None:
    user, program = terminal
    groups = groups_of({1: "/web", 2: "/job"})
    tick = tick_of(groups, number=1, time_ns=S_NS, p99_ns=[5e6, 1e6])
    stopped = []
    with open(program, "w", closefd=False) as out:
        messages = LastMessage(logging.WARNING)
        view = LiveTable(out, program, Keys(), messages)
        view.stop = lambda: stopped.append(True)
        with view.screen():
            messages.handle(logging.makeLogRecord({"msg": "no BPF:\nEPERM", "levelno": logging.WARNING}))
            view.on_tick(tick, Profiler(1).update(tick))
            screen = drawn(user)
            assert screen.index("/web") < screen.index("/job")
            assert screen.count("\n") == 5
            assert r"no BPF:\nEPERM" in screen
            os.write(user, b"n/job\r")
            view.on_keys()
            screen = drawn(user)
            assert "/job" in screen
            assert "/web" not in screen
            os.write(user, b"q")
            view.on_keys()
    assert stopped == [True]


def test_a_terminal_that_is_gone_stops_the_agent(terminal: tuple[int, int]) -> None:
    user, program = terminal
    stopped = []
    with open(program, "w", closefd=False) as out:
        view = LiveTable(out, program, Keys(), LastMessage())
        view.stop = lambda: stopped.append(True)
        os.close(user)
        view.on_keys()
    assert stopped == [True]


def test_one_line_of_the_screen_is_bold(terminal: tuple[int, int]) -> None:
    user, program = terminal
    with open(program, "w", closefd=False) as out:
        draw(out, ["a", "b"], bold_line=1)
    assert drawn(user) == "\x1b[H\x1b[Ka\r\n\x1b[K\x1b[1mb\x1b[m\x1b[J"
