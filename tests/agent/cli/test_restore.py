"""`slackwater restore`: what it says, by itself; what it does is in tests/kernel/test_actuators.py."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from agent.actuators.report import Fate, Report, Restored
from agent.cli.commands import cli
from agent.cli.restore import document, lines
from agent.control import Knob

REPORT = Report(
    (
        Restored(7, "/be", Knob.QUOTA, Fate.RESTORED, "max", "50000"),
        Restored(7, "/be", Knob.CPUSET, Fate.RESTORED, "", "0"),
        Restored(8, "/ls", Knob.BURST, Fate.AS_FOUND, "0", "0"),
        Restored(9, "/a\nb", Knob.QUOTA, Fate.FOREIGN, "max", "70000"),
        Restored(10, "/gone", Knob.IDLE, Fate.GONE, "0"),
        Restored(11, "/odd", Knob.WEIGHT, Fate.REFUSED, "100", "1", "Invalid argument"),
    ),
    ("its last line is not whole: that write was not done",),
)


def test_each_knob_is_a_line_with_what_and_why() -> None:
    assert list(lines(REPORT)) == [
        "journal: its last line is not whole: that write was not done",
        "restored  /be quota: 50000 -> max",
        'restored  /be cpuset: 0 -> ""',
        "as found  /ls burst: 0",
        "foreign   /a\\nb quota: 70000 was written by somebody else and stays; max was found before",
        "gone      /gone idle: was 0",
        "refused   /odd weight: stays 1, was 100: Invalid argument",
        "2 restored, 1 as found, 1 gone, 1 foreign, 1 refused",
    ]


def test_the_document_is_json_and_says_whether_all_is_as_found() -> None:
    found = json.loads(json.dumps(document(REPORT), allow_nan=False))
    assert (found["schema"], found["complete"], len(found["items"])) == (1, False, 6)
    assert found["items"][5]["why"] == "Invalid argument"
    assert document(Report())["complete"]


def test_a_group_that_is_gone_is_no_failure() -> None:
    assert Report((Restored(10, "/gone", Knob.IDLE, Fate.GONE, "0"),)).is_complete


def test_without_a_journal_there_is_nothing_to_do(tmp_path: Path) -> None:
    """And nothing is made."""
    done = CliRunner().invoke(cli, ["restore", "--journal", str(tmp_path / "none" / "journal")])
    assert (done.exit_code, done.output) == (0, "nothing to restore\n")
    assert list(tmp_path.iterdir()) == []
