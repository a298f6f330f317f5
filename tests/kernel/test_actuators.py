"""The executor turns knobs of real groups: what is applied, refused, gone, left alone."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from agent.actuators import cgroup, constraints
from agent.actuators.executor import Executor
from agent.actuators.report import Fate
from agent.control import CGROUP_KNOBS, Knob, KnobState, KnobValue, Result
from agent.host import probe
from tests.kernel.knob_files import KnobTree, apply_one, quota, quota_us, results
from tests.kernel.needs import needs

pytestmark = needs("root", "cgroup:cpu")

CHANGED: dict[Knob, KnobValue] = {
    Knob.QUOTA: 50_000,
    Knob.BURST: 20_000,
    Knob.WEIGHT: 7,
    Knob.IDLE: 1,
    Knob.CPUSET: (0,),
    Knob.FREEZE: 1,
}


@pytest.mark.short
@pytest.mark.parametrize("knob", CGROUP_KNOBS)
def test_every_knob_is_applied_read_back_and_restored(knobs: KnobTree, executor: Executor, knob: Knob) -> None:
    if not (knobs.has(knob) and knobs.file("a", knob).exists()):
        pytest.skip(f"this host has no {knob} of groups of tests")
    found = knobs.found()
    outcome = apply_one(executor, knobs.intent("a", knob, CHANGED[knob]))
    assert (outcome.result, outcome.after) == (Result.APPLIED, CHANGED[knob])
    assert knobs.found() != found
    assert executor.knobs[knobs.group("a").id, knob] == KnobState(outcome.before, CHANGED[knob])
    assert apply_one(executor, knobs.intent("a", knob, CHANGED[knob])).result is Result.UNCHANGED
    (item,) = executor.restore().items
    assert (item.fate, item.knob) == (Fate.RESTORED, knob)
    assert knobs.found() == found
    assert executor.knobs == {}


def test_a_knob_that_a_group_has_not_is_unsupported(knobs: KnobTree, executor: Executor) -> None:
    """A group without a directory in the hierarchy (v1), or whose parent does not give it the controller (v2)."""
    knobs.make("a/b")
    if knobs.has(Knob.QUOTA) == 2:
        (knobs.group("a").path / "cgroup.subtree_control").write_text("-cpu")
        intent = knobs.intent("a/b", Knob.QUOTA, 50_000)
    else:
        intent = knobs.intent("a/b", Knob.CPUSET, (0,))
        if knobs.has(Knob.CPUSET) and knobs.file("a/b", Knob.CPUSET).exists():
            knobs.file("a/b", Knob.CPUSET).parent.rmdir()
    assert results(executor.apply([intent])) == [Result.UNSUPPORTED]


@pytest.mark.parametrize(
    ("intents", "version"),
    [
        ([(Knob.QUOTA, 50_000), (Knob.BURST, 50_001)], (1, 2)),
        ([(Knob.BURST, 90_000), (Knob.QUOTA, 80_000)], (1, 2)),
        ([(Knob.IDLE, 1), (Knob.WEIGHT, 7)], (1, 2)),
        ([(Knob.QUOTA, 999)], (1, 2)),
        ([(Knob.QUOTA, 1 << 44)], (1, 2)),
    ],
    ids=["burst above quota", "quota below burst", "weight while idle", "quota too small", "quota too large"],
)
def test_a_refusal_of_the_kernel_has_its_words(
    knobs: KnobTree,
    executor: Executor,
    monkeypatch: pytest.MonkeyPatch,
    intents: list[tuple[Knob, KnobValue]],
    version: tuple[int, ...],
) -> None:
    """Without our knowledge of the rules the last of these is refused by the kernel: so there is such a rule."""
    monkeypatch.setattr(constraints, "_LAWS", ())
    monkeypatch.setattr(constraints, "allowed", lambda knob, value: None)
    found = knobs.found()
    outcomes = [apply_one(executor, knobs.intent("a", knob, value)) for knob, value in intents]
    assert results(tuple(outcomes[:-1])) == [Result.APPLIED] * (len(outcomes) - 1)
    refusal = outcomes[-1]
    assert (refusal.result, refusal.errno, refusal.kernel_text) == (
        Result.REFUSED,
        errno.EINVAL,
        "Invalid argument",
    )
    executor.restore()
    assert knobs.found() == found


def test_a_quota_that_its_parents_quota_does_not_allow_is_refused_by_v1(
    knobs: KnobTree, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v1: EINVAL; v2 takes it, and the parent's holds all the same."""
    knobs.make("a/b")
    quota(knobs, "a", 50_000)
    intent = knobs.intent("a/b", Knob.QUOTA, 60_000)
    ours = apply_one(executor, intent)
    monkeypatch.setattr(constraints, "_LAWS", ())
    kernels = apply_one(executor, intent)
    if knobs.has(Knob.QUOTA) == 1:
        assert (ours.result, kernels.result) == (Result.REFUSED, Result.REFUSED)
        assert (ours.kernel_text, kernels.kernel_text) == (
            "60000 us is more than the 50000 us that a group above it leaves",
            "Invalid argument",
        )
    else:
        assert (ours.result, kernels.result) == (Result.APPLIED, Result.UNCHANGED)


def test_parent_and_child_move_to_other_cpus_together(knobs: KnobTree, executor: Executor) -> None:
    """Over the union of both: neither is ever outside the other. On v1 the parent stays as it is, for newcomers."""
    if not (knobs.has(Knob.CPUSET) and knobs.file("a", Knob.CPUSET).exists()):
        pytest.skip("no cpuset of groups of tests")
    knobs.make("a/b")
    found = knobs.found()
    parent_moves = knobs.has(Knob.CPUSET) == 2
    for cpu in (0, 1):
        outcomes = executor.apply([knobs.intent(name, Knob.CPUSET, (cpu,)) for name in ("a/b", "a")])
        assert results(outcomes) == [Result.APPLIED, Result.APPLIED if parent_moves else Result.UNSUPPORTED]
        assert knobs.text("a/b", Knob.CPUSET) == str(cpu)
    assert executor.restore().is_complete
    assert knobs.found() == found


def test_idle_leaves_the_weight_as_it_was(knobs: KnobTree, executor: Executor) -> None:
    """The kernel overwrites it: with the least there is, then with the default."""
    knobs.set("a", Knob.WEIGHT, "333")
    assert results(executor.apply([knobs.intent("a", Knob.IDLE, 1)])) == [Result.APPLIED]
    assert knobs.text("a", Knob.WEIGHT) in knobs.table(Knob.WEIGHT).by_idle
    assert executor.watch() == ()
    executor.apply([knobs.intent("a", Knob.IDLE, 0)])
    assert knobs.text("a", Knob.WEIGHT) == "333"
    assert executor.knobs == {}


def test_an_owner_who_ends_idle_gets_the_weight_back(knobs: KnobTree, executor: Executor) -> None:
    knobs.set("a", Knob.WEIGHT, "333")
    executor.apply([knobs.intent("a", Knob.IDLE, 1)])
    knobs.set("a", Knob.IDLE, "0")
    idle, weight = executor.watch()
    assert (idle.intent.knob, idle.result) == (Knob.IDLE, Result.FOREIGN)
    assert (weight.intent.knob, weight.result) == (Knob.WEIGHT, Result.APPLIED)
    assert knobs.text("a", Knob.WEIGHT) == "333"


def test_a_group_that_is_removed_under_us_is_gone(knobs: KnobTree, executor: Executor) -> None:
    """Before the write; while it is held: at the next write, at a look, at the end. That is no error."""
    for number in range(4):
        knobs.make(f"b{number}")
    intents = [knobs.intent(f"b{number}", Knob.QUOTA, 50_000) for number in range(4)]
    executor.apply(intents[1:])
    for number in range(4):
        knobs.remove(f"b{number}")
    assert results(executor.apply(intents[:2])) == [Result.GONE, Result.GONE]
    executor.forget([intents[2].group_id])
    assert [key[0] for key in executor.knobs] == [intents[3].group_id]
    report = executor.restore()
    assert [item.fate for item in report.items] == [Fate.GONE]
    assert report.is_complete


def test_a_group_that_was_made_anew_is_another(knobs: KnobTree, executor: Executor) -> None:
    intent = knobs.intent("a", Knob.QUOTA, 50_000)
    knobs.remove("a")
    knobs.make("a")
    assert results(executor.apply([intent])) == [Result.GONE]
    assert quota_us(knobs, "a") is None


def test_what_somebody_else_writes_is_the_new_base(knobs: KnobTree, executor: Executor) -> None:
    """Noticed at the next write, which is not done; the one after that begins from it; the end goes back to it."""
    executor.apply([knobs.intent("a", Knob.QUOTA, 50_000)])
    quota(knobs, "a", 70_000)
    outcome = apply_one(executor, knobs.intent("a", Knob.QUOTA, 40_000))
    assert (outcome.result, outcome.after) == (Result.FOREIGN, 70_000)
    assert quota_us(knobs, "a") == 70_000
    assert apply_one(executor, knobs.intent("a", Knob.QUOTA, 40_000)).result is Result.APPLIED
    assert executor.knobs[knobs.group("a").id, Knob.QUOTA] == KnobState(70_000, 40_000)
    executor.restore()
    assert quota_us(knobs, "a") == 70_000


def test_an_owner_who_writes_right_after_us_is_noticed(
    knobs: KnobTree, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read back is not what was written."""
    write = cgroup.Group.write

    def both_write(group: cgroup.Group, knob: Knob, text: str) -> None:
        write(group, knob, text)
        quota(knobs, "a", 70_000)

    with monkeypatch.context() as patch:
        patch.setattr(cgroup.Group, "write", both_write)
        outcome = apply_one(executor, knobs.intent("a", Knob.QUOTA, 50_000))
    assert (outcome.result, outcome.after) == (Result.FOREIGN, 70_000)
    assert executor.knobs == {}


def test_the_same_value_written_by_somebody_else_is_no_conflict(knobs: KnobTree, executor: Executor) -> None:
    executor.apply([knobs.intent("a", Knob.QUOTA, 50_000)])
    for _ in range(10):
        quota(knobs, "a", 50_000)
        assert executor.watch() == ()
    assert executor.knobs[knobs.group("a").id, Knob.QUOTA] == KnobState(None, 50_000)


def test_the_period_stays_the_owners(knobs: KnobTree, executor: Executor) -> None:
    """Also one that changes while we hold the quota."""
    executor.apply([knobs.intent("a", Knob.QUOTA, 30_000)])
    quota_file = knobs.file("a", Knob.QUOTA)
    if knobs.has(Knob.QUOTA) == 2:
        quota_file.write_text("30000 50000")
    else:
        (quota_file.parent / "cpu.cfs_period_us").write_text("50000")
    executor.apply([knobs.intent("a", Knob.QUOTA, 40_000)])
    executor.restore()
    period_file = quota_file.parent / (knobs.table(Knob.QUOTA).period_name or "")
    assert (quota_us(knobs, "a"), period_file.read_text().split()[-1]) == (None, "50000")


def test_an_owner_who_writes_every_100_ms_is_left_alone(knobs: KnobTree, executor: Executor) -> None:
    """As kubelet and runc do. Four writes are noticed; from then on the agent writes nothing there any more."""
    quota(knobs, "a", 80_000)
    stop = threading.Event()

    def reconcile() -> None:
        while not stop.wait(0.1):
            quota_file = knobs.file("a", Knob.QUOTA)
            quota_file.write_text("80000")

    owner = threading.Thread(target=reconcile)
    owner.start()
    try:
        seen = []
        for _ in range(12):
            seen.append(apply_one(executor, knobs.intent("a", Knob.QUOTA, 60_000)).result)
            time.sleep(0.15)
            executor.watch()
        assert executor.knobs[knobs.group("a").id, Knob.QUOTA] == KnobState(80_000, 80_000, is_foreign=True)
        assert seen[-1] is Result.FOREIGN
        assert seen.count(Result.APPLIED) == 4
    finally:
        stop.set()
        owner.join()
    assert executor.restore().items == ()
    assert quota_us(knobs, "a") == 80_000


def test_what_is_left_alone_does_not_give_way_either(knobs: KnobTree, executor: Executor) -> None:
    """The owner insists on his burst: a quota below it is refused by the kernel, in its words."""
    quota(knobs, "a", 80_000)
    for number in range(5):
        executor.apply([knobs.intent("a", Knob.BURST, 50_000)])
        knobs.set("a", Knob.BURST, str(70_000 + number))
        executor.watch()
    lowered, burst = executor.apply([knobs.intent("a", Knob.QUOTA, 60_000)])
    assert (lowered.result, lowered.kernel_text) == (Result.REFUSED, "Invalid argument")
    assert (burst.intent.knob, burst.result, burst.after) == (Knob.BURST, Result.FOREIGN, 70_003)
    assert knobs.text("a", Knob.BURST) == "70004"


def test_what_gave_way_goes_back_when_the_owner_takes_the_obstacle_away(knobs: KnobTree, executor: Executor) -> None:
    """An owner who raises the quota that we had lowered: the burst that had to be lowered with it is his again."""
    quota(knobs, "a", 80_000)
    knobs.set("a", Knob.BURST, "80000")
    executor.apply([knobs.intent("a", Knob.QUOTA, 30_000)])
    quota(knobs, "a", 90_000)
    foreign, burst = executor.watch()
    assert (foreign.intent.knob, foreign.result) == (Knob.QUOTA, Result.FOREIGN)
    assert (burst.intent.knob, burst.result, burst.after) == (Knob.BURST, Result.APPLIED, 80_000)
    assert executor.knobs == {}


def test_three_foreign_writes_in_a_minute_are_forgiven(knobs: KnobTree, journal: Path) -> None:
    """And so is any number that is spread over more time."""
    now_ns = 0
    with Executor.open(knobs.host, journal, lambda: now_ns) as executor:
        for number in range(12):
            assert apply_one(executor, knobs.intent("a", Knob.QUOTA, 50_000)).result is Result.APPLIED
            quota(knobs, "a", 60_000 + number)
            assert results(executor.watch()) == [Result.FOREIGN]
            now_ns += 20_100_000_000
        assert executor.knobs == {}


def test_the_agents_own_group_is_never_frozen(knobs: KnobTree, journal: Path) -> None:
    if not knobs.file("a", Knob.FREEZE).exists():
        pytest.skip("no freezer of groups of tests")
    (knobs.group("a").path / "cgroup.procs").write_text(str(os.getpid()))
    try:
        with Executor.open(probe(), journal) as executor:
            outcomes = executor.apply([knobs.intent(name, Knob.FREEZE, 1) for name in ("", "a")])
            assert [o.errno for o in outcomes] == [errno.EDEADLK] * 2
    finally:
        (knobs.group("").path.parent / "cgroup.procs").write_text(str(os.getpid()))
