"""What devices and their classes have sent, and what each group has: by rtnetlink, and the classifier's counters.

Also which devices are chosen: those of the configuration by name, or those of the default routes; of a port of a bond
the bond. It is found anew in each tick, so a device that appears, goes, is renamed or changes its speed is followed.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from agent.config_network import NetworkConfig
from agent.host import Host
from agent.records import ClassSample, DeviceSample, Group, NetworkSample
from agent.rtnetlink import Rtnetlink
from agent.samples.files import read_file
from agent.traffic import CLASS_MINORS, MAJOR, Link, Part, ifb_name, root_of
from native.net import NetClassifier

FOLLOW_EVERY_READS = 5
"""A container may get its network after its group."""
_OURS = MAJOR << 16
_OWN = -1
_CLASS_NAMES = {_OURS | minor: name for name, minor in CLASS_MINORS.items()}


SocketIds = Callable[[Sequence[Group]], Mapping[int, int]]
"""Groups -> what the kernel knows their sockets by: id in cgroup2, or net_cls.classid; by group id."""


def cgroup2_ids(host: Host) -> SocketIds:
    """Of each group that has a directory in cgroup2."""

    def ids(groups: Sequence[Group]) -> Mapping[int, int]:
        if host.cgroup_version == 2:
            return {group.id: group.id for group in groups}
        if host.unified is None:
            return {}
        found = {}
        for group in groups:
            with contextlib.suppress(OSError):
                found[group.id] = os.stat(f"{host.unified.mount}{group.path}").st_ino
        return found

    return ids


class NetworkSampler:
    """Reads; changes nothing."""

    def __init__(self, rtnl: Rtnetlink, classifier: NetClassifier, host: Host, socket_ids: SocketIds) -> None:
        self._rtnl, self._classifier = rtnl, classifier
        self._processes = host.cpu.mount if host.cpu else None
        self._socket_ids = socket_ids
        self._groups: tuple[Group, ...] = ()
        self._reads = 0
        self.socket_ids: Mapping[int, int] = {}
        """Group id -> what its sockets are known by, of groups that have it."""
        self.veths: dict[int, tuple[int, ...]] = {}
        """Group id -> the host's side of the veths of its own network namespace."""

    def read(
        self, config: NetworkConfig, groups: tuple[Group, ...], own_classes: Mapping[int, int], now_ns: int
    ) -> NetworkSample:
        """Everything now. `own_classes`: class of HTB -> the group whose own it is. OSError."""
        self._reads += 1
        if groups is not self._groups or not self.socket_ids or self._reads % FOLLOW_EVERY_READS == 0:
            self._groups = groups
            self._follow(groups)
        counts = self._classifier.counts()
        group_bytes: dict[int, int] = {}
        group_packets: dict[int, int] = {}
        for group_id in self.socket_ids.keys() | self.veths.keys():
            of_group = [counts.groups.get(self.socket_ids.get(group_id, 0))]
            of_group += [counts.devices.get(ifindex) for ifindex in self.veths.get(group_id, ())]
            known = [each for each in of_group if each is not None]
            if known:
                group_bytes[group_id] = sum(sent_bytes for sent_bytes, _ in known)
                group_packets[group_id] = sum(packets for _, packets in known)
        links, qdiscs = self._rtnl.links(), self._rtnl.qdiscs()
        drops: Counter[int] = Counter()
        devices = []
        chosen = choose(links, config.devices, self._rtnl.default_devices())
        for link in links:
            queues = qdiscs.get(link.ifindex, ())
            classes = self._rtnl.parts("class", link.ifindex) if is_ours(queues) else ()
            leaves = leaves_of(classes, queues)
            drops.update({own_classes[leaf]: of.dropped_packets for leaf, of in leaves.items() if leaf in own_classes})
            if link.ifindex in chosen or classes:
                devices.append(self._device(link, link.ifindex in chosen, config, queues, classes_of(classes, leaves)))
        drops.update(self._container_drops(links, qdiscs))
        return NetworkSample(now_ns, tuple(devices), group_bytes, group_packets, drops)

    def _container_drops(self, links: tuple[Link, ...], qdiscs: Mapping[int, tuple[Part, ...]]) -> Counter[int]:
        """By the limits on their veths, and on the IFBs through which they send."""
        drops: Counter[int] = Counter()
        by_name = {link.name: link.ifindex for link in links}
        for group_id, veths in self.veths.items():
            for ifindex in (*veths, *(by_name.get(ifb_name(veth), 0) for veth in veths)):
                root = root_of(qdiscs.get(ifindex, ()))
                if root and root.handle == _OURS and root.kind == "tbf" and root.stats:
                    drops[group_id] += root.stats.dropped_packets
        return drops

    def _device(
        self,
        link: Link,
        is_chosen: bool,
        config: NetworkConfig,
        queues: tuple[Part, ...],
        classes: Mapping[str, ClassSample],
    ) -> DeviceSample:
        root = root_of(queues)
        return DeviceSample(
            ifindex=link.ifindex,
            name=link.name,
            is_chosen=is_chosen,
            link_bytes_per_s=config.link_bytes_per_s or self._rtnl.speed_bytes_per_s(link.name),
            whole=_counters(root) if root and root.kind != "noqueue" else None,
            classes=classes,
        )

    def _follow(self, groups: tuple[Group, ...]) -> None:
        """What their sockets are known by, and which groups have a network of their own."""
        ids = self._socket_ids(groups)
        by_namespace: dict[int, list[int]] = {}
        for link in self._rtnl.links():
            if link.kind == "veth" and link.peer_namespace is not None:
                by_namespace.setdefault(link.peer_namespace, []).append(link.ifindex)
        namespaces = self._namespaces(groups) if by_namespace else {}
        veths = {}
        for group in groups:
            first, *others = namespaces.get(group.path, {_OWN})
            if not others and first in by_namespace:
                veths[group.id] = tuple(by_namespace[first])
        if (ids, veths) != (self.socket_ids, self.veths):
            self.socket_ids, self.veths = ids, veths

    def _namespaces(self, groups: tuple[Group, ...]) -> Mapping[str, set[int]]:
        """Path -> the networks of the processes in the group and below it, by the first process of each group."""
        found: dict[str, set[int]] = {}
        for group in groups:
            namespace = None if group.path == "/" else self._namespace(group)
            path = group.path
            while path and namespace is not None:
                found.setdefault(path, set()).add(namespace)
                path = path.rpartition("/")[0]
        return found

    def _namespace(self, group: Group) -> int | None:
        """As this one numbers it; _OWN: no device leads there, as it is with its own. None: it has no process."""
        if self._processes is None:
            return None
        try:
            pids = read_file(f"{self._processes}{group.path}/cgroup.procs").split(b"\n", 1)
            if not pids[0]:
                return None
            number = self._rtnl.namespace_of(int(pids[0]))
        except (OSError, ValueError):
            return None
        return _OWN if number is None else number


def choose(links: tuple[Link, ...], names: tuple[str, ...], defaults: frozenset[int]) -> frozenset[int]:
    """The devices to be shaped: by name, else those of the default routes; of a port of a bond the bond. Pure."""
    by_index = {link.ifindex: link for link in links}
    wanted = [link for link in links if (link.name in names if names else link.ifindex in defaults)]
    return frozenset(_top(link, by_index).ifindex for link in wanted if link.kind != "ifb")


def _top(link: Link, by_index: Mapping[int, Link]) -> Link:
    master = by_index.get(link.master)
    return master if master is not None and master.kind in ("bond", "team") else link


def is_ours(queues: tuple[Part, ...]) -> bool:
    """An HTB that shapes the device; not the TBF of a container's limit."""
    root = root_of(queues)
    return root is not None and root.handle == _OURS and root.kind == "htb"


def leaves_of(classes: tuple[Part, ...], queues: tuple[Part, ...]) -> dict[int, ClassSample]:
    """Classes that have a queue, by handle. What its queues dropped the class does not know: the lowest does. Pure."""
    found = {}
    for part in classes:
        counters = _counters(part)
        if part.parent not in _CLASS_NAMES or counters is None:
            continue
        outer = _queue_at(part.handle, queues)
        lowest = (_queue_at(outer.handle | 1, queues) if outer else None) or outer  # of batch work there are two
        dropped = lowest.stats.dropped_packets if lowest and lowest.stats else counters.dropped_packets
        found[part.handle] = replace(counters, dropped_packets=dropped)
    return found


def _queue_at(parent: int, queues: tuple[Part, ...]) -> Part | None:
    return next((queue for queue in queues if queue.parent == parent), None)


def classes_of(classes: tuple[Part, ...], leaves: Mapping[int, ClassSample]) -> dict[str, ClassSample]:
    """Those that hold all of a kind, by name: HTB counts what they send, but not what waits and is dropped. Pure."""
    found = {}
    for part in classes:
        counters = _counters(part) if part.handle in _CLASS_NAMES else None
        if counters:
            within = [leaves[leaf.handle] for leaf in classes if leaf.parent == part.handle and leaf.handle in leaves]
            found[_CLASS_NAMES[part.handle]] = replace(
                counters,
                dropped_packets=sum(leaf.dropped_packets for leaf in within),
                backlog_bytes=sum(leaf.backlog_bytes for leaf in within),
            )
    return found


def _counters(part: Part) -> ClassSample | None:
    stats = part.stats
    if stats is None:
        return None
    return ClassSample(stats.sent_bytes, stats.sent_packets, stats.dropped_packets, stats.backlog_bytes)
