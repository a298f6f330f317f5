"""agent.samples.bpf_cost: measured in one tick of many, by the switch in between."""

import os
from typing import Any

from agent.samples.bpf_cost import BpfCost


class FakeProbe:
    """The kernel's sums as they are set."""

    sums = (0, 0)

    def run_stats(self) -> tuple[int, int]:
        return self.sums


def test_run_time_and_runs_are_those_measured_per_switch_times_the_switches() -> None:
    fake = FakeProbe()
    probe: Any = fake
    cost = BpfCost(probe, always_on=False, every_ticks=10, enable=lambda: os.open(os.devnull, os.O_RDONLY))
    fake.sums = (1000, 10)
    assert cost.read(100) is None
    fake.sums = (1500, 40)
    assert cost.read(110) == (500, 30)
    assert cost.read(310) == (500 + 200 * 50, 30 + 200 * 3)
    cost.close()


def test_where_the_kernel_counts_anyway_its_own_sums_are_taken() -> None:
    fake = FakeProbe()
    probe: Any = fake
    fake.sums = (7, 3)
    assert BpfCost(probe, always_on=True).read(100) == (7, 3)
