"""`slackwater snapshot --json` on this kernel: the shape is kept, and the figures are those of the processes."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.needs import needs
from tests.kernel.workloads import Group, Process, Workloads, own_tree
from tests.system.command import (
    SLACKWATER,
    TIMEOUT_S,
    config_file,
    document,
    end,
    idle,
    slackwater,
    wait_until_attached,
)

pytestmark = [needs("root", "bpf", "cgroup:cpu", "cpus:2"), pytest.mark.slow, pytest.mark.alone]

SECONDS = 3
WAIT = {
    "count": int,
    "sum_ns": int,
    "contention_ns": int,
    "throttle_ns": int,
    "p50_ns": int,
    "p95_ns": int,
    "p99_ns": int,
    "max_ns": int,
}
SHAPE = {
    "schema": int,
    "seconds": float,
    "source": str,
    "lost_samples": int,
    "sampling": int,
    "groups": [
        {
            "id": int,
            "path": str,
            "class": str,
            "cpu_used_cores": float,
            "wait": WAIT,
            "throttle": {"events": int, "sum_ns": int, "p99_ns": int},
        }
    ],
    "culprits": [{"victim_id": int, "culprit_id": int, "wait_ns": int}],
}
NEVER_NULL = {"schema", "seconds", "source", "lost_samples", "sampling", "id", "path", "class", "victim_id"}


def differences(value: Any, shape: Any, where: str = "") -> list[str]:
    """Places where `value` is not of `shape`; more keys are welcome, null is unknown."""
    if isinstance(shape, list):
        return [line for i, item in enumerate(value) for line in differences(item, shape[0], f"{where}[{i}]")]
    if isinstance(shape, dict):
        missing = [f"{where}.{key} is missing" for key in shape.keys() - value.keys()]
        return missing + [
            line
            for key in shape.keys() & value.keys()
            for line in differences(value[key], shape[key], f"{where}.{key}")
        ]
    if value is None and where.rpartition(".")[2] not in NEVER_NULL:
        return []
    return [] if type(value) is shape else [f"{where} is {value!r}"]


@dataclass
class Truth:
    """What the kernel says of one process, read from outside and from inside of the time of the snapshot."""

    process: Process
    group: Group
    outer: list[tuple[int, int, int]] = field(default_factory=list)
    inner: list[tuple[int, int, int]] = field(default_factory=list)

    def read(self) -> tuple[int, int, int]:
        """run_ns, wait_ns, nr_throttled."""
        run_ns, wait_ns = map(int, Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[:2])
        return run_ns, wait_ns, self.group.nr_throttled()

    def holds(self, column: int, value: float, slack: float) -> bool:
        """What grew inside <= value <= what grew outside, but for `slack`."""
        low = self.inner[1][column] - self.inner[0][column]
        high = self.outer[1][column] - self.outer[0][column]
        return low - slack <= value <= high + slack


@dataclass
class Shown:
    """The document of one snapshot of known work, and the truth."""

    document: dict[str, Any]
    ids: dict[str, int]
    truths: dict[str, Truth]
    late_run_ns: int

    def group(self, name: str) -> dict[str, Any]:
        (found,) = [group for group in self.document["groups"] if group["id"] == self.ids[name]]
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def shown(work_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """a and b share CPU 0; `quota` has a fifth of CPU 1; `late` is born meanwhile, `brief` is born and removed."""
    rules = "".join(
        f'[[class]]\nmatch = "/slackwater-test-*/{n}"\nclass = "{c}"\n' for n, c in (("a", "LSR"), ("b", "BE"))
    )
    config = config_file(tmp_path_factory.mktemp("config"), rules)
    workloads = Workloads(work_binary)
    with own_tree(os.getpid()) as tree:
        try:
            return measure(tree, workloads, config)
        finally:
            workloads.stop()


def measure(tree: Group, workloads: Workloads, config: Path) -> Shown:
    groups = {name: tree.child(name) for name in ("a", "b", "quota")}
    groups["quota"].set_quota(20_000)
    truths = {
        name: Truth(workloads.start(group, 1 if name == "quota" else 0, "loop", 60), group)
        for name, group in groups.items()
    }
    for truth in truths.values():
        truth.outer.append(truth.read())
    command = [SLACKWATER, "snapshot", "--seconds", str(SECONDS), "--json", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as snapshot:
        wait_until_attached(snapshot.pid)
        time.sleep(SECONDS / 4)
        for truth in truths.values():
            truth.inner.append(truth.read())
        groups |= {name: tree.child(name) for name in ("late", "brief")}
        ids = {name: group.id for name, group in groups.items()}
        late = workloads.start(groups["late"], 0, "loop", 0.4)
        brief = workloads.start(groups["brief"], 0, "loop", 0.2)
        brief.finish(idle)
        groups["brief"].remove()
        late.finish(idle)
        for truth in truths.values():
            truth.inner.append(truth.read())
        assert snapshot.poll() is None, "the machine is too slow: the snapshot ended before the work"
        output, _ = snapshot.communicate(timeout=TIMEOUT_S)
    for truth in truths.values():
        truth.outer.append(truth.read())
    for truth in truths.values():
        end(truth.process)
    return Shown(document(output), ids, truths, late.ran_ns)


def test_the_document_has_the_shape_that_is_kept(shown: Shown) -> None:
    assert differences(shown.document, SHAPE) == []
    assert (shown.document["schema"], shown.document["source"], shown.document["sampling"]) == (1, "bpf", 1)
    assert shown.document["lost_samples"] == 0
    assert shown.document["seconds"] == pytest.approx(SECONDS, abs=1)


def test_paths_are_relative_to_the_hierarchy_and_classes_come_from_the_rules(shown: Shown) -> None:
    tree = f"/slackwater-test-{os.getpid()}"
    assert [(shown.group(name)["path"], shown.group(name)["class"]) for name in ("a", "b", "quota")] == [
        (f"{tree}/a", "LSR"),
        (f"{tree}/b", "BE"),
        (f"{tree}/quota", "SYSTEM"),
    ]


@pytest.mark.parametrize("name", ["a", "b", "quota"])
def test_cores_used_are_the_run_time_of_the_processes(shown: Shown, name: str) -> None:
    used_ns = shown.group(name)["cpu_used_cores"] * shown.document["seconds"] * 1e9
    assert shown.truths[name].holds(0, used_ns, 20e6)


@pytest.mark.parametrize("name", ["a", "b", "quota"])
def test_the_wait_is_that_of_the_processes_and_the_sum_of_its_parts(shown: Shown, name: str) -> None:
    wait = shown.group(name)["wait"]
    assert shown.truths[name].holds(1, wait["sum_ns"], 100e6)
    assert wait["sum_ns"] == wait["contention_ns"] + wait["throttle_ns"]
    assert wait["p50_ns"] <= wait["p95_ns"] <= wait["p99_ns"] <= wait["max_ns"] <= wait["sum_ns"]


def test_a_loop_with_a_quota_waits_for_its_quota(shown: Shown) -> None:
    """Nearly alone on its CPU: this machine may have other work (how near: tests/kernel/test_throttle.py)."""
    quota = shown.group("quota")
    assert quota["wait"]["throttle_ns"] >= 0.8 * quota["wait"]["sum_ns"]
    assert quota["cpu_used_cores"] <= 0.25
    assert shown.truths["quota"].holds(2, quota["throttle"]["events"], 1)
    assert 0 < quota["throttle"]["p99_ns"] <= quota["throttle"]["sum_ns"]
    assert [shown.group(name)["wait"]["throttle_ns"] for name in ("a", "b")] == [0, 0]
    assert shown.group("a")["throttle"] == {"events": 0, "sum_ns": 0, "p99_ns": None}


@pytest.mark.parametrize(("victim", "culprit"), [("a", "b"), ("b", "a")])
def test_two_loops_on_one_cpu_are_each_others_culprit(shown: Shown, victim: str, culprit: str) -> None:
    """Of what others on this machine had of the CPU nothing is said here, but it is in the sum."""
    pairs = {
        pair["culprit_id"]: pair["wait_ns"]
        for pair in shown.document["culprits"]
        if pair["victim_id"] == shown.ids[victim]
    }
    group = shown.group(victim)
    assert sum(pairs.values()) == pytest.approx(group["wait"]["contention_ns"], rel=0.01)
    assert group["main_culprit"]["id"] == max(pairs, key=pairs.__getitem__)
    ours = {name: pairs.get(id, 0) for name, id in shown.ids.items()}
    assert ours[culprit] >= 0.75 * sum(ours.values()), "late and brief took a part"
    assert ours["quota"] == 0, "it has the other CPU"


def test_a_group_born_meanwhile_has_the_cores_that_it_used(shown: Shown) -> None:
    used_ns = shown.group("late")["cpu_used_cores"] * shown.document["seconds"] * 1e9
    assert used_ns == pytest.approx(shown.late_run_ns, rel=0.05, abs=2e6)


def test_a_group_born_and_removed_meanwhile_is_there(shown: Shown) -> None:
    brief = shown.group("brief")
    assert brief["path"] == f"/slackwater-test-{os.getpid()}/brief"
    assert brief["wait"]["count"] > 0
    assert brief["cpu_used_cores"] is None, "its account went with it: unknown, not 0"


def test_without_bpf_the_waits_are_those_of_schedstat(work_binary: Path, tmp_path: Path) -> None:
    """source cgroupfs: the same sums; no percentile and no culprit is made up."""
    config = config_file(tmp_path, "probe.enabled = false")
    workloads = Workloads(work_binary)
    with own_tree(os.getpid()) as tree:
        try:
            truths = [
                Truth(workloads.start(group, 0, "loop", 60), group) for group in (tree.child("a"), tree.child("b"))
            ]
            before = [truth.read() for truth in truths]
            begin_s = time.monotonic()
            result = slackwater("snapshot", "--seconds", "2", "--json", "--config", config)
            elapsed_s = time.monotonic() - begin_s
            after = [truth.read() for truth in truths]
            for truth in truths:
                end(truth.process)
        finally:
            workloads.stop()
        ids = [truth.group.id for truth in truths]
    found = document(result.stdout)
    assert differences(found, SHAPE) == []
    assert (found["source"], found["culprits"]) == ("cgroupfs", [])
    assert found["lost_samples"] == found["agent"]["vanished_threads"], "those of other processes"
    outside_ns = (elapsed_s - found["seconds"]) * 1e9
    for id, first, last in zip(ids, before, after, strict=True):
        (group,) = [group for group in found["groups"] if group["id"] == id]
        waited_ns = last[1] - first[1]
        assert waited_ns - outside_ns - 50e6 <= group["wait"]["sum_ns"] <= waited_ns
        used_ns = group["cpu_used_cores"] * found["seconds"] * 1e9
        assert last[0] - first[0] - outside_ns - 50e6 <= used_ns <= last[0] - first[0] + 50e6
        assert {group["wait"][key] for key in WAIT if key not in ("count", "sum_ns")} == {None}
        assert group["main_culprit"] is None
