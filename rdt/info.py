"""What this machine's resctrl offers: everything under info/, read once into one frozen object. Facts only.

Source: "Info directory" in Documentation/filesystems/resctrl.rst. A file that a kernel does not have is None here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rdt import bitmask, schemata
from rdt.errors import NotMounted, Unreadable

DEFAULT_ROOT = Path("/sys/fs/resctrl")

PERCENT, MBPS, EIGHTHS_OF_GBPS = "percent", "MiB/s", "GB/s / 8"
MBPS_MAX = (1 << 32) - 1


@dataclass(frozen=True)
class Cache:
    """Allocation of one cache, or of its code or data half. Masks have one bit per way."""

    cbm_mask: int
    min_cbm_bits: int
    num_closids: int
    shareable_bits: int
    sparse_masks: bool | None
    """Whether a mask may have gaps; None: a kernel before 6.7, which does not say."""
    io_alloc: str | None

    @property
    def ways(self) -> int:
        return self.cbm_mask.bit_count()

    def refuses(self, mask: int) -> str | None:
        """What is allowed, where this mask is not; as cbm_validate() in fs/resctrl/ctrlmondata.c has it."""
        if mask & ~self.cbm_mask or (mask == 0 and self.min_cbm_bits > 0):
            return f"bits of {self.cbm_mask:x}"
        first = bitmask.runs(mask)[:1]
        if any(high - low < self.min_cbm_bits for low, high in first):
            return f"at least {self.min_cbm_bits} bits in a row"
        if self.sparse_masks is False and mask and not bitmask.contiguous(mask):
            return "bits in one row, this machine takes no gaps"
        return None


@dataclass(frozen=True)
class Bandwidth:
    """Allocation of bandwidth in `unit`: percent, MiB/s with mount option mba_MBps, eighths of GB/s on AMD."""

    unit: str
    min_bandwidth: int
    bandwidth_gran: int
    num_closids: int
    maximum: int | None
    """None: has no end (MiB/s), or is not known since the default group is not there."""
    delay_linear: bool
    thread_throttle_mode: str | None

    def refuses(self, value: int) -> str | None:
        """What is allowed, where this value is not; as bw_validate() has it."""
        if self.unit == MBPS:
            return None if 0 <= value <= MBPS_MAX else f"0 to {MBPS_MAX} MiB/s"
        if value < self.min_bandwidth or (self.maximum is not None and value > self.maximum):
            return f"{self.min_bandwidth} to {self.maximum or 'what the machine has'}, in {self.unit}"
        return None

    def rounded(self, value: int) -> int:
        """The next step that the hardware has: what the kernel makes of a value."""
        return value if self.unit == MBPS else -(-value // self.bandwidth_gran) * self.bandwidth_gran


@dataclass(frozen=True)
class Monitoring:
    """Counters. `num_mbm_cntrs`: cache id -> counters that can be assigned, where the machine has such."""

    num_rmids: int
    mon_features: tuple[str, ...]
    max_threshold_occupancy_bytes: int | None
    mbm_assign_mode: str | None
    num_mbm_cntrs: Mapping[int, int] | None
    event_configs: Mapping[str, Mapping[int, int]]
    """mbm_total_bytes, mbm_local_bytes -> cache id -> bits of what is counted; empty: not configurable."""

    @property
    def events(self) -> tuple[str, ...]:
        """Those that mon_data has files of."""
        return tuple(name for name in self.mon_features if not name.endswith("_config"))


@dataclass(frozen=True)
class Info:
    """All of it. Resources by the name that their schemata line has."""

    caches: Mapping[str, Cache]
    bandwidths: Mapping[str, Bandwidth]
    monitoring: Monitoring | None
    mount_options: frozenset[str]

    @property
    def resources(self) -> dict[str, Cache | Bandwidth]:
        return {**self.caches, **self.bandwidths}

    @property
    def closids(self) -> int | None:
        """Control groups that can exist, the default one included; None: the machine has monitoring only."""
        return min((resource.num_closids for resource in self.resources.values()), default=None)


def read(root: Path = DEFAULT_ROOT, mountinfo: Path = Path("/proc/self/mountinfo")) -> Info:
    """Raises NotMounted, Unreadable."""
    if not (root / "info").is_dir():
        raise NotMounted(f"no resctrl here: mount -t resctrl resctrl {root}", path=str(root))
    folders = {path.name: _Folder(path) for path in (root / "info").iterdir() if path.is_dir()}
    options = mount_options(mountinfo.read_bytes() if mountinfo.exists() else b"", root)
    mbps = "mba_MBps" in options or (root / "mba_MBps_event").exists()
    file = root / "schemata"
    default_group = schemata.values(schemata.parse(file.read_text())) if file.exists() else {}
    return Info(
        caches={name: _cache(folder) for name, folder in folders.items() if schemata.is_cache(name)},
        bandwidths={
            name: _bandwidth(folder, default_group.get(name, {}), sc=name == "MB" and mbps)
            for name, folder in folders.items()
            if schemata.is_bandwidth(name)
        },
        monitoring=_monitoring(folders["L3_MON"]) if "L3_MON" in folders else None,
        mount_options=options,
    )


def bit_usage(root: Path, resource: str) -> dict[int, str]:
    """Cache id -> use of each way, highest first: 0 none, S shared, E exclusive, H devices, X both, P locked."""
    return dict(_pairs(_Folder(root / "info" / resource).text("bit_usage")))


def mount_options(mountinfo: bytes, root: Path) -> frozenset[str]:
    """Of the resctrl that is mounted at `root`; empty if it is not listed. Bytes: paths of other mounts may be of any.

    Line: `36 25 0:31 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw,cdp`.
    """
    for line in mountinfo.split(b"\n"):
        mount, _, rest = line.partition(b" - ")
        fields = rest.split(b" ")
        if fields[0] == b"resctrl" and mount.split(b" ")[4] == os.fsencode(root):
            return frozenset(fields[-1].decode().split(",")) - {"rw", "ro"}
    return frozenset()


class _Folder:
    """One folder of info/."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, name: str) -> str | None:
        """A file's content; None: this kernel has no such file."""
        try:
            return (self._path / name).read_text().strip()
        except FileNotFoundError:
            return None

    def text(self, name: str) -> str:
        content = self.find(name)
        if content is None:
            raise Unreadable("a file that every kernel has is not there", path=str(self._path / name))
        return content

    def number(self, name: str) -> int:
        content = self.text(name)
        if not content.isdecimal():
            raise Unreadable("not a number", path=str(self._path / name), value=content)
        return int(content)

    def mask(self, name: str) -> int:
        return bitmask.parse(self.text(name))

    def by_domain(self, name: str) -> dict[int, int] | None:
        """0=32;1=0x7f"""
        content = self.find(name)
        return None if content is None else {domain: int(value, 0) for domain, value in _pairs(content)}


def _cache(folder: _Folder) -> Cache:
    sparse = folder.find("sparse_masks")
    return Cache(
        cbm_mask=folder.mask("cbm_mask"),
        min_cbm_bits=folder.number("min_cbm_bits"),
        num_closids=folder.number("num_closids"),
        shareable_bits=folder.mask("shareable_bits"),
        sparse_masks=None if sparse is None else sparse == "1",
        io_alloc=folder.find("io_alloc"),
    )


def _bandwidth(folder: _Folder, default_group: Mapping[int, int], *, sc: bool) -> Bandwidth:
    linear = folder.number("delay_linear") == 1
    # Intel's delays have a minimum; AMD's widths start at 0 and go to what an untouched group shows.
    unit = MBPS if sc else PERCENT if linear or folder.number("min_bandwidth") > 0 else EIGHTHS_OF_GBPS
    maximum = {MBPS: None, PERCENT: 100}.get(unit, max(default_group.values(), default=None))
    return Bandwidth(
        unit=unit,
        min_bandwidth=folder.number("min_bandwidth"),
        bandwidth_gran=folder.number("bandwidth_gran"),
        num_closids=folder.number("num_closids"),
        maximum=maximum,
        delay_linear=linear,
        thread_throttle_mode=folder.find("thread_throttle_mode"),
    )


def _monitoring(folder: _Folder) -> Monitoring:
    modes = re.search(r"\[(\w+)\]", folder.find("mbm_assign_mode") or "")
    threshold = folder.find("max_threshold_occupancy")
    configs = {name: folder.by_domain(f"{name}_config") for name in ("mbm_total_bytes", "mbm_local_bytes")}
    return Monitoring(
        num_rmids=folder.number("num_rmids"),
        mon_features=tuple(folder.text("mon_features").split()),
        max_threshold_occupancy_bytes=None if threshold is None else int(threshold),
        mbm_assign_mode=modes[1] if modes else None,
        num_mbm_cntrs=folder.by_domain("num_mbm_cntrs"),
        event_configs={name: config for name, config in configs.items() if config is not None},
    )


def _pairs(text: str) -> list[tuple[int, str]]:
    """0=a;1=b"""
    pairs = [part.partition("=") for part in text.strip().split(";") if part]
    return [(int(domain), value) for domain, _, value in pairs]
