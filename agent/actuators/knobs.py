"""The table of knobs: which file it is on cgroup v1 and v2, what it may hold, how that is read and written. Pure.

Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/{cpusets,freezer-subsystem}.rst, scheduler/sched-bwc.rst;
tg_set_cfs_bandwidth and sched_group_set_idle in kernel/sched/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from agent.control import Knob, KnobValue
from agent.units import parse_cpus

QUOTA_US_MIN = 1_000
"""Of a quota and of a period. Source: min_cfs_quota_period."""
QUOTA_US_MAX = (1 << 44) - 1
"""Of a quota, and of a quota and its burst together. Source: max_cfs_runtime."""
WEIGHT_MIN, WEIGHT_DEFAULT, WEIGHT_MAX = 1, 100, 10_000
_SHARES_DEFAULT = 1_024
_FILE_BYTES_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class KnobFile:
    """One knob on one version of cgroups.

    Its text is the file's first word: all there is, but for cpu.max, whose second word is the owner's. Texts are what
    is compared, kept and put back; `parse` and `format` make a value of one (ValueError) and one of a value.
    """

    controller: str
    """Whose hierarchy it is in on v1: cpu, cpuset or freezer, as the fields of agent.host.Host."""
    name: str
    parse: Callable[[str], KnobValue]
    format: Callable[[KnobValue], str]
    set_by: str | None = None
    """The file that is written, where it is not the one that is read."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What is written for a text, where that is not the text."""
    period_name: str | None = None
    by_idle: tuple[str, ...] = ()
    """What the kernel itself puts there: while cpu.idle is 1 (0 up to 6.1, 1 later), and when it is 0 again."""

    def content(self, text: str) -> bytes:
        """What to write. An empty list of CPUs takes a newline: to write nothing is no write."""
        return (self.words.get(text, text) or "\n").encode()


def text_of(data: bytes) -> str:
    """The text of a knob in what was read of its file."""
    return data[:_FILE_BYTES_MAX].decode("ascii", "replace").partition(" ")[0].strip()


def allowed(knob: Knob, value: KnobValue) -> str | None:
    """What a value of this knob may be, if `value` is not; None: it may be."""
    if knob is Knob.CPUSET:
        good = isinstance(value, tuple) and all(type(cpu) is int and cpu >= 0 for cpu in value)
        return None if good and list(value) == sorted(set(value)) else "CPU numbers, ascending"  # type: ignore[arg-type]
    if knob is Knob.QUOTA and value is None:
        return None
    low, high = _RANGES[knob]
    return None if type(value) is int and low <= value <= high else f"{low} to {high}"


_RANGES = {
    Knob.QUOTA: (QUOTA_US_MIN, QUOTA_US_MAX),
    Knob.BURST: (0, QUOTA_US_MAX),
    Knob.WEIGHT: (WEIGHT_MIN, WEIGHT_MAX),
    Knob.IDLE: (0, 1),
    Knob.FREEZE: (0, 1),
}


def knob_file(knob: Knob, version: int) -> KnobFile:
    return _FILES[knob, version]


# 50000 100000
# max 100000
def parse_period_us(data: bytes) -> int:
    """Of cpu.max, whose second word it is, or of cpu.cfs_period_us. Raises ValueError."""
    return _whole(data.decode("ascii", "replace").rpartition(" ")[2].strip())


def _parse_quota(text: str) -> KnobValue:
    return None if text in ("max", "-1") else _whole(text)


def _format_cpu_max(value: KnobValue) -> str:
    return "max" if value is None else str(value)


def _format_cfs_quota(value: KnobValue) -> str:
    return "-1" if value is None else str(value)


def _parse_shares(text: str) -> KnobValue:
    return max(WEIGHT_MIN, _rounded(_whole(text) * WEIGHT_DEFAULT, _SHARES_DEFAULT))


def _format_shares(value: KnobValue) -> str:
    """As the kernel makes shares of a weight (sched_weight_from_cgroup), so that reading it gives the weight again."""
    assert isinstance(value, int)
    return str(_rounded(value * _SHARES_DEFAULT, WEIGHT_DEFAULT))


def _rounded(number: int, divisor: int) -> int:
    return (number + divisor // 2) // divisor


def _format_cpus(value: KnobValue) -> str:
    """As the kernel prints it (%*pbl)."""
    assert isinstance(value, tuple)
    runs = []
    for _, run in groupby(enumerate(value), key=lambda pair: pair[1] - pair[0]):
        first, *rest = [cpu for _, cpu in run]
        runs.append(f"{first}-{rest[-1]}" if rest else str(first))
    return ",".join(runs)


def _parse_weight(text: str) -> KnobValue:
    return max(WEIGHT_MIN, _whole(text))


def _parse_whole(text: str) -> KnobValue:
    return _whole(text)


def _format_whole(value: KnobValue) -> str:
    return str(value)


def _whole(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise ValueError(f"{digits!r} is not a whole number")
    return int(digits)


def _plain(controller: str, name: str) -> KnobFile:
    return KnobFile(controller, name, _parse_whole, _format_whole)


_CPUS = KnobFile("cpuset", "cpuset.cpus", parse_cpus, _format_cpus)
_FILES = {
    (Knob.QUOTA, 1): KnobFile(
        "cpu", "cpu.cfs_quota_us", _parse_quota, _format_cfs_quota, period_name="cpu.cfs_period_us"
    ),
    (Knob.QUOTA, 2): KnobFile("cpu", "cpu.max", _parse_quota, _format_cpu_max, period_name="cpu.max"),
    (Knob.BURST, 1): _plain("cpu", "cpu.cfs_burst_us"),
    (Knob.BURST, 2): _plain("cpu", "cpu.max.burst"),
    (Knob.WEIGHT, 1): KnobFile("cpu", "cpu.shares", _parse_shares, _format_shares, by_idle=("3", "1024")),
    (Knob.WEIGHT, 2): KnobFile("cpu", "cpu.weight", _parse_weight, _format_whole, by_idle=("0", "1", "100")),
    (Knob.IDLE, 1): _plain("cpu", "cpu.idle"),
    (Knob.IDLE, 2): _plain("cpu", "cpu.idle"),
    (Knob.CPUSET, 1): _CPUS,
    (Knob.CPUSET, 2): _CPUS,
    # freezer.state tells of parents' freezing, too, and of one under way.
    (Knob.FREEZE, 1): KnobFile(
        "freezer",
        "freezer.self_freezing",
        _parse_whole,
        _format_whole,
        set_by="freezer.state",
        words={"0": "THAWED", "1": "FROZEN"},
    ),
    (Knob.FREEZE, 2): _plain("freezer", "cgroup.freeze"),
}
