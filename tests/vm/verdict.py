"""What became of a guest, from its exit status, its kernel's log and its tests' report. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from xml.etree import ElementTree

SPLAT = re.compile(
    r"\bBUG:|\bWARNING:|\bOops\b|general protection fault|Kernel panic"
    r"|rcu: INFO: .*stall|blocked for more than \d+ seconds|soft lockup|hard LOCKUP"
    r"|possible (circular|recursive) locking|inconsistent lock state|suspicious RCU usage"
)
"""Lines of a kernel's log after which nothing in it is to be trusted."""

SPLAT_CONTEXT_LINES = 25


class End(Enum):
    """How a guest ended."""

    FINISHED = "finished"
    PANICKED = "its kernel panicked"
    HUNG = "did not end within its limit"
    DIED = "ended before its job did"


@dataclass(frozen=True)
class Tests:
    """Counts of a pytest report."""

    ran: int
    failed: int
    skipped: dict[str, str]
    """Test -> reason."""


@dataclass(frozen=True)
class Verdict:
    """`faults` is empty when all is well; else one line each."""

    end: End
    faults: tuple[str, ...]
    splat: str
    """The first splat with what follows it."""


def judge(status: int | None, log: str, *, timed_out: bool, tests: Tests | None = None) -> Verdict:
    """`status`: of the job, None: it has none; `log`: of the kernel; `tests`: of the job, if it was to run some."""
    splat = first_splat(log)
    if status is not None and not timed_out:
        end = End.FINISHED
    elif "Kernel panic" in log:
        end = End.PANICKED
    else:
        end = End.HUNG if timed_out else End.DIED
    faults = []
    if end is not End.FINISHED:
        faults.append(f"the guest {end.value}" if end is not End.PANICKED else f"in the guest {end.value}")
    elif status != 0:
        faults.append(f"the job's exit status is {status}")
    if splat:
        faults.append(f"the kernel's log has: {splat.splitlines()[0].strip()}")
    if tests is not None and tests.ran == 0:
        faults.append("no test was run")
    return Verdict(end, tuple(faults), splat)


def first_splat(log: str) -> str:
    """The first line that is one and what follows; "": none."""
    lines = log.splitlines()
    for number, line in enumerate(lines):
        if SPLAT.search(line):
            return "\n".join(lines[number : number + SPLAT_CONTEXT_LINES])
    return ""


def tests_of(junit: str) -> Tests:
    """Counts of a JUnit file as pytest writes it."""
    cases = list(ElementTree.fromstring(junit).iter("testcase"))
    skipped = {
        f"{case.get('classname')}::{case.get('name')}": skip.get("message") or ""
        for case in cases
        for skip in case.findall("skipped")
    }
    failed = sum(1 for case in cases if case.find("failure") is not None or case.find("error") is not None)
    return Tests(len(cases) - len(skipped), failed, skipped)
