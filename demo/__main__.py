"""The experiment: a service beside batch work, and a bursty one with a quota; without the agent and with it.

    python -m demo [suppress] [burst] [--out build/demo] [--heavy] [--under GROUP]

Needs root. Everything happens on loopback and in groups of its own, `slackwater-demo-PID` and below, which are removed
at the end, however it comes.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, ModuleType

from demo import burst, suppress
from demo.groups import own_tree
from demo.measure import Run
from demo.programs import be_punctual, compile_into, programs
from demo.report import write_actions, write_requests, write_series

PARTS: dict[str, ModuleType] = {"suppress": suppress, "burst": burst}


def run_part(part: ModuleType, folder: Path, log: Path, *, under: Path | None, heavy: bool) -> list[Run]:
    """Each phase with new groups and new processes."""
    runs = []
    for phase in part.PHASES:
        print(f"  {phase.name} ...", file=sys.stderr, flush=True)
        with own_tree(under, heavy=heavy) as tree, programs(folder, log) as started:
            runs.append(part.run_phase(phase, tree, started))
    return runs


def report(name: str, part: ModuleType, runs: Sequence[Run], out: Path) -> None:
    write_series(out / f"{name}.csv", runs)
    write_requests(out / f"{name}-requests.csv", runs)
    write_actions(out / f"{name}-actions.csv", runs)
    part.draw(runs, out / f"{name}.png")
    print(f"\n{part.summary(runs)}\n\n{out / name}.png; .csv, -requests.csv, -actions.csv, .log\n", flush=True)


def stop_once(number: int, frame: FrameType | None) -> None:
    """What has been started is ended, whatever is pressed meanwhile."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", choices=[[], *PARTS], help="default: both")
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="where figures and CSV files go")
    parser.add_argument("--under", type=Path, help="group to work in (default: the root of the cpu hierarchy)")
    parser.add_argument("--heavy", action="store_true", help="take the CPU from all else on this host: a busy host")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("not root: groups cannot be made")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop_once)
    options.out.mkdir(parents=True, exist_ok=True)
    be_punctual(os.getpid())
    now = datetime.now(UTC)
    print(f"{now:%Y-%m-%d %H:%M} UTC, Linux {platform.release()}, {suppress.CPUS} CPUs, load {os.getloadavg()[0]:.1f}")
    if options.heavy:
        print("the demo's groups together have 100 times the usual weight: other work on this host hardly gets a CPU")
    try:
        with tempfile.TemporaryDirectory(prefix="slackwater-demo-") as folder:
            compile_into(Path(folder))
            for name in options.part or PARTS:
                print(f"{PARTS[name].__doc__}".splitlines()[0], file=sys.stderr, flush=True)
                log = options.out / f"{name}.log"
                log.unlink(missing_ok=True)
                runs = run_part(PARTS[name], Path(folder), log, under=options.under, heavy=options.heavy)
                report(name, PARTS[name], runs, options.out)
    except KeyboardInterrupt:
        print("interrupted; groups and processes are gone", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
