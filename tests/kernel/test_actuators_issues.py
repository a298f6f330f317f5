"""What users of others complain of does not happen here. The numbers are issues of koordinator-sh/koordinator."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from agent.actuators.executor import Executor
from agent.control import Knob, Result
from tests.kernel.knob_files import KnobTree, apply_one, quota, quota_us, results
from tests.kernel.needs import needs
from tests.kernel.workloads import Workloads

pytestmark = needs("root", "cgroup:cpu")


def test_issue_2326_a_burst_of_ten_quotas_is_refused_in_words_and_one_of_a_quota_is_taken(
    knobs: KnobTree, executor: Executor
) -> None:
    quota(knobs, "a", 50_000)
    ten = apply_one(executor, knobs.intent("a", Knob.BURST, 500_000))
    assert (ten.result, ten.kernel_text) == (
        Result.REFUSED,
        "500000 us of burst is more than a quota of 50000 us allows",
    )
    assert apply_one(executor, knobs.intent("a", Knob.BURST, 50_000)).result is Result.APPLIED


@pytest.mark.short
def test_issue_2778_a_raised_quota_can_be_lowered(knobs: KnobTree, executor: Executor) -> None:
    """With a burst as high as the quota: the burst goes first, and comes back with the quota."""
    quota(knobs, "a", 50_000)
    found = knobs.found()
    executor.apply([knobs.intent("a", Knob.QUOTA, 150_000), knobs.intent("a", Knob.BURST, 150_000)])
    assert results(executor.apply([knobs.intent("a", Knob.QUOTA, 60_000)])) == [Result.APPLIED, Result.APPLIED]
    assert (quota_us(knobs, "a"), knobs.text("a", Knob.BURST)) == (60_000, "60000")
    executor.apply([knobs.intent("a", Knob.QUOTA, 50_000)])
    assert knobs.found() == found
    assert executor.knobs == {}


def test_issue_2778_the_owners_burst_comes_back_when_his_quota_does(knobs: KnobTree, executor: Executor) -> None:
    quota(knobs, "a", 100_000)
    knobs.set("a", Knob.BURST, "100000")
    found = knobs.found()
    for us in (20_000, 60_000, 100_000):
        executor.apply([knobs.intent("a", Knob.QUOTA, us)])
        assert knobs.text("a", Knob.BURST) == str(us)
    assert knobs.found() == found


def test_issue_2306_two_that_want_the_same_file_do_not_both_write_it(knobs: KnobTree, executor: Executor) -> None:
    """Of two intents of one call the first counts and the other hears of it."""
    outcomes = executor.apply([knobs.intent("a", Knob.QUOTA, us) for us in (50_000, 60_000, 50_000)])
    assert results(outcomes) == [Result.APPLIED, Result.REFUSED, Result.APPLIED]
    assert outcomes[1].kernel_text == "another intent of the same call sets it to 50000"
    assert quota_us(knobs, "a") == 50_000


@pytest.mark.short
def test_issue_2723_a_childs_quota_does_not_defeat_its_parents(
    knobs: KnobTree, executor: Executor, work_binary: Path
) -> None:
    """The child has more than the parent is to have: that is written, it throttles, and both come back."""
    knobs.make("a/b")
    quota(knobs, "a", 200_000)
    quota(knobs, "a/b", 150_000)
    found = knobs.found()
    assert apply_one(executor, knobs.intent("a", Knob.QUOTA, 20_000)).result is Result.APPLIED
    workloads = Workloads(work_binary)
    try:
        workloads.start(knobs.group("a/b"), -1, "spawn", 1, 1, 100_000).finish(lambda: None)
    finally:
        workloads.stop()
    assert knobs.group("a").nr_throttled() + knobs.group("a/b").nr_throttled() > 0
    executor.apply([knobs.intent("a", Knob.QUOTA, 180_000)])
    assert quota_us(knobs, "a/b") == 150_000
    executor.apply([knobs.intent("a", Knob.QUOTA, 200_000)])
    assert knobs.found() == found


def test_issue_395_a_new_group_can_have_any_cpu_below_a_narrowed_one(knobs: KnobTree, executor: Executor) -> None:
    """As a container runtime makes it: with the CPUs of its specification. v2 takes that; v1 would not, so that there
    only groups without children are narrowed."""
    if not knobs.has(Knob.CPUSET) or not knobs.file("a", Knob.CPUSET).exists():
        pytest.skip("no cpuset of groups of tests")
    knobs.make("a/old")
    outcomes = executor.apply([knobs.intent(name, Knob.CPUSET, (0,)) for name in ("a", "a/old")])
    above = Result.UNSUPPORTED if knobs.has(Knob.CPUSET) == 1 else Result.APPLIED
    assert results(outcomes) == [above, Result.APPLIED]
    knobs.make("a/new")
    knobs.set("a/new", Knob.CPUSET, "0-1")
    assert knobs.text("a/new", Knob.CPUSET) == "0-1"
    assert knobs.text("a/old", Knob.CPUSET) == "0"


def test_issue_696_and_1218_no_child_is_left_with_1000_us(knobs: KnobTree, executor: Executor) -> None:
    """A parent that is lowered as far as can be: children without a quota get none, others keep their share of time."""
    knobs.make("a/none")
    knobs.make("a/some")
    quota(knobs, "a", 100_000)
    knobs.group("a/some").set_quota(50_000, period_us=10_000 * 5)
    found = knobs.found()
    assert apply_one(executor, knobs.intent("a", Knob.QUOTA, 10_000)).result is Result.APPLIED
    assert quota_us(knobs, "a/none") is None
    assert quota_us(knobs, "a/some") == (5_000 if knobs.has(Knob.QUOTA) == 1 else 50_000)
    too_low = apply_one(executor, knobs.intent("a", Knob.QUOTA, 1_000))
    if knobs.has(Knob.QUOTA) == 1:
        assert too_low.kernel_text == "1000 us would leave a group below less than 1000 us"
    assert quota_us(knobs, "a/some") == (5_000 if knobs.has(Knob.QUOTA) == 1 else 50_000)
    executor.apply([knobs.intent("a", Knob.QUOTA, 100_000)])
    assert knobs.found() == found


def test_issue_2633_a_quota_is_never_taken_away(knobs: KnobTree, executor: Executor) -> None:
    """Neither by an intent nor by what gives way: at no moment has the child no limit."""
    knobs.make("a/b")
    quota(knobs, "a", 90_000)
    quota(knobs, "a/b", 80_000)
    outcome = apply_one(executor, knobs.intent("a/b", Knob.QUOTA, None))
    assert (outcome.result, outcome.kernel_text) == (
        Result.REFUSED,
        "its owner set a quota of 80000 us, which is raised but never taken away",
    )
    unlimited, stop = [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            if quota_us(knobs, "a/b") is None:
                unlimited.append(time.monotonic())

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for us in (30_000, 60_000, 20_000, 90_000) * 10:
            executor.apply([knobs.intent("a", Knob.QUOTA, us)])
    finally:
        stop.set()
        looker.join()
    assert unlimited == []
    assert quota_us(knobs, "a/b") == 80_000


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")], ids=["parent first", "child first"])
def test_issue_2047_parent_and_child_are_set_in_the_order_that_the_kernel_takes(
    knobs: KnobTree, executor: Executor, names: tuple[str, str]
) -> None:
    """Whatever the order of the intents: down from the bottom up, up from the top down."""
    knobs.make("a/b")
    quota(knobs, "a", 100_000)
    quota(knobs, "a/b", 100_000)
    for us in (50_000, 200_000, 100_000):
        outcomes = executor.apply([knobs.intent(name, Knob.QUOTA, us) for name in names])
        assert results(outcomes) == [Result.APPLIED, Result.APPLIED]
    assert executor.knobs == {}


def test_issue_2591_a_manual_edit_stays(knobs: KnobTree, executor: Executor) -> None:
    """It is not reverted at the next tick, nor at the end, nor by a later give-back."""
    quota(knobs, "a", 100_000)
    executor.apply([knobs.intent("a", Knob.QUOTA, 50_000)])
    quota(knobs, "a", 77_000)
    assert results(executor.watch()) == [Result.FOREIGN]
    assert quota_us(knobs, "a") == 77_000
    assert executor.restore().items == ()
    assert quota_us(knobs, "a") == 77_000
