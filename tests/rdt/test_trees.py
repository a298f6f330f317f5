"""Every kind of machine's resctrl: read without an error, and printed again byte by byte."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rdt import info, layout, monitor, schemata
from rdt.__main__ import main
from rdt.errors import Gone, Invalid, NoLayout, NotMounted, OutOfClosids, OutOfRmids, Refused, Unreadable
from rdt.group import Group, Tree, checked
from rdt.layout import Class, Range
from rdt.monitor import Absent
from tests.rdt import trees


@pytest.fixture(params=trees.NAMES)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(trees.unpack(request.param, tmp_path))


def of(name: str, tmp_path: Path) -> Tree:
    return Tree(trees.unpack(name, tmp_path))


def test_there_are_ten_kinds_and_more() -> None:
    assert len(trees.NAMES) >= 10
    assert set(trees.NAMES) >= trees.FROM_DOCUMENTATION


@pytest.mark.parametrize("name", trees.NAMES)
def test_schemata_and_sizes_round_trip(name: str) -> None:
    """Every schemata file; `size` has the same form."""
    found = [text for path, text in trees.files(name).items() if Path(path).name in {"schemata", "size"}]
    assert found
    for text in found:
        assert schemata.text(schemata.parse(text)) == text


def test_info_agrees_with_schemata(tree: Tree) -> None:
    """Each line has its folder; what the groups have now could be set again."""
    offered = info.read(tree.root)
    for group in tree.groups():
        if not (group.path / "schemata").exists():
            continue
        found = group.schemata()
        assert set(found) <= set(offered.resources)
        if group.read("mode").strip() in {"shareable", "exclusive"} and group.name != "p0":
            assert checked(found, found, offered, "") == found


def test_layout_is_found_on_every_machine(tree: Tree) -> None:
    """Half of each cache for one class alone, the rest for another, or the reason why not."""
    offered, domains = info.read(tree.root), tree.group().schemata()
    caches = sorted(set(map(schemata.level, offered.caches)))
    ls = Class("ls", {name: Range(0, 50, exclusive=True) for name in caches})
    be = Class("be", {name: Range(50, 100) for name in caches})
    if offered.closids is None or offered.closids < 3:
        with pytest.raises(NoLayout, match="2 classes do not fit" if offered.closids else "counters only"):
            layout.solve(offered, domains, [ls, be])
        return
    found = layout.solve(offered, domains, [ls, be])
    for values in found.values():
        assert checked(values, domains, offered, "") == values


def test_counters_have_values_or_words(tree: Tree) -> None:
    if info.read(tree.root).monitoring is None:
        return
    for group in tree.groups():
        for events in monitor.read(group).values():
            assert all(isinstance(value, int | Absent) for value in events.values())


def test_command_prints_every_machine(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """For a person and for a program."""
    root = ["--root", str(tree.root)]
    commands = [["info"], ["groups"], ["show"]]
    if info.read(tree.root).monitoring:
        commands.append(["monitor", "--count", "2", "--interval", "0.01"])
    for command in commands:
        assert main([*command, *root]) == 0
        assert capsys.readouterr().out
        assert main([*command, *root, "--json"]) == 0
        for line in capsys.readouterr().out.splitlines():
            assert json.loads(line)


def test_facts_of_a_machine_with_all(tmp_path: Path) -> None:
    """AMD with counters that are assigned: units, modes, configurations."""
    offered = info.read(of("abmc", tmp_path).root)
    assert offered.caches["L3"].sparse_masks
    assert offered.bandwidths["MB"].unit == info.EIGHTHS_OF_GBPS
    assert offered.bandwidths["MB"].maximum == 2048
    assert offered.monitoring is not None
    assert offered.monitoring.events == ("llc_occupancy", "mbm_total_bytes", "mbm_local_bytes")
    assert offered.monitoring.mbm_assign_mode == "mbm_event"
    assert offered.monitoring.num_mbm_cntrs == {0: 32, 1: 32}
    assert offered.monitoring.event_configs["mbm_local_bytes"] == {0: 0x15, 1: 0x15}
    assert offered.closids == 16


def test_mask_of_too_few_ways_is_refused(tmp_path: Path) -> None:
    """Haswell wants two; of a mask with gaps the kernel counts the first run."""
    tree = of("haswell", tmp_path)
    offered, found = info.read(tree.root), tree.group().schemata()
    with pytest.raises(Invalid, match="at least 2 bits in a row"):
        checked({"L3": {0: 0b1}}, found, offered, "")
    assert checked({"L3": {0: 0b11}}, found, offered, "") == {"L3": {0: 0b11}}


def test_words_instead_of_numbers_are_values(tmp_path: Path) -> None:
    found = monitor.read(of("abmc", tmp_path).group())
    assert found[0]["mbm_total_bytes"] is Absent.UNASSIGNED
    assert found[0]["mbm_local_bytes"] is Absent.ERROR
    assert found[1]["mbm_local_bytes"] is Absent.UNAVAILABLE


def test_nodes_of_a_cache_are_summed_by_the_kernel(tmp_path: Path) -> None:
    """With sub-NUMA clusters the folder of the cache has the sum; the folders of the nodes are not counters."""
    found = monitor.read(of("snc", tmp_path).group())
    assert found[1] == {"llc_occupancy": 7000, "mbm_total_bytes": 63000, "mbm_local_bytes": 28000}


@pytest.mark.parametrize(
    ("before", "now", "grown"),
    [
        (5, 9, 4),
        (5, 5, 0),
        (900, 5, None),
        ((1 << 64) - 10, 5, 15),
        (None, 5, None),
        (Absent.UNAVAILABLE, 5, None),
        (5, Absent.ERROR, None),
    ],
    ids=["grown", "not grown", "reset", "wrap", "first", "was absent", "is absent"],
)
def test_growth_is_known_or_none(before: int | Absent | None, now: int | Absent, grown: int | None) -> None:
    assert monitor.growth(before, now) == grown


def test_number_that_is_none_is_unreadable(tmp_path: Path) -> None:
    tree = of("l3-7.x", tmp_path)
    (tree.root / "info/L3/num_closids").write_text("many\n")
    with pytest.raises(Unreadable, match=r"num_closids: many: not a number"):
        info.read(tree.root)


def test_mount_options_are_those_of_the_root() -> None:
    """Of this mount of resctrl and of no other, whatever their paths are made of."""
    mountinfo = (
        b"35 25 0:7 /\xff\xe2\x80\xa8\r\x0b /mnt/\xe2\x80\xa8 rw - ext4 /dev/sda1 rw\n"
        b"36 25 0:31 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw,cdp,mba_MBps\n"
        b"37 25 0:32 / /mnt rw - tmpfs tmpfs rw,size=1k\n"
    )
    assert info.mount_options(mountinfo, info.DEFAULT_ROOT) == {"cdp", "mba_MBps"}
    assert info.mount_options(mountinfo, Path("/mnt")) == frozenset()


def test_nothing_mounted_is_said_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotMounted):
        info.read(tmp_path)
    for command in ("info", "groups", "show"):
        assert main([command, "--root", str(tmp_path)]) == 1
        assert capsys.readouterr().err == (
            f"python -m rdt: {tmp_path}: no resctrl here: mount -t resctrl resctrl {tmp_path}\n"
        )


@pytest.mark.parametrize("name", ["info", "a/b", "mon_groups", "", "..", "x\ny", "batch/mon_data/web"])
def test_name_that_cannot_be_a_group_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not a name of a group"):
        of("l3-7.x", tmp_path).create(name)


@pytest.mark.parametrize(
    ("words", "errno_", "kind"),
    [
        ("Out of RMIDs\nOut of CLOSIDs\n", errno.ENOSPC, OutOfClosids),
        ("Out of CLOSIDs\nOut of RMIDs\n", errno.ENOSPC, OutOfRmids),
        ("Out of RMIDs\n", errno.EBUSY, OutOfRmids),
    ],
)
def test_what_ran_out_is_what_the_kernel_said_last(
    words: str, errno_: int, kind: type[Refused], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno_, os.strerror(errno_))

    tree = of("l3-6.1", tmp_path)
    (tree.root / "info" / "last_cmd_status").write_text(words)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(kind) as caught:
        tree.create("web")
    assert caught.value.errno == errno_


def test_group_that_is_not_there_is_gone(tmp_path: Path) -> None:
    tree = of("l3-7.x", tmp_path)
    with pytest.raises(Gone, match="nowhere/tasks: no such group"):
        tree.group("nowhere").tasks()
    assert [group.name for group in tree.groups()] == ["", "batch"]


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        (["L3=0-50%"], "L3:0=3f;1=3f\n"),
        (["L3=25%", "MB=35%"], "L3:0=7;1=7\nMB:0=40;1=40\n"),
        (["L3:1=f0"], "L3:1=f0\n"),
        (["MB:0=10;1=20"], "MB:0=10;1=20\n"),
    ],
)
def test_setting_is_written_as_one_text(
    settings: list[str], written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[str] = []
    monkeypatch.setattr(Group, "_put", lambda group, file, text: put.append(text))
    main(["set", "batch", *settings, "--root", str(of("l3-7.x", tmp_path).root)])
    assert put == [written]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ["set", "batch", "L3=half"],
            "L3=half: not a setting (allowed: L3:0=3f;1=3f, L3=0-50%, MB=40% or MB=2000MiB/s)",
        ),
        (
            ["set", "batch", "L3:0=5"],
            "L3:0=5: not on this machine (allowed: bits in one row, this machine takes no gaps)",
        ),
        (["set", "batch", "L3:0=1fff"], "L3:0=1fff: not on this machine (allowed: bits of fff)"),
        (["set", "batch", "L3:7=1"], "L3:7=1: no such cache id (allowed: 0 1)"),
        (["set", "batch", "L2:0=1"], "L2: no such resource (allowed: MB L3)"),
        (["set", "batch", "MB:0=5"], "MB:0=5: not on this machine (allowed: 10 to 100, in percent)"),
        (["set", "batch", "L3=50-20%"], "50-20 %: class L3=50-20%: L3 (allowed: 0 <= start < end <= 100 %)"),
        (["assign", "batch"], "nothing to move (allowed: PID or --cgroup FOLDER)"),
        (["assign", "batch", "--cgroup", "/nowhere"], "/nowhere: no such cgroup"),
        (["assign", "batch", "99999999"], "99999999: no such process"),
    ],
)
def test_bad_command_is_one_line(
    arguments: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = of("l3-7.x", tmp_path)
    assert main([*arguments, "--root", str(tree.root)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("python -m rdt: ")
    assert said.endswith(f"{why}\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("option", ["--interval", "--count"])
def test_interval_and_count_are_above_0(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["monitor", option, "-1"])
    assert caught.value.code == 2
    assert f"argument {option}: -1: allowed is a number above 0" in capsys.readouterr().err


def test_package_needs_the_standard_library_only() -> None:
    """All of it is imported where nothing else can be found."""
    script = (
        "import sys, pkgutil, importlib, rdt\n"
        "for module in pkgutil.iter_modules(rdt.__path__): importlib.import_module(f'rdt.{module.name}')\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    folder = Path(info.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(folder)!r})\n{script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) <= {"rdt", "__main__"}
