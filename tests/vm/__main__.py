"""Other kernels than the host's, in a virtual machine: `python -m tests.vm test|short|run|shell|support --help`."""

from __future__ import annotations

import argparse
import functools
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence

from tests.kernel import workloads
from tests.kernel.needs import FORCED
from tests.vm import guest, machines, verdict
from tests.vm.fetch import VmError
from tests.vm.kernels import KERNELS, Kernel
from tests.vm.machines import NONE, Machine

DEFAULT_TESTS = ("tests/kernel", "tests/system/test_network_devices.py", "tests/vm/test_support.py")
RDT_TESTS = (
    *("tests/kernel/test_resctrl.py", "tests/kernel/test_rdt.py", "tests/kernel/test_cache.py"),
    *("tests/system/test_cache.py", "tests/vm/test_support.py"),
)
"""On a machine with RDT: what that is about."""
Place = tuple[Kernel, Machine]
NOT_TO_BE_HAD = (VmError, OSError, subprocess.CalledProcessError)
"""What a guest or its tests need: a program, a package, room on the disk, a compiler's consent."""
LIMIT_S = 600
WHOLE_LIMIT_S = 1200
LOG_LINES = 40
TEST_LIMIT_SHARE = 0.4
"""A test that is still running after this share of the limit has its stacks printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all is well; 1: something failed; 2: it could not be tried."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    kernel = {"metavar": f"{{{','.join(KERNELS)}}}"}
    machine = {"default": NONE.name, "metavar": "MACHINE", "help": f"one of {', '.join(machines.MACHINES)}"}
    limit = {"type": float, "default": LIMIT_S, "metavar": "SECONDS", "help": "end a guest then (%(default)s)"}
    test = actions.add_parser("test", help="run pytest in the guests")
    test.add_argument("--kernel", action="append", **kernel, help="all without")  # type: ignore[arg-type]
    test.add_argument("--machine", **machine | {"help": f"{machine['help']}; all: each with RDT"})  # type: ignore[arg-type]
    test.add_argument("--limit", **limit | {"default": WHOLE_LIMIT_S})  # type: ignore[arg-type]
    test.add_argument("pytest", nargs="*", help="arguments of pytest after --")
    short = actions.add_parser("short", help="run what is marked short on every kernel and some machines")
    short.add_argument("--limit", **limit)  # type: ignore[arg-type]
    run = actions.add_parser("run", help="run a command in a guest")
    run.add_argument("--machine", **machine)  # type: ignore[arg-type]
    run.add_argument("--limit", **limit)  # type: ignore[arg-type]
    run.add_argument("kernel", **kernel)  # type: ignore[arg-type]
    run.add_argument("command", nargs="+")
    shell = actions.add_parser("shell", help="a root shell in a guest")
    shell.add_argument("--machine", **machine)  # type: ignore[arg-type]
    shell.add_argument("kernel", **kernel)  # type: ignore[arg-type]
    actions.add_parser("support", help="ask the host and every kernel what it offers, and write docs/support.md")
    options = parser.parse_args(arguments)
    try:
        if options.action == "support":
            return support_document()
        if options.action == "short":
            places = [(kernel, NONE) for kernel in KERNELS.values()]
            places += [(KERNELS[machines.SHORT_KERNEL], machines.machine(name)) for name in machines.SHORT]
            return test_all(places, ("-m", "short"), options.limit, missing=1 if FORCED else 0)
        if options.action == "test":
            return test_all(places_of(options.kernel, options.machine), options.pytest, options.limit, missing=2)
        on = machines.machine(options.machine)
        if options.action == "shell":
            return guest.shell(guest.kernel(options.kernel), on)
        return command(options.kernel, on, options.command, options.limit)
    except NOT_TO_BE_HAD as error:
        sys.stderr.write(f"{error}\n")
        return 2


def places_of(kernels: Sequence[str] | None, machine: str) -> list[Place]:
    """All machines with RDT on the newest kernel that knows them; one machine on these kernels or on all of them."""
    if machine == "all":
        return [(guest.kernel(on.kernels[-1]), on) for on in machines.MACHINES.values() if on.rdt]
    on = machines.machine(machine)
    return [(guest.kernel(name), on) for name in kernels or on.kernels]


def test_all(places: Sequence[Place], words: Sequence[str], limit_s: float, *, missing: int) -> int:
    """pytest in one after the other, with `words` or all tests that are for it. What cannot be run is said, loudly, at
    the end, and does not keep the others; `missing`: the exit status then.
    """
    lines, failed, not_run = [], 0, 0
    for kernel, machine in places:
        try:
            line, passed = tests(kernel, machine, words, limit_s)
            failed += not passed
        except NOT_TO_BE_HAD as error:
            line = f"{kernel.name:6} {machine.name}: NOT RUN: {error}"
            not_run += 1
        lines.append(line)
    say("\n" + "\n".join(lines))
    if not_run:
        say(f"!!! {not_run} of {len(places)} guests were NOT RUN: the lines above say why and what to do")
    return 1 if failed else missing if not_run else 0


def command(name: str, machine: Machine, words: Sequence[str], limit_s: float) -> int:
    """A command in the guest, in the tree's folder; its exit status, 1 where there is none."""
    done = guest.run(guest.kernel(name), f"cd {guest.TREE}; {shlex.join(words)}", limit_s, write, machine)
    judged = verdict.judge(done.status, done.log, timed_out=done.timed_out)
    if judged.end is not verdict.End.FINISHED or judged.splat:
        explain(name, done, judged)
    return 1 if done.status is None else done.status


@functools.cache
def compile_for_guests() -> None:
    """What a guest would need seconds of emulation for: bytecode (also where the host is to write none) and work.c."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    pytest += [*DEFAULT_TESTS, *RDT_TESTS]
    subprocess.run(pytest, cwd=guest.TREE, env=environment, stdout=subprocess.DEVNULL, check=False)
    workloads.build()


def tests(kernel: Kernel, machine: Machine, words: Sequence[str], limit_s: float) -> tuple[str, bool]:
    """pytest in the guest; a line about it, and whether it passed. `words`: its arguments, with files or without."""
    compile_for_guests()
    place = kernel.name if machine is NONE else f"{kernel.name} {machine.name}"
    if not any(word.startswith("tests/") for word in words):
        words = [*(RDT_TESTS if machine.rdt else DEFAULT_TESTS), *words]
    say(f"== kernel {place}")
    pytest = f"python -m pytest -o faulthandler_timeout={limit_s * TEST_LIMIT_SHARE:.0f}"
    job = f"""cd {guest.TREE}
export SLACKWATER_KERNEL_TESTS=1
export SLACKWATER_HAS="{machines.words(machines.EVERY_GUEST_HAS | machine.has)}" SLACKWATER_MACHINE={machine.name}
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 # hypothesis' would have all of it compiled anew: 40 s of emulation
cut -d' ' -f1 /proc/uptime >/run/results/booted_s
exec {pytest} --junitxml=/run/results/junit.xml {shlex.join(words)}"""
    done = guest.run(kernel, job, limit_s, write, machine)
    report = None if done.status is None else done.files.get("junit.xml")
    ran = verdict.tests_of(report) if report else verdict.Tests(0, 0, {})
    judged = verdict.judge(done.status, done.log, timed_out=done.timed_out, tests=ran)
    if judged.faults:
        explain(place, done, judged)
    skipped = f", {len(ran.skipped)} skipped" if ran.skipped else ""
    booted = done.files.get("booted_s", "-").strip()
    outcome = "; ".join(judged.faults) or "passed"
    counts = f"{ran.ran - ran.failed} of {ran.ran} tests{skipped}, {done.seconds:.0f} s (boot {booted} s)"
    return f"{place:6} {counts}: {outcome}", not judged.faults


def support_document() -> int:
    """Write the page from the host's facts and the guests'."""
    from tests.vm import support, support_rdt  # only here: it wants native/ built

    rows = [support.facts(), *(facts_of("support", kernel, NONE) for kernel in KERNELS.values())]
    found = {name: facts_of("support_rdt", KERNELS[on.kernels[-1]], on) for name, on in machines.MACHINES.items()}
    support.DOCUMENT.write_text(support.document(rows) + support_rdt.document(found))
    return 0


def facts_of(module: str, kernel: Kernel, machine: Machine) -> dict[str, str]:
    """What tests.vm.`module` finds in a guest."""
    done = guest.run(
        kernel, f"cd {guest.TREE}; python -m tests.vm.{module} >/run/results/facts", LIMIT_S, write, machine
    )
    judged = verdict.judge(done.status, done.log, timed_out=done.timed_out)
    if judged.faults:
        explain(f"{kernel.name} {machine.name}", done, judged)
        raise VmError("nothing was written")
    facts: dict[str, str] = json.loads(done.files["facts"])
    return facts


def explain(name: str, done: guest.Run, judged: verdict.Verdict) -> None:
    """What went wrong, with the log around it."""
    log = judged.splat or "\n".join(done.log.splitlines()[-LOG_LINES:])
    say(f"== kernel {name}: {'; '.join(judged.faults)}; its log:\n{log}")
    if done.emulator_said:
        say(f"== QEMU said: {done.emulator_said}")


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def say(line: str) -> None:
    write(f"{line}\n")


if __name__ == "__main__":
    # Told to end, unwind: a guest does not outlive its harness.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
