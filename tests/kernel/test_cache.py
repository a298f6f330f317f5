"""agent.actuators.cache on the kernel's own resctrl: what is written, what others do, what is given back."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.actuators import journal as journals
from agent.actuators.cache import CacheExecutor, Member, Moves, Partition
from agent.actuators.journal import Journal
from agent.actuators.report import Fate
from agent.actuators.resctrl import Resctrl
from agent.control import Intent, Knob, KnobValue, Outcome, Result, partition_id
from agent.records import Qos
from agent.units import NS_PER_S
from rdt.group import Group as RdtGroup
from rdt.group import Tree
from rdt.info import read
from rdt.layout import Range
from tests.kernel import workloads as cgroups
from tests.kernel.needs import needs
from tests.kernel.resctrl import LIMBO_S, ROOT, make, mounted, place, schemata, state, write
from tests.kernel.workloads import Workloads

pytestmark = needs("root", "resctrl", "resctrl:l3")

BOOT = "a boot"
LS, BE = partition_id(Qos.LS), partition_id(Qos.BE)
KILL_ROUNDS = int(os.environ.get("SLACKWATER_KILL_ROUNDS", "20"))
BREED, BREED_INTERVAL_US, BREED_S = 200, 1_000_000, 80


@dataclass
class Bench:
    """An executor, its journal, and what is told to it."""

    path: Path
    may_mount: bool = False
    options: tuple[str, ...] = ()
    now_ns: int = 0
    executor: CacheExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.journal = Journal(self.path, BOOT, journals.read(self.path, BOOT).all)
        self.begin()

    def begin(self) -> None:
        """With a new executor, as after a change of the configuration."""
        self.executor = CacheExecutor(
            self.journal, lambda: self.now_ns, mount_options=self.options, may_mount=self.may_mount
        )
        self.executor.partitions = {
            LS: Partition(LS, "LS", Range(50, 100, exclusive=True)),
            BE: Partition(BE, "BE", Range(0, 50)),
        }

    def apply(self, id: int, value: KnobValue, knob: Knob = Knob.CACHE_WAYS) -> Outcome:
        (outcome,) = self.apply_all(Intent(id, "", knob, value))
        return outcome

    def apply_all(self, *intents: Intent) -> tuple[Outcome, ...]:
        """Again while RMIDs of earlier tests are in the kernel's limbo."""
        end_s = time.monotonic() + LIMBO_S
        while True:
            outcomes = self.executor.apply(intents)
            if errno.EBUSY not in {outcome.errno for outcome in outcomes} or time.monotonic() > end_s:
                return outcomes
            time.sleep(0.2)

    def both(self) -> list[Result]:
        intents = Intent(LS, "LS", Knob.CACHE_WAYS, (50, 100)), Intent(BE, "BE", Knob.CACHE_WAYS, (0, 50))
        return [outcome.result for outcome in self.apply_all(*intents)]

    def watch(self) -> list[tuple[int, Result, str | None]]:
        return [(told.intent.group_id, told.result, told.kernel_text) for told in self.executor.watch()]

    def recover(self) -> list[Fate]:
        """As the next agent does, from the file alone."""
        left = journals.read(self.path, BOOT)
        record = Journal(self.path, BOOT, left.all)
        done = [told.fate for root in left.resctrl for told in Resctrl(record, Path(root)).give_back()]
        record.close()
        return done


@pytest.fixture
def root() -> Iterator[Path]:
    """A resctrl that is not ours, with a group of somebody's and a default group that is as its owner likes it."""
    with mounted() as root:
        if (read(root).closids or 0) < 4:
            pytest.skip("no room for two partitions beside somebody's group")
        make(root / "theirs")
        if (root / "mon_groups").is_dir():
            make(root / "mon_groups" / "watched")
        yield root


@pytest.fixture
def bench(journal: Path) -> Bench:
    return Bench(journal)


@pytest.fixture
def sleeper(workloads: Workloads) -> Iterator[Callable[[cgroups.Group], int]]:
    """Starts a process that does nothing in a group; its id."""
    started = []

    def start(group: cgroups.Group) -> int:
        started.append(workloads.start(group, -1, "exec", "sleep", 600).popen)
        return started[-1].pid

    yield start
    for popen in started:
        popen.kill()
        popen.communicate()


def masks(name: str, line: str = "L3") -> dict[int, int]:
    return {id: int(mask, 16) for id, mask in schemata(ROOT / name)[line].items()}


def eventually(attempt: Callable[[], bool], limit_s: float = LIMBO_S) -> None:
    end_s = time.monotonic() + limit_s
    while not attempt():
        assert time.monotonic() < end_s
        time.sleep(0.1)


@pytest.mark.short
def test_partitions_are_laid_out_and_given_back(root: Path, bench: Bench) -> None:
    """Exclusive ways are nobody else's, not even the default group's; None takes all of it away again."""
    before = state()
    assert bench.both() == [Result.APPLIED, Result.APPLIED]
    assert bench.executor.names == {LS: "slackwater-LS", BE: "slackwater-BE"}
    whole, devices = masks("theirs"), read(root).caches["L3"].shareable_bits
    for id, mask in masks("slackwater-LS").items():
        assert mask | masks("slackwater-BE")[id] | devices == whole[id]
        assert mask & masks("slackwater-BE")[id] == mask & masks("")[id] == 0
    assert bench.both() == [Result.UNCHANGED, Result.UNCHANGED]
    assert bench.apply(LS, None).result is Result.APPLIED
    assert masks("") == whole
    assert bench.apply(BE, None).result is Result.APPLIED
    assert state() == before
    assert (bench.executor.knobs, bench.executor.groups) == ({}, {})
    bench.journal.close()
    assert not bench.path.exists()


@needs("resctrl:mba")
def test_bandwidth_is_set_and_the_configured_ways_with_it(root: Path, bench: Bench) -> None:
    outcome = bench.apply(BE, 60, Knob.MEMORY_BANDWIDTH)
    assert (outcome.result, outcome.before, outcome.after) == (Result.APPLIED, None, 60)
    whole = schemata(root / "theirs")["MB"]
    wanted = {id: str(math.ceil(int(value) * 0.6)) for id, value in whole.items()}
    assert schemata(root / "slackwater-BE")["MB"] == wanted
    assert masks("slackwater-BE") != masks("theirs")
    assert bench.apply(BE, (0, 25)).result is Result.APPLIED
    assert bench.apply(BE, None, Knob.MEMORY_BANDWIDTH).result is Result.APPLIED
    assert schemata(root / "slackwater-BE")["MB"] == whole


def test_a_machine_without_bandwidth_says_so(root: Path, bench: Bench) -> None:
    if "MB" in schemata(root):
        pytest.skip("this one has it")
    outcome = bench.apply(BE, 50, Knob.MEMORY_BANDWIDTH)
    assert (outcome.result, outcome.kernel_text) == (
        Result.UNSUPPORTED,
        "this machine's bandwidth cannot be divided",
    )


def test_a_narrowed_default_group_comes_back_as_narrow(root: Path, bench: Bench) -> None:
    """Its owner had given it fewer ways: of these it keeps what exclusive ways leave."""
    assert write(root / "schemata", "L3:0=3f0") is None
    before = state()
    bench.both()
    assert masks("")[0] == 0x3F0 & ~masks("slackwater-LS")[0] & ~read(root).caches["L3"].shareable_bits
    assert [told.fate for told in bench.executor.restore()] == [Fate.RESTORED] * 3
    assert state() == before


def test_a_layout_that_cannot_be_is_refused_and_nothing_has_changed(root: Path, bench: Bench) -> None:
    bench.both()
    before = state()
    outcome = bench.apply(BE, (0, 75))
    assert outcome.result is Result.REFUSED
    assert "class slackwater-LS wants 50-100 % exclusive of L3" in (outcome.kernel_text or "")
    assert state() == before
    assert bench.executor.knobs[BE, Knob.CACHE_WAYS].current == (0, 50)


def test_out_of_closids_is_refused_until_one_is_free(root: Path, bench: Bench) -> None:
    """There is room for one of two: the first has it."""
    made = fill(root)
    made.pop().rmdir()
    ways = ((BE, (0, 50)), (LS, (50, 100)))
    first, second = bench.apply_all(*(Intent(id, "", Knob.CACHE_WAYS, range_) for id, range_ in ways))
    assert (first.result, second.result) == (Result.APPLIED, Result.REFUSED)
    assert "CLOSIDs" in (second.kernel_text or "")
    assert bench.executor.names == {BE: "slackwater-BE"}
    made.pop().rmdir()
    assert bench.both() == [Result.APPLIED, Result.UNCHANGED]


def test_of_partitions_that_do_not_fit_together_the_first_are_made(root: Path, bench: Bench) -> None:
    """Two workloads that want the same ways for themselves: one of them has them, and batch work has its own."""
    bench.executor.partitions = {
        BE: Partition(BE, "BE", Range(0, 50)),
        **{id: Partition(id, f"/web/{id}", Range(50, 100, exclusive=True)) for id in (7, 8)},
    }
    asked = ((BE, (0, 50)), (7, (50, 100)), (8, (50, 100)))
    outcomes = bench.apply_all(*(Intent(id, "", Knob.CACHE_WAYS, range_) for id, range_ in asked))
    assert [outcome.result for outcome in outcomes] == [Result.APPLIED, Result.APPLIED, Result.REFUSED]
    assert "class slackwater-8-8 wants 50-100 % exclusive" in (outcomes[-1].kernel_text or "")
    assert bench.executor.names == {BE: "slackwater-BE", 7: "slackwater-7-7"}


def fill(folder: Path) -> list[Path]:
    """Groups until there are no more."""
    made = [folder / "g0"]
    while (refusal := make(made[-1])) is None:
        made.append(folder / f"g{len(made)}")
    assert refusal.errno == errno.ENOSPC
    return made[:-1]


@needs("resctrl:monitor")
def test_out_of_rmids_is_refused_until_one_is_free(root: Path, bench: Bench) -> None:
    """All or nothing: there is one for the first of two."""
    made = fill(root / "mon_groups")
    outcome = bench.apply(BE, (0, 50))
    assert (outcome.result, outcome.errno) == (Result.REFUSED, errno.ENOSPC)
    assert "RMIDs" in (outcome.kernel_text or "")
    made.pop().rmdir()
    before = state()
    assert bench.both() == [Result.REFUSED] * 2
    assert state() == before
    made.pop().rmdir()
    assert bench.both() == [Result.APPLIED] * 2


def test_a_refusal_of_the_kernel_is_in_its_words_and_leaves_all_as_it_was(root: Path, bench: Bench) -> None:
    """Somebody's group is exclusive to the kernel, too: it takes the first of our masks and not the second."""
    bench.executor.partitions = {LS: Partition(LS, "LS", Range(50, 100)), BE: Partition(BE, "BE", Range(0, 50))}
    bench.apply(LS, (50, 100))
    others = {id: f"{mask & ~3:x}" for id, mask in masks("").items()}
    for name, value in (("", others), ("theirs", dict.fromkeys(others, "3"))):
        line = ";".join(f"{id}={mask}" for id, mask in value.items())
        assert write(root / name / "schemata", f"L3:{line}") is None
    if write(root / "theirs" / "mode", "exclusive"):
        pytest.skip("to be exclusive a group would have to be so in another cache, too")
    before = state()
    intents = [Intent(LS, "", Knob.CACHE_WAYS, (75, 100)), Intent(BE, "", Knob.CACHE_WAYS, (0, 50))]
    refused, _ = bench.executor.apply(intents)
    assert (refused.result, refused.errno, refused.after) == (Result.REFUSED, errno.EINVAL, (50, 100))
    assert "the kernel says" in (refused.kernel_text or "")
    assert state() == before


@pytest.mark.short
def test_a_group_that_somebody_removed_is_made_again(root: Path, bench: Bench) -> None:
    """Until it is too much: then the partition is left alone."""
    bench.both()
    for _ in range(bench.executor.foreign_writes_max):
        (root / "slackwater-BE").rmdir()
        assert bench.watch() == [(BE, Result.FOREIGN, "its group was removed")]
        assert (BE, Knob.CACHE_WAYS) not in bench.executor.knobs
        assert bench.apply(BE, (0, 50)).result is Result.APPLIED
    (root / "slackwater-BE").rmdir()
    assert bench.apply(BE, (0, 25)).result is Result.FOREIGN
    assert bench.executor.knobs[BE, Knob.CACHE_WAYS].is_foreign
    assert bench.apply(BE, (0, 50)).result is Result.FOREIGN
    assert bench.watch() == []
    assert not (root / "slackwater-BE").exists()
    assert bench.executor.names == {LS: "slackwater-LS"}


def test_schemata_that_somebody_wrote_are_his_until_it_is_decided_anew(root: Path, bench: Bench) -> None:
    """Of a group of ours, and of the default group."""
    bench.both()
    ours = masks("slackwater-BE")[0]
    assert write(root / "slackwater-BE" / "schemata", "L3:0=3") is None
    assert bench.apply(BE, (0, 25)).result is Result.FOREIGN
    assert masks("slackwater-BE")[0] == 3
    assert bench.watch() == []
    assert bench.apply(BE, (0, 50)).result is Result.APPLIED
    assert masks("slackwater-BE")[0] == ours
    assert write(root / "schemata", "L3:0=7") is None
    assert bench.watch() == [(LS, Result.FOREIGN, "somebody else wrote the default group's schemata")]
    assert bench.apply(LS, (50, 100)).result is Result.APPLIED
    assert write(root / "schemata", "L3:1=7") is None
    assert bench.apply(BE, (0, 25)).result is Result.APPLIED
    assert [id for id, _, _ in bench.watch()] == [LS]
    bench.executor.restore()
    assert masks("") == {**masks("theirs"), 0: 7, 1: 7}


def test_foreign_writes_are_forgiven_after_a_minute(root: Path, bench: Bench) -> None:
    bench.apply(BE, (0, 50))
    for mask in (1, 3, 7, 1, 3, 7):
        assert write(root / "slackwater-BE" / "schemata", f"L3:0={mask}") is None
        assert [result for _, result, _ in bench.watch()] == [Result.FOREIGN]
        assert bench.apply(BE, (0, 50)).result is Result.APPLIED
        bench.now_ns += 25 * NS_PER_S


@pytest.mark.short
def test_resctrl_that_is_unmounted_under_us_is_used_again_when_it_is_there(journal: Path) -> None:
    """Nothing is left on record; where we may, it is mounted."""
    bench = Bench(journal)
    with mounted():
        bench.both()
    assert bench.watch() == [(id, Result.FOREIGN, "resctrl was unmounted") for id in (LS, BE)]
    assert (bench.executor.knobs, bench.executor.groups) == ({}, {})
    assert journals.read(journal, BOOT).all == ()
    outcome = bench.apply(BE, (0, 50))
    assert (outcome.result, outcome.errno) == (Result.UNSUPPORTED, None)
    assert "no resctrl here: mount" in (outcome.kernel_text or "")
    with mounted():
        assert bench.both() == [Result.APPLIED] * 2
        bench.executor.restore()
        assert list(ROOT.glob("slackwater*")) == []


def test_a_cache_that_goes_off_line_and_comes_again_is_laid_out_again(root: Path, bench: Bench) -> None:
    """Without a word, since nobody wrote it: the kernel gives it to all."""
    bench.both()
    assert bench.watch() == []
    before = state()
    (*_, last) = masks("")
    files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index3/id")
    cpus = [file.parents[2] for file in files if int(file.read_text()) == last]
    try:
        for cpu in cpus:
            (cpu / "online").write_text("0")
        assert last not in masks("")
        assert bench.watch() == []
        assert bench.apply(BE, (0, 25)).result is Result.APPLIED
        assert bench.apply(BE, (0, 50)).result is Result.APPLIED
    finally:
        for cpu in cpus:
            (cpu / "online").write_text("1")
    assert masks("slackwater-BE")[last] == masks("theirs")[last]
    assert bench.watch() == []
    assert state() == before
    bench.executor.restore()
    assert masks("") == masks("theirs")


def test_what_cannot_be_put_on_record_is_not_done(root: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state()

    def refuse(self: Journal, record: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "_append", refuse)
    outcome = bench.apply(BE, (0, 50))
    assert (outcome.result, outcome.errno) == (Result.REFUSED, errno.ENOSPC)
    assert state() == before


def test_another_programs_lock_is_waited_for_shortly(root: Path, bench: Bench) -> None:
    """The loop goes on, and it can be tried again. What cannot be given back stays on record."""
    bench.apply(BE, (0, 50))
    before = state()
    folder = os.open(root, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    outcome = bench.apply(BE, (0, 25))
    told = bench.executor.restore()
    os.close(folder)
    assert outcome.result is Result.REFUSED
    assert "another program has held the lock" in (outcome.kernel_text or "")
    assert [each.fate for each in told] == [Fate.REFUSED]
    assert state() == before
    assert bench.apply(BE, (0, 25)).result is Result.APPLIED
    assert [each.fate for each in bench.executor.restore()] == [Fate.RESTORED]


def test_what_could_not_be_given_back_is_removed_before_anything_is_made(root: Path, bench: Bench) -> None:
    """Else its threads would stay in it: nobody looks for them there."""
    bench.both()
    before = state()
    folder = os.open(root, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    bench.executor.restore()
    os.close(folder)
    bench.begin()
    assert bench.both() == [Result.APPLIED] * 2
    assert state() == before


@pytest.mark.short
@needs("cgroup:cpu")
def test_threads_are_where_their_cgroup_belongs(
    root: Path, bench: Bench, tree: cgroups.Group, sleeper: Callable[[cgroups.Group], int]
) -> None:
    """Taken from the default group only: who is in somebody's group or counted apart stays. Who leaves goes back."""
    batch, service, other = tree.child("be"), tree.child("ls"), tree.child("other")
    inner = cgroups.Group(batch.path / "inner", batch.version)
    inner.path.mkdir()
    in_batch, in_inner, in_service, theirs, watched = map(sleeper, (batch, inner, service, batch, batch))
    assert write(root / "theirs" / "tasks", str(theirs)) is None
    monitors = (root / "mon_groups" / "watched").exists()
    if monitors:
        assert write(root / "mon_groups" / "watched" / "tasks", str(watched)) is None
    bench.executor.follow([member(batch, BE), member(service, LS)])
    assert bench.both() == [Result.APPLIED] * 2
    assert [place(pid) for pid in (in_batch, in_inner)] == [["slackwater-BE"]] * 2
    assert place(in_service) == ["slackwater-LS"]
    assert place(theirs) == ["theirs"]
    assert place(watched) == (["mon_groups/watched", "."] if monitors else ["slackwater-BE"])
    (service.path / "cgroup.procs").write_text(str(in_inner))
    (other.path / "cgroup.procs").write_text(str(in_batch))
    members = [member(batch, BE), member(service, LS), member(inner, LS)]
    assert bench.executor.follow(members) == Moves(taken=1)
    assert place(in_batch) == ["slackwater-BE"]
    assert bench.executor.follow(members) == Moves(returned=1)
    assert (place(in_inner), place(in_batch)) == (["slackwater-LS"], ["."])
    assert bench.executor.follow(members) == Moves()
    before = {pid: place(pid) for pid in (theirs, watched)}
    bench.executor.restore()
    assert place(in_service) == ["."]
    if monitors:
        assert {pid: place(pid) for pid in (theirs, watched)} == before


def member(group: cgroups.Group, partition: int) -> Member:
    return Member(group.id, str(group.path), partition, group.path)


@needs("cgroup:cpu")
def test_a_partition_whose_cgroup_goes_loses_its_group(root: Path, bench: Bench, tree: cgroups.Group) -> None:
    group = tree.child("batch job")
    before = state()
    bench.executor.partitions = {group.id: Partition(group.id, f"/x/{group.path.name}", Range(0, 50))}
    bench.executor.follow([member(group, group.id)])
    assert bench.apply(group.id, (0, 50)).result is Result.APPLIED
    assert bench.executor.names == {group.id: f"slackwater-batch-job-{group.id}"}
    bench.executor.follow([])
    assert state() == before
    assert bench.executor.knobs == {}


@needs("cgroup:cpu")
def test_no_task_is_left_behind_that_forks_while_it_is_moved(
    root: Path, bench: Bench, tree: cgroups.Group, workloads: Workloads
) -> None:
    """Hundreds of processes that fork and end: after a few ticks all are in their group, and stay."""
    breeders = tree.child("breeders")
    work = workloads.start(breeders, -1, "breed", BREED, BREED_INTERVAL_US, BREED_S)
    try:
        eventually(lambda: len(threads(breeders)) >= BREED, BREED_S / 2)
        bench.executor.follow([member(breeders, BE)])
        assert bench.both() == [Result.APPLIED] * 2
        ours = RdtGroup(Tree(root), "slackwater-BE")

        def has_all() -> bool:
            """A child whose birth began before its parent was moved comes late."""
            bench.executor.follow([member(breeders, BE)])
            return (threads(breeders) - ours.tasks()) & threads(breeders) == set()

        eventually(lambda: all(has_all() for _ in range(5)), BREED_S / 2)
    finally:
        (breeders.path / "cgroup.kill").write_text("1")
        work.popen.communicate()


def threads(group: cgroups.Group) -> set[int]:
    file = group.path / ("cgroup.threads" if group.version == 2 else "tasks")
    return set(map(int, file.read_text().split()))


@pytest.mark.short
def test_resctrl_that_we_mounted_is_unmounted(journal: Path) -> None:
    """Not while somebody uses it: a group of his, or a file that is open; then it stays on record."""
    before = state()
    bench = Bench(journal, may_mount=True)
    assert bench.executor.open() is None
    assert "resctrl slackwater rw" in state()
    assert bench.apply(BE, (0, 50)).result is Result.APPLIED
    make(ROOT / "theirs")
    assert [told.fate for told in bench.executor.restore()][-1] is Fate.REFUSED
    (ROOT / "theirs").rmdir()
    with (ROOT / "schemata").open():
        (told,) = bench.executor.restore()
        assert (told.fate, told.why) == (Fate.REFUSED, "[Errno 16] Device or resource busy")
    assert bench.recover() == [Fate.RESTORED]
    assert state() == before
    assert not journal.exists()


@needs("resctrl:cdp")
def test_it_is_mounted_as_configured(journal: Path) -> None:
    bench = Bench(journal, may_mount=True, options=("cdp",))
    assert bench.both() == [Result.APPLIED] * 2
    assert bench.executor.note is None
    assert {"L3CODE", "L3DATA"} <= set(schemata(ROOT / "slackwater-LS"))
    bench.executor.restore()
    assert not (ROOT / "info").exists()


@needs("resctrl:mbps")
def test_bandwidth_is_in_mib_per_s_where_it_is_mounted_so(journal: Path) -> None:
    bench = Bench(journal, may_mount=True, options=("mba_MBps",))
    assert bench.apply(BE, 2000, Knob.MEMORY_BANDWIDTH).result is Result.APPLIED
    assert set(schemata(ROOT / "slackwater-BE")["MB"].values()) == {"2000"}
    bench.executor.restore()


def test_options_that_the_machine_has_not_are_refused_in_words(journal: Path) -> None:
    bench = Bench(journal, may_mount=True, options=("cdpl2", "mba_MBps", "cdp"))
    outcome = bench.apply(BE, (0, 50))
    assert (outcome.result, outcome.errno) == (Result.REFUSED, errno.EINVAL)
    assert "mount -o cdpl2,mba_MBps,cdp: Invalid argument" in (outcome.kernel_text or "")
    assert journals.read(journal, BOOT).all == ()


def test_a_mount_of_somebodys_is_used_as_it_is(root: Path, journal: Path) -> None:
    """With other options than ours, which is said; it is not unmounted."""
    bench = Bench(journal, may_mount=True, options=("cdp",))
    assert bench.both() == [Result.APPLIED] * 2
    assert bench.executor.note == ("resctrl is mounted with other options than configured (none), and is used as it is")
    bench.executor.restore()
    assert (root / "theirs").is_dir()


def test_a_mount_that_somebody_made_after_ours_is_his(journal: Path) -> None:
    bench = Bench(journal, may_mount=True)
    bench.both()
    subprocess.run(["umount", ROOT], check=True)
    with mounted():
        make(ROOT / "theirs")
        assert bench.recover() == [Fate.AS_FOUND, Fate.FOREIGN]
        assert (ROOT / "theirs").is_dir()
    assert not journal.exists()


def test_an_executor_that_is_killed_at_any_moment_leaves_nothing_behind(tmp_path: Path) -> None:
    """See tests/kernel/killed_cache.py. SLACKWATER_KILL_ROUNDS: how often."""
    command = [sys.executable, "-m", "tests.kernel.killed_cache", str(KILL_ROUNDS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    *wrong, summary = done.stdout.splitlines()
    assert wrong == []
    assert int(summary.split()[3]) >= KILL_ROUNDS // 4, summary
