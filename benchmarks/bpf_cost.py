"""Cost of the probe per context switch, gross, by the kernel's BPF statistics.

In the same runs, at the same tracepoint: the probe, `runqlat` of libbpf-tools (all its programs, per switch) and
an empty tp_btf program. The load is pipe ping-pong, then hackbench; the probe is drained every 50 ms, as by the agent.

    python -m benchmarks.bpf_cost [--rounds N]

Bounds: probe <= 0.22 runqlat, probe - empty <= 60 ns. Exit status 1: not kept. Sets kernel.bpf_stats_enabled for the
run and puts it back; needs root, runqlat and hackbench.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from native.probe import Probe, ProbeOptions
from tests.kernel import bpf_sys
from tests.kernel.workloads import Group, Workloads, build, own_tree

RUNQLAT_RATIO = 0.22
ABOVE_EMPTY_NS = 60
DRAIN_S = 0.05
PING_PONGS, HACKBENCH = 100_000, ("hackbench", "-g", "4", "-l", "1000")

BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP = 26, 23
MOV_R0_0_EXIT = bytes.fromhex("b700000000000000" + "9500000000000000")


class LoadOptions(ctypes.Structure):
    """The first fields of struct bpf_prog_load_opts, libbpf 1.x, bpf/bpf.h."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
    )


@contextlib.contextmanager
def empty_program() -> Iterator[int]:
    """`return 0` at tp_btf/sched_switch; its program id."""
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    btf_id = libbpf.libbpf_find_vmlinux_btf_id(b"sched_switch", BPF_TRACE_RAW_TP)
    options = LoadOptions(ctypes.sizeof(LoadOptions), 0, BPF_TRACE_RAW_TP, 0, 0, 0, 0, btf_id)
    before = bpf_sys.program_ids_of(os.getpid())
    program_fd = libbpf.bpf_prog_load(
        BPF_PROG_TYPE_TRACING, b"empty", b"GPL", MOV_R0_0_EXIT, ctypes.c_size_t(2), ctypes.byref(options)
    )
    if program_fd < 0:
        raise OSError(ctypes.get_errno(), "empty program refused")
    link_fd = libbpf.bpf_raw_tracepoint_open(None, program_fd)
    try:
        if link_fd < 0:
            raise OSError(ctypes.get_errno(), "empty program not attached")
        (program_id,) = bpf_sys.program_ids_of(os.getpid()) - before
        yield program_id
    finally:
        os.close(program_fd)
        if link_fd >= 0:
            os.close(link_fd)


@contextlib.contextmanager
def runqlat() -> Iterator[set[int]]:
    """The ids of its programs, once all three are loaded."""
    process = subprocess.Popen(["runqlat", "3600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while len(ids := bpf_sys.program_ids_of(process.pid)) < 3:
            if process.poll() is not None:
                raise SystemExit("runqlat does not run here")
            time.sleep(0.1)
        yield ids
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Cost:
    """Run time of some programs in one round, and how often the one at sched_switch ran."""

    run_ns: int
    switches: int

    @property
    def ns_per_switch(self) -> float:
        return self.run_ns / self.switches


def read(ids: set[int]) -> Cost:
    found = [known for known in map(bpf_sys.program, ids) if known is not None]
    return Cost(sum(p.run_ns for p in found), max(p.runs for p in found if p.name in ("sched_switch", "empty")))


def grown(ids: set[int], before: Cost) -> Cost:
    now = read(ids)
    return Cost(now.run_ns - before.run_ns, now.switches - before.switches)


def load(workloads: Workloads, group: Group, probe: Probe) -> None:
    """Ping-pong on one CPU, then hackbench on all; the probe is drained meanwhile."""
    for words, cpu in ((("pingpong", PING_PONGS), 0), (("exec", *HACKBENCH), -1)):
        process = workloads.start(group, cpu, *words)
        while not process.has_ended():
            time.sleep(DRAIN_S)
            probe.tick()
        process.finish(probe.drain)


def measure(rounds: int) -> list[dict[str, Cost]]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        group = stack.enter_context(own_tree(os.getpid(), heavy=False))
        workloads = Workloads(build(directory))
        stack.callback(workloads.stop)
        empty = {stack.enter_context(empty_program())}
        before = bpf_sys.program_ids_of(os.getpid())
        probe = stack.enter_context(Probe.open(ProbeOptions()))
        who = {
            "probe": bpf_sys.program_ids_of(os.getpid()) - before,
            "runqlat": stack.enter_context(runqlat()),
            "empty": empty,
        }
        stack.enter_context(bpf_sys.statistics())
        results = []
        for _ in range(rounds):
            start = {name: read(ids) for name, ids in who.items()}
            load(workloads, group, probe)
            results.append({name: grown(ids, start[name]) for name, ids in who.items()})
        print(f"dropped {probe.counters().dropped} of {probe.counters().produced} samples")
        return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    results = measure(parser.parse_args().rounds)
    print(f"{os.uname().release}, {os.cpu_count()} CPUs; ns per context switch, gross")
    print(f"{'round':>6} {'switches':>9} {'probe':>7} {'runqlat':>8} {'ratio':>6} {'empty':>7} {'probe-empty':>12}")
    for number, costs in enumerate(results, 1):
        probe, other, empty = (costs[name].ns_per_switch for name in ("probe", "runqlat", "empty"))
        switches = costs["probe"].switches
        print(
            f"{number:6} {switches:9} {probe:7.1f} {other:8.1f} {probe / other:6.3f} {empty:7.1f} {probe - empty:12.1f}"
        )
    ratio = statistics.median(c["probe"].ns_per_switch / c["runqlat"].ns_per_switch for c in results)
    above_ns = statistics.median(c["probe"].ns_per_switch - c["empty"].ns_per_switch for c in results)
    print(f"median: {ratio:.3f} of runqlat (bound {RUNQLAT_RATIO}), {above_ns:.1f} ns above empty ({ABOVE_EMPTY_NS})")
    return 0 if ratio <= RUNQLAT_RATIO and above_ns <= ABOVE_EMPTY_NS else 1


if __name__ == "__main__":
    raise SystemExit(main())
