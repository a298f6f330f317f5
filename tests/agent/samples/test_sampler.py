"""What the sampler does when the probe refuses in the middle of its work."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.config import AgentConfig, Config
from agent.host import Hierarchy, probe
from agent.records import SELF_EVENTS, Qos, Source
from agent.samples.sampler import Sampler
from agent.units import NS_PER_S
from native.probe import Counters, ProbeError, ProbeFeatures, ProbeTick, struct_dtype

NO_CHANGES = Config()


class BrokenProbe:
    """Its ring is broken once and is reset then; the accounts cannot be had."""

    features = ProbeFeatures(True, "task", None, 1, 2, 0, 0)

    drain_cpu_ns = 0

    def __init__(self, refusals: int = 1, waiting_ids: tuple[int, ...] = ()) -> None:
        self.cuts = 0
        self.refusals = refusals
        self.forgotten: list[int] = []
        self.groups = np.zeros(len(waiting_ids), struct_dtype("group_tick"))
        self.groups["id"], self.groups["wait_count"] = waiting_ids, 1

    def tick(self) -> ProbeTick:
        self.cuts += 1
        if self.cuts <= self.refusals:
            raise ProbeError(errno.EBADMSG, "ring: Bad message")
        return ProbeTick(self.groups, np.zeros(0, struct_dtype("group_pair")))

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

    def forget(self, ids: Iterable[int]) -> None:
        self.forgotten += ids


def sampler_of(root: Path, broken: BrokenProbe, config: Config = NO_CHANGES) -> Sampler:
    (root / "cpu.stat").write_text("usage_usec 7\nnr_periods 0\n")
    host = replace(probe(root, lambda: 0), cpu=Hierarchy(str(root), "/", 2), bpf_stats=True)
    fake: Any = broken
    return Sampler(config, host, lambda path: Qos.LS, fake)


def test_a_broken_ring_and_refused_accounts_are_said_and_the_tick_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = BrokenProbe()
    sampler = sampler_of(tmp_path, broken)
    tick = sampler.read(1, 1)
    sampler.close()
    assert (tick.source, [group.path for group in tick.groups], broken.cuts) == (Source.BPF, ["/"], 2)
    assert tick.cgroup.cpu_usage_ns.tolist() == [7000], "from the file"
    assert [record.getMessage() for record in caplog.records] == [
        "samples were lost: ring: Bad message",
        "in this tick CPU accounts are those in cgroup files: cgroup iterator: Cannot allocate memory",
    ]


def test_all_that_was_counted_is_in_the_tick(tmp_path: Path) -> None:
    (tmp_path / "group").mkdir()
    sampler = sampler_of(tmp_path, BrokenProbe())
    tick = sampler.read(1, 1)
    sampler.close()
    assert set(tick.agent.events) == set(SELF_EVENTS) - {"threads_refused"}
    assert tick.agent.events["groups_born"] == 2
    assert tick.agent.vanished_threads is None


def test_threads_that_ended_between_two_ticks_count_as_lost_without_bpf(tmp_path: Path) -> None:
    (tmp_path / "cgroup.threads").write_text("")
    host = replace(probe(tmp_path, lambda: 0), cpu=Hierarchy(str(tmp_path), "/", 2))
    sampler = Sampler(NO_CHANGES, host, lambda path: Qos.LS, None)
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        (tmp_path / "cgroup.threads").write_text(f"{sleeper.pid}\n")
        assert sampler.read(1, 1).agent.lost_samples == 0
        sleeper.kill()
    after = sampler.read(NS_PER_S, 1).agent
    sampler.close()
    assert (after.lost_samples, after.vanished_threads, "threads_refused" in after.events) == (1, 1, True)


def test_a_ring_that_stays_broken_gives_a_tick_without_waits(tmp_path: Path) -> None:
    broken = BrokenProbe(refusals=2)
    sampler = sampler_of(tmp_path, broken)
    assert sampler.read(1, 1).wait.count.tolist() == [0]
    sampler.close()


def test_living_groups_beyond_the_limit_neither_cause_scans_nor_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / "group").mkdir()
    broken = BrokenProbe(refusals=0, waiting_ids=((tmp_path / "group").stat().st_ino,))
    sampler = sampler_of(tmp_path, broken, Config(agent=AgentConfig(max_groups=1)))
    assert [len(sampler.read(number * NS_PER_S, 1).groups) for number in (1, 2, 4)] == [1, 1, 1]
    assert (sampler._tree.counters.scans, broken.forgotten) == (1, [])
    sampler.close()
