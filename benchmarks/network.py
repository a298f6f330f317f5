"""p99 of a service on a tenth of the link: alone, beside batch work that wants all of it, and with the agent.

    python -m benchmarks.network [--rounds 5]

A round measures the three one after the other, and its ratios are of one round: the machine is the same. The link is a
pair of veths with a wire of 200 Mbit/s between (tests/system/shaped_link.py).
Bound: the median over rounds of protected / alone <= 2. Exit status 1: not kept. Needs root.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.agent_process import stop_cleanly_when_told
from tests.system.command import running
from tests.system.shaped_link import Link, shaped_link

BOUND_RATIO = 2.0
TRANSFER_S = 12


def beside_batch_us(link: Link, port: int) -> float:
    """p99 of the service while batch work sends as much as it can."""
    link.pair.serve(port)
    transfer = link.transfer("be", TRANSFER_S, port)
    time.sleep(1)
    try:
        return link.p99_us()
    finally:
        transfer.kill()
        transfer.wait()


def one_round(folder: Path) -> tuple[float, float, float]:
    """p99 in us: alone, unprotected, protected."""
    os.environ["RUNTIME_DIRECTORY"] = str(folder / "run")
    with shaped_link(folder) as link:
        alone_us = link.p99_us()
        unprotected_us = beside_batch_us(link, 5201)
        with running("run", "--config", link.config()) as agent:
            link.wait_until_shaped()
            protected_us = beside_batch_us(link, 5202)
            agent.stop(signal.SIGTERM)
    return alone_us, unprotected_us, protected_us


def main() -> int:
    stop_cleanly_when_told()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{time.strftime('%Y-%m-%d')}  {os.uname().release}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print("p99 ms: alone  unprotected  protected   protected / alone")
    ratios = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            alone_us, unprotected_us, protected_us = one_round(Path(folder))
        ratios.append(protected_us / alone_us)
        print(
            f"{alone_us / 1000:13.2f} {unprotected_us / 1000:12.2f} {protected_us / 1000:10.2f} {ratios[-1]:19.2f}",
            flush=True,
        )
    median = statistics.median(ratios)
    print(f"median of protected / alone: {median:.2f}, bound {BOUND_RATIO:g}")
    return 0 if median <= BOUND_RATIO else 1


if __name__ == "__main__":
    raise SystemExit(main())
