"""From exec of `slackwater run` on a terminal to the first table with figures, and where that time goes.

The terminal is a pty of 50 lines. The table is there when a row of a group follows the title line. CPU time is of the
process up to then: on a busy host the rest is waiting for a CPU.

    python -m benchmarks.agent_start [--starts 10]

Bound: 1.5 s, the median. Exit status 1: not kept. Needs root.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import statistics
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from benchmarks.agent_process import COMMAND
from native.probe import Probe, ProbeOptions

BOUND_S = 1.5
GIVE_UP_S = 30
TABLE = re.compile(rb"group +class +cores.*\n[^/]*/", re.DOTALL)
LINES, COLUMNS = 50, 160


def start() -> tuple[float, float]:
    """(seconds to the first table, seconds of CPU until then) of one start; ended by SIGINT's key."""
    begin_s = time.monotonic()
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", LINES, COLUMNS, 0, 0))
        os.execv(COMMAND, [COMMAND, "run", "--config", "/dev/null"])
    shown = b""
    try:
        while not TABLE.search(shown):
            shown += os.read(terminal, 65536)
            if time.monotonic() - begin_s > GIVE_UP_S:
                raise SystemExit(f"no table after {GIVE_UP_S} s: {shown.decode(errors='replace')}")
        elapsed_s = time.monotonic() - begin_s
        utime, stime = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError as err:
        raise SystemExit(f"the agent ended: {shown.decode(errors='replace')}") from err
    finally:
        os.write(terminal, b"q")
        while _more(terminal):
            pass
        os.close(terminal)
        os.waitpid(pid, 0)
    return elapsed_s, (int(utime) + int(stime)) / os.sysconf("SC_CLK_TCK")


def _more(terminal: int) -> bool:
    """Swallow what is still drawn; a terminal whose last user is gone is EIO."""
    try:
        return bool(os.read(terminal, 65536))
    except OSError:
        return False


def import_s() -> float:
    """Wall time of Python's start and of all that `run` imports."""
    begin_s = time.monotonic()
    subprocess.run([sys.executable, "-c", "import agent.cli.main, agent.loop, agent.metrics.server"], check=True)
    return time.monotonic() - begin_s


def load_s() -> float:
    """Wall time of loading and attaching the BPF programs."""
    begin_s = time.monotonic()
    with Probe.open(ProbeOptions()):
        return time.monotonic() - begin_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--starts", type=int, default=10)
    count = parser.parse_args().starts
    print(f"{time.strftime('%Y-%m-%d')}  {os.uname().release}, {os.cpu_count()} CPUs; {count} starts: median, max in s")
    table_s, cpu_s = zip(*(start() for _ in range(count)), strict=True)
    rows = {
        "to the first table": table_s,
        "CPU until then": cpu_s,
        "Python and imports": [import_s() for _ in range(count)],
        "BPF load and attach": [load_s() for _ in range(count)],
    }
    for name, values in rows.items():
        print(f"{name:20} {statistics.median(values):6.2f} {max(values):6.2f}")
    return 0 if statistics.median(table_s) <= BOUND_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
