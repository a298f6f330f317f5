"""What the sampler does when the probe refuses in the middle of its work."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.config import Config
from agent.host import Hierarchy, probe
from agent.records import Qos, Source
from agent.samples.sampler import Sampler
from native.probe import Counters, ProbeError, ProbeFeatures, ProbeTick, struct_dtype


class BrokenProbe:
    """Its ring is broken once and is reset then; the accounts cannot be had."""

    features = ProbeFeatures(True, "task", None, 1, 2, 0, 0)

    drain_cpu_ns = 0

    def __init__(self) -> None:
        self.cuts = 0

    def tick(self) -> ProbeTick:
        self.cuts += 1
        if self.cuts == 1:
            raise ProbeError(errno.EBADMSG, "ring: Bad message")
        return ProbeTick(np.zeros(0, struct_dtype("group_tick")), np.zeros(0, struct_dtype("group_pair")))

    def cgroup_stats(self) -> None:
        raise ProbeError(errno.ENOMEM, "cgroup iterator: Cannot allocate memory")

    def cgroup_events(self) -> tuple[list[Any], int]:
        return [], 0

    def buckets(self) -> Any:
        return np.zeros(0, struct_dtype("group_bucket"))

    def counters(self) -> Counters:
        return Counters(*[0] * 17)

    def run_stats(self) -> tuple[int, int]:
        return 0, 0

    def forget(self, ids: object) -> None: ...


def test_a_broken_ring_and_refused_accounts_are_said_and_the_tick_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 7\nnr_periods 0\n")
    host = replace(probe(tmp_path, lambda: 0), cpu=Hierarchy(str(tmp_path), "/", 2), bpf_stats=True)
    broken: Any = BrokenProbe()
    sampler = Sampler(Config(), host, lambda path: Qos.LS, broken)
    tick = sampler.read(1, 1)
    sampler.close()
    assert (tick.source, [group.path for group in tick.groups], broken.cuts) == (Source.BPF, ["/"], 2)
    assert tick.cgroup.cpu_usage_ns.tolist() == [7000], "from the file"
    assert [record.getMessage() for record in caplog.records] == [
        "samples were lost: ring: Bad message",
        "in this tick CPU accounts are those in cgroup files: cgroup iterator: Cannot allocate memory",
    ]
