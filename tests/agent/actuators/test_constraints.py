"""agent.actuators.constraints: every plan, step by step, on a model of the kernel's rules."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.actuators.constraints import Key, Plan, View, Write, plan
from agent.actuators.knobs import QUOTA_US_MAX
from agent.control import CGROUP_KNOBS, Knob, KnobValue
from tests.agent.actuators.kernel_model import CPUS, Kernel, Node, Refused

EXAMPLES = int(os.environ.get("SLACKWATER_EXAMPLES", "500"))
PERIODS_US = (10_000, 50_000, 100_000, 1_000_000)
QUOTAS_US = st.one_of(st.none(), st.integers(1_000, 400_000), st.sampled_from([1_000, QUOTA_US_MAX, QUOTA_US_MAX - 5]))
VALUES: dict[Knob, st.SearchStrategy[KnobValue]] = {
    Knob.QUOTA: QUOTAS_US,
    Knob.BURST: st.one_of(st.integers(0, 400_000), st.just(0)),
    Knob.WEIGHT: st.integers(1, 10_000),
    Knob.IDLE: st.integers(0, 1),
    Knob.CPUSET: st.sets(st.sampled_from(CPUS), min_size=1).map(lambda cpus: tuple(sorted(cpus))),
    Knob.FREEZE: st.integers(0, 1),
}
NEUTRAL: dict[Knob, KnobValue] = {
    Knob.QUOTA: None,
    Knob.BURST: 0,
    Knob.WEIGHT: 100,
    Knob.IDLE: 0,
    Knob.CPUSET: CPUS,
    Knob.FREEZE: 0,
}


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    """A tree that its owners have set up: whatever the kernel took of what they wrote."""
    kernel = Kernel(draw(st.sampled_from((1, 2))))
    for id_ in range(1, draw(st.integers(1, 6)) + 1):
        parent = draw(st.integers(1, id_ - 1)) if id_ > 1 else None
        depth = kernel.nodes[parent].depth + 1 if parent else 1
        kernel.nodes[id_] = Node(parent, depth, draw(st.sampled_from(PERIODS_US)), dict(NEUTRAL))
    for (id_, knob), value in draw(goals_of(kernel)).items():
        with contextlib.suppress(Refused):
            kernel.write(Write(id_, knob, value))
    return kernel


def goals_of(kernel: Kernel) -> st.SearchStrategy[dict[Key, KnobValue]]:
    keys = st.tuples(st.sampled_from(sorted(kernel.nodes)), st.sampled_from(CGROUP_KNOBS))
    pairs = keys.flatmap(lambda key: VALUES[key[1]].map(lambda value: (key, value)))
    return st.lists(pairs, max_size=8).map(dict)


class Agent:
    """What the executor remembers between plans, without files."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.base, self.companions = kernel, dict[Key, KnobValue](), frozenset[Key]()

    def reach(self, goals: Mapping[Key, KnobValue]) -> Mapping[Key, str]:
        view = self.kernel.view(self.base, self.companions)
        planned = plan(goals, view)
        for write in planned.writes:
            self.hold(write, self.kernel.current())
            self.kernel.write(write)
        reached = goals.keys() - planned.refused.keys()
        written = {(write.group_id, write.knob) for write in planned.writes}
        self.companions = ((self.companions | written) - reached) & self.base.keys()
        self.let_go()
        assert_goals(goals, planned.refused, self.kernel)
        assert_steps_lie_between(planned.writes, view, self.kernel)
        return planned.refused

    def hold(self, write: Write, before: Mapping[Key, KnobValue]) -> None:
        key = write.group_id, write.knob
        self.base.setdefault(key, before[key])
        if write.knob is Knob.IDLE and write.value == 1 and before[write.group_id, Knob.WEIGHT] != 100:
            weight = write.group_id, Knob.WEIGHT
            self.base.setdefault(weight, before[weight])
            self.companions |= {weight}

    def let_go(self) -> None:
        now = self.kernel.current()
        for key in [key for key, value in self.base.items() if now[key] == value]:
            if key[1] is Knob.WEIGHT and now[key[0], Knob.IDLE] == 1 and (key[0], Knob.IDLE) in self.base:
                continue
            del self.base[key]
            self.companions -= {key}


def assert_goals(goals: Mapping[Key, KnobValue], refused: Mapping[Key, str], kernel: Kernel) -> None:
    """Every goal is reached or was refused with a reason."""
    now = kernel.current()
    assert {key: now[key] for key in goals.keys() - refused.keys()} == {
        key: value for key, value in goals.items() if key not in refused
    }


def assert_steps_lie_between(writes: tuple[Write, ...], view: View, kernel: Kernel) -> None:
    """No knob is for a moment tighter than both what it was and what it will be."""
    now = kernel.current()
    for write in writes:
        key = write.group_id, write.knob
        old, new, value = view.current[key], now[key], write.value
        if write.knob is Knob.CPUSET:
            assert isinstance(value, tuple)
            assert value
            assert set(value) >= set(old) or set(value) >= set(new)  # type: ignore[arg-type]
        elif write.knob is not Knob.WEIGHT:
            assert value in (old, new)


@settings(max_examples=EXAMPLES)
@given(st.data())
def test_no_plan_is_refused_and_all_goes_back(data: st.DataObject) -> None:
    """Plans one after the other: the kernel refuses no step, every goal is reached or refused in words, and in the end
    all that was held goes back to what it was, companions by themselves."""
    kernel = data.draw(kernels())
    found = copy.deepcopy(kernel.current())
    agent = Agent(kernel)
    for _ in range(data.draw(st.integers(1, 4))):
        agent.reach(data.draw(goals_of(kernel)))
    lost = {(id_, Knob.WEIGHT) for id_ in kernel.nodes if found[id_, Knob.IDLE] == 1}
    explicit = {key: value for key, value in agent.base.items() if key not in agent.companions | lost}
    assert agent.reach(explicit) == {}
    assert {k: v for k, v in kernel.current().items() if k not in lost} == {
        k: v for k, v in found.items() if k not in lost
    }
    assert agent.base.keys() <= lost


def test_a_quota_goes_back_to_what_it_was_together_with_one_below_that_had_none() -> None:
    """v1: 1000 of 50000 us leaves no quota for a period of 10000 us below it, but there the limit ends as well."""
    view = View(
        current={(1, Knob.QUOTA): 5_000, (2, Knob.QUOTA): 1_000},
        base={(1, Knob.QUOTA): 1_000, (2, Knob.QUOTA): None},
        depth={1: 1, 2: 2},
        parent={2: 1},
        period_us={1: 50_000, 2: 10_000},
        strict=frozenset({Knob.QUOTA}),
    )
    planned = plan({(1, Knob.QUOTA): 1_000, (2, Knob.QUOTA): None}, view)
    assert planned == Plan((Write(2, Knob.QUOTA, None), Write(1, Knob.QUOTA, 1_000)), {})
    assert (1, Knob.QUOTA) in plan({(1, Knob.QUOTA): 1_000}, view).refused
