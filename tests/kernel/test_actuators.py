"""The executor turns knobs of real groups: what is applied, refused, left alone, put back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.actuators import cgroup, constraints
from agent.actuators.executor import Executor
from agent.actuators.journal import Journal
from agent.actuators.report import Fate
from agent.control import Intent, Knob, KnobState, KnobValue, Outcome, Result
from agent.errors import HostError
from agent.host import probe
from tests.kernel.knob_files import KnobTree, knob_tree
from tests.kernel.needs import needs
from tests.kernel.workloads import Workloads

pytestmark = needs("root", "cgroup:cpu")

KILL_ROUNDS = int(os.environ.get("SLACKWATER_KILL_ROUNDS", "20"))
CHANGED: dict[Knob, KnobValue] = {
    Knob.QUOTA: 50_000,
    Knob.BURST: 20_000,
    Knob.WEIGHT: 7,
    Knob.IDLE: 1,
    Knob.CPUSET: (0,),
    Knob.FREEZE: 1,
}
SLACKWATER = str(Path(sys.executable).with_name("slackwater"))


@pytest.fixture
def tree() -> Iterator[KnobTree]:
    with knob_tree(os.getpid()) as tree:
        tree.make("a")
        yield tree


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def executor(tree: KnobTree, journal: Path) -> Iterator[Executor]:
    with Executor.open(tree.host, journal) as executor:
        yield executor
        executor.restore()


def apply_one(executor: Executor, intent: Intent) -> Outcome:
    return executor.apply([intent])[0]


def quota(tree: KnobTree, name: str, us: int | None) -> None:
    """As an owner sets it."""
    tree.group(name).set_quota(us)


def quota_us(tree: KnobTree, name: str) -> KnobValue:
    return tree.table(Knob.QUOTA).parse(tree.text(name, Knob.QUOTA).split()[0])


def results(outcomes: tuple[Outcome, ...]) -> list[Result]:
    return [outcome.result for outcome in outcomes]


@pytest.mark.short
@pytest.mark.parametrize("knob", Knob)
def test_every_knob_is_applied_read_back_and_restored(tree: KnobTree, executor: Executor, knob: Knob) -> None:
    if not tree.file("a", knob).exists() if tree.has(knob) else True:
        pytest.skip(f"this host has no {knob} of groups of tests")
    found = tree.found()
    outcome = apply_one(executor, tree.intent("a", knob, CHANGED[knob]))
    assert (outcome.result, outcome.after) == (Result.APPLIED, CHANGED[knob])
    assert tree.found() != found
    assert executor.knobs[tree.group("a").id, knob] == KnobState(outcome.before, CHANGED[knob])
    assert apply_one(executor, tree.intent("a", knob, CHANGED[knob])).result is Result.UNCHANGED
    (item,) = executor.restore().items
    assert (item.fate, item.knob) == (Fate.RESTORED, knob)
    assert tree.found() == found
    assert executor.knobs == {}


def test_a_knob_that_a_group_has_not_is_unsupported(tree: KnobTree, executor: Executor) -> None:
    """A group without a directory in the hierarchy (v1), or whose parent does not give it the controller (v2)."""
    tree.make("a/b")
    if tree.has(Knob.QUOTA) == 2:
        (tree.group("a").path / "cgroup.subtree_control").write_text("-cpu")
        intent = tree.intent("a/b", Knob.QUOTA, 50_000)
    else:
        intent = tree.intent("a/b", Knob.CPUSET, (0,))
        directory = tree.file("a/b", Knob.CPUSET).parent
        if directory.exists():
            directory.rmdir()
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
    tree: KnobTree,
    executor: Executor,
    monkeypatch: pytest.MonkeyPatch,
    intents: list[tuple[Knob, KnobValue]],
    version: tuple[int, ...],
) -> None:
    """Without our knowledge of the rules the last of these is refused by the kernel: so there is such a rule."""
    monkeypatch.setattr(constraints, "_LAWS", ())
    monkeypatch.setattr(constraints, "allowed", lambda knob, value: None)
    found = tree.found()
    outcomes = [apply_one(executor, tree.intent("a", knob, value)) for knob, value in intents]
    assert results(tuple(outcomes[:-1])) == [Result.APPLIED] * (len(outcomes) - 1)
    refusal = outcomes[-1]
    assert (refusal.result, refusal.errno, refusal.kernel_text) == (
        Result.REFUSED,
        errno.EINVAL,
        "Invalid argument",
    )
    executor.restore()
    assert tree.found() == found


def test_a_quota_that_its_parents_quota_does_not_allow_is_refused_by_v1(
    tree: KnobTree, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v1: EINVAL; v2 takes it, and the parent's holds all the same."""
    tree.make("a/b")
    quota(tree, "a", 50_000)
    intent = tree.intent("a/b", Knob.QUOTA, 60_000)
    ours = apply_one(executor, intent)
    monkeypatch.setattr(constraints, "_LAWS", ())
    kernels = apply_one(executor, intent)
    if tree.has(Knob.QUOTA) == 1:
        assert (ours.result, kernels.result) == (Result.REFUSED, Result.REFUSED)
        assert (ours.kernel_text, kernels.kernel_text) == (
            "60000 us is more than the 50000 us that a group above it leaves",
            "Invalid argument",
        )
    else:
        assert (ours.result, kernels.result) == (Result.APPLIED, Result.UNCHANGED)


def test_idle_leaves_the_weight_as_it_was(tree: KnobTree, executor: Executor) -> None:
    """The kernel overwrites it: with the least there is, then with the default."""
    tree.set("a", Knob.WEIGHT, "333")
    assert results(executor.apply([tree.intent("a", Knob.IDLE, 1)])) == [Result.APPLIED]
    assert tree.text("a", Knob.WEIGHT) in tree.table(Knob.WEIGHT).by_idle
    assert executor.watch() == ()
    executor.apply([tree.intent("a", Knob.IDLE, 0)])
    assert tree.text("a", Knob.WEIGHT) == "333"
    assert executor.knobs == {}


def test_an_owner_who_ends_idle_gets_the_weight_back(tree: KnobTree, executor: Executor) -> None:
    tree.set("a", Knob.WEIGHT, "333")
    executor.apply([tree.intent("a", Knob.IDLE, 1)])
    tree.set("a", Knob.IDLE, "0")
    idle, weight = executor.watch()
    assert (idle.intent.knob, idle.result) == (Knob.IDLE, Result.FOREIGN)
    assert (weight.intent.knob, weight.result) == (Knob.WEIGHT, Result.APPLIED)
    assert tree.text("a", Knob.WEIGHT) == "333"


def test_a_group_that_is_removed_under_us_is_gone(tree: KnobTree, executor: Executor) -> None:
    """Before the write; while it is held: at the next write, at a look, at the end. That is no error."""
    for number in range(4):
        tree.make(f"b{number}")
    intents = [tree.intent(f"b{number}", Knob.QUOTA, 50_000) for number in range(4)]
    executor.apply(intents[1:])
    for number in range(4):
        tree.remove(f"b{number}")
    assert results(executor.apply(intents[:2])) == [Result.GONE, Result.GONE]
    executor.forget([intents[2].group_id])
    assert [key[0] for key in executor.knobs] == [intents[3].group_id]
    report = executor.restore()
    assert [item.fate for item in report.items] == [Fate.GONE]
    assert report.is_complete


def test_a_group_that_was_made_anew_is_another(tree: KnobTree, executor: Executor) -> None:
    intent = tree.intent("a", Knob.QUOTA, 50_000)
    tree.remove("a")
    tree.make("a")
    assert results(executor.apply([intent])) == [Result.GONE]
    assert quota_us(tree, "a") is None


def test_what_somebody_else_writes_is_the_new_base(tree: KnobTree, executor: Executor) -> None:
    """Noticed at the next write, which is not done; the one after that begins from it; the end goes back to it."""
    executor.apply([tree.intent("a", Knob.QUOTA, 50_000)])
    quota(tree, "a", 70_000)
    outcome = apply_one(executor, tree.intent("a", Knob.QUOTA, 40_000))
    assert (outcome.result, outcome.after) == (Result.FOREIGN, 70_000)
    assert quota_us(tree, "a") == 70_000
    assert apply_one(executor, tree.intent("a", Knob.QUOTA, 40_000)).result is Result.APPLIED
    assert executor.knobs[tree.group("a").id, Knob.QUOTA] == KnobState(70_000, 40_000)
    executor.restore()
    assert quota_us(tree, "a") == 70_000


def test_an_owner_who_writes_right_after_us_is_noticed(
    tree: KnobTree, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read back is not what was written."""
    write = cgroup.Group.write

    def both_write(group: cgroup.Group, knob: Knob, text: str) -> None:
        write(group, knob, text)
        quota(tree, "a", 70_000)

    with monkeypatch.context() as patch:
        patch.setattr(cgroup.Group, "write", both_write)
        outcome = apply_one(executor, tree.intent("a", Knob.QUOTA, 50_000))
    assert (outcome.result, outcome.after) == (Result.FOREIGN, 70_000)
    assert executor.knobs == {}


def test_the_same_value_written_by_somebody_else_is_no_conflict(tree: KnobTree, executor: Executor) -> None:
    executor.apply([tree.intent("a", Knob.QUOTA, 50_000)])
    for _ in range(10):
        quota(tree, "a", 50_000)
        assert executor.watch() == ()
    assert executor.knobs[tree.group("a").id, Knob.QUOTA] == KnobState(None, 50_000)


def test_the_period_stays_the_owners(tree: KnobTree, executor: Executor) -> None:
    """Also one that changes while we hold the quota."""
    executor.apply([tree.intent("a", Knob.QUOTA, 30_000)])
    quota_file = tree.file("a", Knob.QUOTA)
    if tree.has(Knob.QUOTA) == 2:
        quota_file.write_text("30000 50000")
    else:
        (quota_file.parent / "cpu.cfs_period_us").write_text("50000")
    executor.apply([tree.intent("a", Knob.QUOTA, 40_000)])
    executor.restore()
    period_file = quota_file.parent / (tree.table(Knob.QUOTA).period_name or "")
    assert (quota_us(tree, "a"), period_file.read_text().split()[-1]) == (None, "50000")


def test_an_owner_who_writes_every_100_ms_is_left_alone(tree: KnobTree, executor: Executor) -> None:
    """As kubelet and runc do. Four writes are noticed; from then on the agent writes nothing there any more."""
    quota(tree, "a", 80_000)
    stop = threading.Event()

    def reconcile() -> None:
        while not stop.wait(0.1):
            quota_file = tree.file("a", Knob.QUOTA)
            quota_file.write_text("80000")

    owner = threading.Thread(target=reconcile)
    owner.start()
    try:
        seen = []
        for _ in range(12):
            seen.append(apply_one(executor, tree.intent("a", Knob.QUOTA, 60_000)).result)
            time.sleep(0.15)
            executor.watch()
        assert executor.knobs[tree.group("a").id, Knob.QUOTA] == KnobState(80_000, 80_000, is_foreign=True)
        assert seen[-1] is Result.FOREIGN
        assert seen.count(Result.APPLIED) == 4
    finally:
        stop.set()
        owner.join()
    assert executor.restore().items == ()
    assert quota_us(tree, "a") == 80_000


def test_what_is_left_alone_does_not_give_way_either(tree: KnobTree, executor: Executor) -> None:
    """The owner insists on his burst: a quota below it is refused by the kernel, in its words."""
    quota(tree, "a", 80_000)
    for number in range(5):
        executor.apply([tree.intent("a", Knob.BURST, 50_000)])
        tree.set("a", Knob.BURST, str(70_000 + number))
        executor.watch()
    lowered, burst = executor.apply([tree.intent("a", Knob.QUOTA, 60_000)])
    assert (lowered.result, lowered.kernel_text) == (Result.REFUSED, "Invalid argument")
    assert (burst.intent.knob, burst.result, burst.after) == (Knob.BURST, Result.FOREIGN, 70_003)
    assert tree.text("a", Knob.BURST) == "70004"


def test_what_gave_way_goes_back_when_the_owner_takes_the_obstacle_away(tree: KnobTree, executor: Executor) -> None:
    """An owner who raises the quota that we had lowered: the burst that had to be lowered with it is his again."""
    quota(tree, "a", 80_000)
    tree.set("a", Knob.BURST, "80000")
    executor.apply([tree.intent("a", Knob.QUOTA, 30_000)])
    quota(tree, "a", 90_000)
    foreign, burst = executor.watch()
    assert (foreign.intent.knob, foreign.result) == (Knob.QUOTA, Result.FOREIGN)
    assert (burst.intent.knob, burst.result, burst.after) == (Knob.BURST, Result.APPLIED, 80_000)
    assert executor.knobs == {}


def test_three_foreign_writes_in_a_minute_are_forgiven(tree: KnobTree, journal: Path) -> None:
    """And so is any number that is spread over more time."""
    now_ns = 0
    with Executor.open(tree.host, journal, lambda: now_ns) as executor:
        for number in range(12):
            assert apply_one(executor, tree.intent("a", Knob.QUOTA, 50_000)).result is Result.APPLIED
            quota(tree, "a", 60_000 + number)
            assert results(executor.watch()) == [Result.FOREIGN]
            now_ns += 20_100_000_000
        assert executor.knobs == {}


def test_the_agents_own_group_is_never_frozen(tree: KnobTree, journal: Path) -> None:
    if not tree.file("a", Knob.FREEZE).exists():
        pytest.skip("no freezer of groups of tests")
    (tree.group("a").path / "cgroup.procs").write_text(str(os.getpid()))
    try:
        with Executor.open(probe(), journal) as executor:
            outcomes = executor.apply([tree.intent(name, Knob.FREEZE, 1) for name in ("", "a")])
            assert [o.errno for o in outcomes] == [errno.EDEADLK] * 2
    finally:
        (tree.group("").path.parent / "cgroup.procs").write_text(str(os.getpid()))


def test_a_second_agent_is_refused_and_the_first_ones_process_named(tree: KnobTree, journal: Path) -> None:
    script = "import sys; from agent.cli.main import main; main(['restore', '--journal', sys.argv[1]])"
    with Executor.open(tree.host, journal) as executor:
        executor.apply([tree.intent("a", Knob.QUOTA, 50_000)])
        with pytest.raises(HostError, match=f"another agent enforces: process {os.getpid()}"):
            Executor.open(tree.host, journal)
        done = subprocess.run([sys.executable, "-c", script, str(journal)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"slackwater: {journal}: another agent enforces: process {os.getpid()}\n"
        assert quota_us(tree, "a") == 50_000
        executor.restore()


def test_one_that_cannot_be_put_back_stops_nothing_and_stays_on_record(
    tree: KnobTree, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one puts it back."""
    tree.make("b")
    found = tree.found()
    with Executor.open(tree.host, journal) as executor:
        executor.apply([tree.intent(name, Knob.QUOTA, 50_000) for name in ("a", "b")])
        with monkeypatch.context() as patch:
            stubborn = tree.group("a").id
            write = os.write

            def refuse(fd: int, data: bytes) -> int:
                directory = os.path.dirname(os.readlink(f"/proc/self/fd/{fd}"))
                if os.stat(directory).st_ino == stubborn:
                    raise OSError(errno.EPERM, "Operation not permitted")
                return write(fd, data)

            patch.setattr(os, "write", refuse)
            report = executor.restore()
        assert {item.path: item.fate for item in report.items} == {
            tree.path("a"): Fate.REFUSED,
            tree.path("b"): Fate.RESTORED,
        }
        assert not report.is_complete
    assert journal.exists()
    with Executor.open(tree.host, journal) as executor:
        assert [item.fate for item in executor.recovered.items] == [Fate.RESTORED]
    assert tree.found() == found
    assert not journal.exists()


def test_a_full_journal_stops_writes_but_no_restoring(
    tree: KnobTree, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be put on record is not written; the way back needs no record."""
    tree.make("b")
    found = tree.found()
    executor.apply([tree.intent("a", Knob.QUOTA, 50_000)])

    def refuse(self: Journal, record: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "_append", refuse)
    for name in ("a", "b"):
        outcome = apply_one(executor, tree.intent(name, Knob.QUOTA, 40_000))
        assert (outcome.result, outcome.errno) == (Result.REFUSED, errno.ENOSPC)
        assert outcome.kernel_text == "the journal cannot be written: No space left on device"
    assert quota_us(tree, "a") == 50_000
    assert executor.restore().is_complete
    assert tree.found() == found


def test_what_somebody_wrote_after_the_crash_stays_and_is_said(tree: KnobTree, journal: Path) -> None:
    with Executor.open(tree.host, journal) as executor:
        executor.apply([tree.intent("a", Knob.QUOTA, 50_000)])
    quota(tree, "a", 70_000)
    done = subprocess.run([SLACKWATER, "restore", "--journal", journal], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"foreign   {tree.path('a')} quota: 70000 was written by somebody else and stays" in done.stdout
    assert quota_us(tree, "a") == 70_000
    assert not journal.exists()


def test_killed_at_any_moment_every_knob_comes_back() -> None:
    """See tests/kernel/killed.py. SLACKWATER_KILL_ROUNDS: how often."""
    command = [sys.executable, "-m", "tests.kernel.killed", str(KILL_ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.stdout, done.stderr) == (f"{KILL_ROUNDS}\n", "")


# What users of others complain of. Numbers: issues of koordinator-sh/koordinator.


def test_issue_2326_a_burst_of_ten_quotas_is_refused_in_words_and_one_of_a_quota_is_taken(
    tree: KnobTree, executor: Executor
) -> None:
    quota(tree, "a", 50_000)
    ten = apply_one(executor, tree.intent("a", Knob.BURST, 500_000))
    assert (ten.result, ten.kernel_text) == (
        Result.REFUSED,
        "500000 us of burst is more than a quota of 50000 us allows",
    )
    assert apply_one(executor, tree.intent("a", Knob.BURST, 50_000)).result is Result.APPLIED


@pytest.mark.short
def test_issue_2778_a_raised_quota_can_be_lowered(tree: KnobTree, executor: Executor) -> None:
    """With a burst as high as the quota: the burst goes first, and comes back with the quota."""
    quota(tree, "a", 50_000)
    found = tree.found()
    executor.apply([tree.intent("a", Knob.QUOTA, 150_000), tree.intent("a", Knob.BURST, 150_000)])
    assert results(executor.apply([tree.intent("a", Knob.QUOTA, 60_000)])) == [Result.APPLIED, Result.APPLIED]
    assert (quota_us(tree, "a"), tree.text("a", Knob.BURST)) == (60_000, "60000")
    executor.apply([tree.intent("a", Knob.QUOTA, 50_000)])
    assert tree.found() == found
    assert executor.knobs == {}


def test_issue_2778_the_owners_burst_comes_back_when_his_quota_does(tree: KnobTree, executor: Executor) -> None:
    quota(tree, "a", 100_000)
    tree.set("a", Knob.BURST, "100000")
    found = tree.found()
    for us in (20_000, 60_000, 100_000):
        executor.apply([tree.intent("a", Knob.QUOTA, us)])
        assert tree.text("a", Knob.BURST) == str(us)
    assert tree.found() == found


def test_issue_2306_two_that_want_the_same_file_do_not_both_write_it(tree: KnobTree, executor: Executor) -> None:
    """Of two intents of one call the first counts and the other hears of it."""
    outcomes = executor.apply([tree.intent("a", Knob.QUOTA, us) for us in (50_000, 60_000, 50_000)])
    assert results(outcomes) == [Result.APPLIED, Result.REFUSED, Result.APPLIED]
    assert outcomes[1].kernel_text == "another intent of the same call sets it to 50000"
    assert quota_us(tree, "a") == 50_000


@pytest.mark.short
def test_issue_2723_a_childs_quota_does_not_defeat_its_parents(
    tree: KnobTree, executor: Executor, work_binary: Path
) -> None:
    """The child has more than the parent is to have: that is written, it throttles, and both come back."""
    tree.make("a/b")
    quota(tree, "a", 200_000)
    quota(tree, "a/b", 150_000)
    found = tree.found()
    assert apply_one(executor, tree.intent("a", Knob.QUOTA, 20_000)).result is Result.APPLIED
    workloads = Workloads(work_binary)
    try:
        workloads.start(tree.group("a/b"), -1, "spawn", 1, 1, 100_000).finish(lambda: None)
    finally:
        workloads.stop()
    assert tree.group("a").nr_throttled() + tree.group("a/b").nr_throttled() > 0
    executor.apply([tree.intent("a", Knob.QUOTA, 180_000)])
    assert quota_us(tree, "a/b") == 150_000
    executor.apply([tree.intent("a", Knob.QUOTA, 200_000)])
    assert tree.found() == found


def test_issue_395_a_new_group_can_have_any_cpu_below_one_that_was_narrowed(tree: KnobTree, executor: Executor) -> None:
    """As a container runtime makes it: with the CPUs of its specification. v2 takes that; v1 would not, so that there
    only groups without children are narrowed."""
    if not tree.has(Knob.CPUSET) or not tree.file("a", Knob.CPUSET).exists():
        pytest.skip("no cpuset of groups of tests")
    tree.make("a/old")
    outcomes = executor.apply([tree.intent(name, Knob.CPUSET, (0,)) for name in ("a", "a/old")])
    above = Result.UNSUPPORTED if tree.has(Knob.CPUSET) == 1 else Result.APPLIED
    assert results(outcomes) == [above, Result.APPLIED]
    tree.make("a/new")
    tree.set("a/new", Knob.CPUSET, "0-1")
    assert tree.text("a/new", Knob.CPUSET) == "0-1"
    assert tree.text("a/old", Knob.CPUSET) == "0"


def test_issue_696_and_1218_no_child_is_left_with_1000_us(tree: KnobTree, executor: Executor) -> None:
    """A parent that is lowered as far as can be: children without a quota get none, others keep their share of time."""
    tree.make("a/none")
    tree.make("a/some")
    quota(tree, "a", 100_000)
    tree.group("a/some").set_quota(50_000, period_us=10_000 * 5)
    found = tree.found()
    assert apply_one(executor, tree.intent("a", Knob.QUOTA, 10_000)).result is Result.APPLIED
    assert quota_us(tree, "a/none") is None
    assert quota_us(tree, "a/some") == (5_000 if tree.has(Knob.QUOTA) == 1 else 50_000)
    too_low = apply_one(executor, tree.intent("a", Knob.QUOTA, 1_000))
    if tree.has(Knob.QUOTA) == 1:
        assert too_low.kernel_text == "1000 us would leave a group below less than 1000 us"
    assert quota_us(tree, "a/some") == (5_000 if tree.has(Knob.QUOTA) == 1 else 50_000)
    executor.apply([tree.intent("a", Knob.QUOTA, 100_000)])
    assert tree.found() == found


def test_issue_2633_a_quota_is_never_taken_away(tree: KnobTree, executor: Executor) -> None:
    """Neither by an intent nor by what gives way: at no moment has the child no limit."""
    tree.make("a/b")
    quota(tree, "a", 90_000)
    quota(tree, "a/b", 80_000)
    outcome = apply_one(executor, tree.intent("a/b", Knob.QUOTA, None))
    assert (outcome.result, outcome.kernel_text) == (
        Result.REFUSED,
        "its owner set a quota of 80000 us, which is raised but never taken away",
    )
    unlimited, stop = [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            if quota_us(tree, "a/b") is None:
                unlimited.append(time.monotonic())

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for us in (30_000, 60_000, 20_000, 90_000) * 10:
            executor.apply([tree.intent("a", Knob.QUOTA, us)])
    finally:
        stop.set()
        looker.join()
    assert unlimited == []
    assert quota_us(tree, "a/b") == 80_000


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")], ids=["parent first", "child first"])
def test_issue_2047_parent_and_child_are_set_in_the_order_that_the_kernel_takes(
    tree: KnobTree, executor: Executor, names: tuple[str, str]
) -> None:
    """Whatever the order of the intents: down from the bottom up, up from the top down."""
    tree.make("a/b")
    quota(tree, "a", 100_000)
    quota(tree, "a/b", 100_000)
    for us in (50_000, 200_000, 100_000):
        outcomes = executor.apply([tree.intent(name, Knob.QUOTA, us) for name in names])
        assert results(outcomes) == [Result.APPLIED, Result.APPLIED]
    assert executor.knobs == {}


def test_issue_2591_a_manual_edit_stays(tree: KnobTree, executor: Executor) -> None:
    """It is not reverted at the next tick, nor at the end, nor by a later give-back."""
    quota(tree, "a", 100_000)
    executor.apply([tree.intent("a", Knob.QUOTA, 50_000)])
    quota(tree, "a", 77_000)
    assert results(executor.watch()) == [Result.FOREIGN]
    assert quota_us(tree, "a") == 77_000
    assert executor.restore().items == ()
    assert quota_us(tree, "a") == 77_000
