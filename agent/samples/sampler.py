"""One tick of everything that is read: who exists, what they waited, what they used, what the agent costs.

Two sources of waits: the probe (BPF), or /proc/PID/schedstat where the host does not allow it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agent.config import Config
from agent.discovery.targets import Counted
from agent.errors import HostError
from agent.host import Host
from agent.records import (
    CgroupSample,
    CulpritSample,
    Group,
    HistogramSample,
    Qos,
    SelfSample,
    Source,
    ThrottleSample,
    Tick,
    WaitSample,
)
from agent.samples.bpf_cost import BpfCost
from agent.samples.cgroup_tree import CgroupTree, GroupBorn, GroupEvent, GroupGone, GroupRenamed
from agent.samples.cgroupfs import CgroupFiles
from agent.samples.cpi import CpiReader
from agent.samples.node import read_node
from agent.samples.own import read_own_cost
from agent.samples.schedstat import Schedstat, throttle_growth
from agent.samples.wait import culprit_sample, group_samples, histogram_sample
from agent.units import NS_PER_S
from native.probe import CgroupEvent, Counters, Probe, ProbeError, ProbeTick, struct_dtype

log = logging.getLogger(__name__)

Waits = tuple[WaitSample, ThrottleSample, CulpritSample, HistogramSample | None, CgroupSample]

_RESCAN_SOONEST_NS = NS_PER_S


class Sampler:
    """Owns the samplers. `probe` None: schedstat. The first `read` is a baseline with interval 0."""

    def __init__(self, config: Config, host: Host, classify: Callable[[str], Qos], probe: Probe | None) -> None:
        if host.cpu is None:
            raise HostError("no cgroup hierarchy with the cpu controller is mounted", path="/proc/self/mountinfo")
        self._config = config
        self._host = host
        self._classify = classify
        self._probe = probe
        self._tree = CgroupTree(host.cpu.mount, host.cpu.subtree)
        self._files = CgroupFiles(host, slow_every_ticks=config.agent.slow_every_ticks)
        self._schedstat = Schedstat(host.cpu) if probe is None else None
        self._cpi = CpiReader.open(config, host)
        self._cost = BpfCost(probe, always_on=bool(host.bpf_stats)) if probe else None
        self._before: CgroupSample | None = None
        self._last_ns: int | None = None
        self._scanned_ns: int | None = None
        self._ticks = 0
        self._too_many = False
        self._groups: tuple[Group, ...] = ()
        self._known: dict[int, Group] = {}
        self._paths: dict[int, str] = {}
        self._pairs: tuple[tuple[int, str], ...] = ()

    def close(self) -> None:
        """Give descriptors back; the probe is not ours."""
        self._files.close()
        if self._schedstat:
            self._schedstat.close()
        if self._cpi:
            self._cpi.close()
        if self._cost:
            self._cost.close()

    def configure(self, config: Config, classify: Callable[[str], Qos]) -> None:
        """Classes and rules are others, from the next tick on."""
        self._classify = classify
        if self._cpi:
            self._cpi.choose_anew(Counted(config).of)
        self._known, self._paths = {}, {}

    def read(self, now_ns: int, sampling: int) -> Tick:
        """Everything since the last call. `now_ns`: CLOCK_MONOTONIC. HostError: the hierarchy cannot be read."""
        # First what grows and is divided by the tick's length; with many groups the rest takes its time.
        probe_tick, accounts, node = self._cut(), self._cpu_accounts(), read_node(self._host.cpus)
        departed, born_ids = self._follow_tree(now_ns)
        groups = self._list_groups(departed, probe_tick)
        wait, throttle, culprits, histograms, cgroup = self._read_waits(now_ns, probe_tick, accounts)
        tick = Tick(
            number=self._ticks,
            time_ns=now_ns,
            interval_ns=0 if self._last_ns is None else now_ns - self._last_ns,
            source=Source.BPF if self._probe else Source.CGROUPFS,
            groups=groups,
            wait=wait,
            throttle=throttle,
            culprits=culprits,
            cgroup=cgroup,
            histograms=histograms,
            node=node,
            agent=self._read_own(sampling),
            born_ids=born_ids,
            cpi=self._cpi.read(groups) if self._cpi else None,
        )
        self._last_ns = now_ns
        self._ticks += 1
        return tick

    def _cut(self) -> ProbeTick | None:
        """What the probe has. A ring that was found broken has been reset by then, so the second try is good; if
        even that fails, nobody waited in this tick as far as we know, and the next one has what the probe kept.
        """
        if self._probe is None:
            return None
        for _ in range(2):
            try:
                return self._probe.tick()
            except ProbeError as error:
                log.error("samples were lost: %s", error.strerror)
        return ProbeTick(np.zeros(0, struct_dtype("group_tick")), np.zeros(0, struct_dtype("group_pair")))

    def _follow_tree(self, now_ns: int) -> tuple[dict[int, str], frozenset[int]]:
        """Apply the kernel's events, scan now and then. Returns the paths of groups that went in this tick, which have
        a last row, and who was born in it: for sure, not perhaps before (events were lost) and only found now.
        """
        departed: dict[int, str] = {}
        born: set[int] = set()
        if self._probe:
            events, lost = self._probe.cgroup_events()
            self._tree.stale |= lost > 0
            for event in events:
                self._apply(_tree_event(event), departed, born)
        age_ns = None if self._scanned_ns is None else now_ns - self._scanned_ns
        due = self._probe is None or self._probe.features.cgroup_events_errno or self._tree.stale
        if age_ns is None or age_ns >= self._config.agent.rescan_s * NS_PER_S or (due and age_ns >= _RESCAN_SOONEST_NS):
            before = dict(self._tree.paths)
            changes = self._tree.scan()
            if self._scanned_ns is not None and self._scanned_ns == self._last_ns:
                born.update(changes.born)
            self._scanned_ns = now_ns
            departed |= {group_id: before[group_id] for group_id in changes.gone}
            if self._probe:
                self._probe.forget(changes.gone)
        return departed, frozenset(born)

    def _apply(self, event: GroupEvent, departed: dict[int, str], born: set[int]) -> None:
        path = self._tree.paths.get(event.id)
        changes = self._tree.apply(event)
        born.update(changes.born)
        if isinstance(event, GroupGone) and path is not None:
            departed[event.id] = path
        elif self._probe:
            self._probe.forget(changes.gone)  # whose death no event told

    def _list_groups(self, departed: dict[int, str], probe_tick: ProbeTick | None) -> tuple[Group, ...]:
        """Rows of the tick: all groups that exist, and those that went in it but did wait."""
        paths: dict[int, str] = self._tree.paths.copy()
        if len(paths) > self._config.agent.max_groups:
            paths = dict(itertools.islice(paths.items(), self._config.agent.max_groups))
            if not self._too_many:
                self._too_many = True
                log.warning("%d groups, only agent.max_groups = %d are shown", len(self._tree.paths), len(paths))
        if probe_tick is not None:
            seen = probe_tick.groups["id"][probe_tick.groups["wait_count"] > 0].tolist()
            paths |= {group_id: departed[group_id] for group_id in seen if group_id in departed}
            unknown = [group_id for group_id in seen if group_id not in paths and group_id not in self._tree.paths]
            if unknown:
                self._tree.stale = True  # a scan finds it, or shows that it is gone
                self._forget_gone(unknown)
        if paths != self._paths:
            self._paths, self._pairs = paths, tuple(paths.items())
            self._known = {i: self._group(i, path) for i, path in paths.items()}
            self._groups = tuple(self._known.values())
        return self._groups

    def _forget_gone(self, unknown: Iterable[int]) -> None:
        """A late sample of a group that is gone made it a row again; after a scan did not find it, free that."""
        if self._probe and self._tree.counters.scans and self._scanned_ns == self._last_ns:
            self._probe.forget(unknown)

    def _group(self, group_id: int, path: str) -> Group:
        known = self._known.get(group_id)
        return known if known and known.path == path else Group(group_id, path, self._classify(path))

    def _read_waits(self, now_ns: int, probe_tick: ProbeTick | None, accounts: NDArray[np.void] | None) -> Waits:
        cgroup = self._files.read(self._pairs, now_ns, accounts)
        if self._probe and probe_tick is not None:
            histograms = histogram_sample(probe_tick, self._probe.buckets()) if self._config.metrics.enabled else None
            return *group_samples(cgroup.ids, probe_tick), culprit_sample(probe_tick), histograms, cgroup
        assert self._schedstat is not None
        schedstat = self._schedstat.read(self._pairs, now_ns)
        usage_ns = np.where(np.isnan(cgroup.cpu_usage_ns), schedstat.cpu_usage_ns, cgroup.cpu_usage_ns)
        cgroup = replace(cgroup, cpu_usage_ns=usage_ns)
        throttle = throttle_growth(self._before, cgroup)
        self._before = cgroup
        nobody = np.zeros(0, np.uint64)
        return schedstat.wait, throttle, CulpritSample(nobody, nobody, np.zeros(0), np.zeros(0)), None, cgroup

    def _cpu_accounts(self) -> NDArray[np.void] | None:
        """The scheduler's accounts of all groups by BPF; None: take those in files."""
        try:
            return self._probe.cgroup_stats() if self._probe else None
        except ProbeError as error:
            log.error("in this tick CPU accounts are those in cgroup files: %s", error.strerror)
            return None

    def _read_own(self, sampling: int) -> SelfSample:
        counters: Counters | None = self._probe.counters() if self._probe else None
        own = read_own_cost()
        bpf_run_ns, bpf_runs = (self._cost and counters and self._cost.read(counters.switches)) or (None, None)
        return SelfSample(
            cpu_ns=own.cpu_ns,
            rss_bytes=own.rss_bytes,
            bpf_run_ns=bpf_run_ns,
            bpf_runs=bpf_runs,
            switches=counters.switches if counters else None,
            waits=counters.waits if counters else None,
            produced=counters.produced if counters else None,
            consumed=counters.consumed if counters else None,
            dropped=counters.dropped if counters else None,
            sampled_out=counters.sampled_out if counters else None,
            unknown=counters.unknown if counters else None,
            own=counters.own if counters else None,
            events_lost=counters.events_lost if counters else None,
            groups_refused=counters.groups_refused if counters else None,
            malformed=counters.malformed if counters else None,
            sketch_refused=counters.sketch_refused if counters else None,
            pairs_refused=counters.pairs_refused if counters else None,
            drain_cpu_ns=self._probe.drain_cpu_ns if self._probe else 0,
            sampling=sampling,
            vanished_threads=self._schedstat.counters.vanished_threads if self._schedstat else None,
            unreadable_directories=self._tree.counters.unreadable,
            events=self._events(counters),
        )

    def _events(self, counters: Counters | None) -> dict[str, int]:
        tree, files = self._tree.counters, self._files.counters
        events = {
            "groups_born": tree.births,
            "groups_gone": tree.deaths,
            "groups_reused": tree.reused,
            "groups_corrected": tree.corrected,
            "groups_vanished": files.gone,
            "files_refused": files.refused,
        }
        if self._schedstat:
            events["threads_refused"] = self._schedstat.counters.refused
        if counters:
            events |= {"rows_born": counters.groups_born, "rows_reused": counters.groups_reused}
        return events


def _tree_event(event: CgroupEvent) -> GroupEvent:
    if event.kind == "rmdir":
        return GroupGone(event.id)
    return GroupBorn(event.id, event.path) if event.kind == "mkdir" else GroupRenamed(event.id, event.path)
