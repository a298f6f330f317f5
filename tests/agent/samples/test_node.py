"""agent.samples.node and agent.samples.own."""

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import HostError
from agent.samples.node import parse_meminfo, parse_root_is_read_only, parse_stat, read_node
from agent.samples.own import OwnCost, parse_statm, read_own_cost

TREES = Path(__file__).parents[2] / "trees"


def test_a_node_is_read_whole() -> None:
    node = read_node(2, TREES / "v2/proc", ticks_per_s=100)
    assert node.cpu_used_ns == (3766 + 100 + 1886 + 7 + 97) * 10_000_000  # no idle, iowait, steal, guest
    assert (node.cpus, node.memory_total_bytes, node.memory_available_bytes) == (2, 24684096 * 1024, 24375104 * 1024)
    assert (node.psi_cpu_some_us, node.psi_memory_some_us, node.psi_memory_full_us) == (4280968, 12, 7)
    assert (node.psi_io_some_us, node.psi_io_full_us) == (5186706, 5030654)


def test_without_psi_pressure_is_unknown() -> None:
    node = read_node(2, TREES / "v1/proc")
    assert (node.psi_cpu_some_us, node.psi_memory_full_us, node.psi_io_some_us) == (None, None, None)


def test_a_pressure_file_without_totals_is_unknown(tmp_path: Path) -> None:
    shutil.copytree(TREES / "v2/proc", tmp_path, dirs_exist_ok=True)
    (tmp_path / "pressure/io").write_text("")
    node = read_node(2, tmp_path)
    assert (node.psi_io_some_us, node.psi_io_full_us, node.psi_cpu_some_us) == (None, None, 4280968)


@pytest.mark.parametrize(("name", "text"), [("stat", "cpu 1 2\n"), ("meminfo", "MemTotal: 5 kB\n")])
def test_a_file_that_is_not_understood_is_an_error_that_names_it(tmp_path: Path, name: str, text: str) -> None:
    for other in ("stat", "meminfo"):
        (tmp_path / other).write_bytes((TREES / "v2/proc" / other).read_bytes())
    (tmp_path / name).write_text(text)
    with pytest.raises(HostError, match=f"{tmp_path}/{name}: "):
        read_node(2, tmp_path)


def test_a_missing_proc_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="stat: No such file or directory"):
        read_node(2, tmp_path)


def test_this_machines_counters_lie_between_a_reading_before_and_one_after() -> None:
    ticks_per_s = os.sysconf("SC_CLK_TCK")

    def used_ns() -> int:
        ticks = parse_stat(Path("/proc/stat").read_bytes())
        assert ticks is not None
        return ticks * 1_000_000_000 // ticks_per_s

    for _ in range(20):
        before = used_ns()
        node = read_node(os.cpu_count() or 1)
        assert before <= node.cpu_used_ns <= used_ns()
        assert 0 < node.memory_available_bytes <= node.memory_total_bytes


def test_own_cost_is_pages_of_statm_and_the_process_clock() -> None:
    assert read_own_cost(TREES / "v2/proc", lambda: 7, page_bytes=4096) == OwnCost(7, 393 * 4096)


def test_own_memory_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    assert read_own_cost(tmp_path, lambda: 7) == OwnCost(7, None)


def test_own_cost_grows_by_what_this_process_spends() -> None:
    before = read_own_cost()
    end_ns = time.process_time_ns() + 20_000_000
    ballast = bytearray(64 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    while time.process_time_ns() < end_ns:
        pass
    after = read_own_cost()
    assert after.cpu_ns - before.cpu_ns >= 20_000_000
    assert after.rss_bytes is not None
    assert before.rss_bytes is not None
    assert after.rss_bytes - before.rss_bytes >= 60 << 20


@given(st.binary())
def test_no_bytes_break_a_parser(data: bytes) -> None:
    parse_stat(data)
    parse_stat(b"cpu  " + data)
    parse_meminfo(b"MemTotal: 1 kB\nMemAvailable:" + data)
    parse_statm(data, 4096)


@pytest.mark.parametrize(
    ("line", "read_only"),
    [
        (b"28 1 254:0 / / ro,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n", False),
        (b"28 1 254:0 / / rw,relatime - ext4 /dev/vda1 ro\n", True),
        (b"28 1 254:0 / /srv rw - ext4 /dev/vda1 ro\n", None),
        (b"1 0 0:1 / / rw - rootfs rootfs rw\n28 1 254:0 / / rw - ext4 /dev/vda1 ro\n", True),
    ],
    ids=["a view of it, as a service has it", "the file system", "another one", "what is on top"],
)
def test_read_only_root_is_told_from_a_read_only_view_of_it(line: bytes, read_only: bool | None) -> None:
    assert parse_root_is_read_only(line) is read_only
