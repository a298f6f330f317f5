"""The metric families of the network; only with [network]. Pure. What several devices send is added up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from agent.metrics.family import Family, GroupColumn, HostColumn, View, counter, gauge
from agent.records import ClassSample, Floats, NetworkSample

NETWORK_CLASSES = ("system", "LS", "BE")


def _sample(view: View) -> NetworkSample | None:
    network = view.control.network if view.control else None
    return network.sample if network else None


def _groups(pick: Callable[[NetworkSample], Mapping[int, int]]) -> GroupColumn:
    def read(view: View) -> Floats:
        sample = _sample(view)
        of_group = pick(sample) if sample else {}
        return np.array([of_group.get(group.id, math.nan) for group in view.tick.groups], np.float64)

    return GroupColumn(read)


def _class(name: str, pick: Callable[[ClassSample], int]) -> HostColumn:
    def read(view: View) -> float | None:
        sample = _sample(view)
        found = [device.classes[name] for device in (sample.devices if sample else ()) if name in device.classes]
        return sum(map(pick, found)) if found else None

    return HostColumn(read, (("network_class", name),))


NETWORK_FAMILIES: tuple[Family, ...] = (
    counter(
        "group_network_sent_bytes_total",
        "Sent by devices that the agent shapes, with all headers, since it knows the group.",
        _groups(lambda sample: sample.group_bytes),
    ),
    counter(
        "group_network_sent_packets_total",
        "The same, in packets on the link.",
        _groups(lambda sample: sample.group_packets),
    ),
    counter(
        "group_network_dropped_packets_total",
        "Packets that a group's own limit dropped; those of a group without one are in its class.",
        _groups(lambda sample: sample.group_drops),
    ),
    counter(
        "network_class_sent_bytes_total",
        "Sent by a class of the devices that the agent shapes, since it shapes them.",
        *(_class(name, lambda of_class: of_class.sent_bytes) for name in NETWORK_CLASSES),
    ),
    counter(
        "network_class_dropped_packets_total",
        "Packets of a class that its queues dropped.",
        *(_class(name, lambda of_class: of_class.dropped_packets) for name in NETWORK_CLASSES),
    ),
    gauge(
        "network_class_backlog_bytes",
        "What waits in a class now.",
        *(_class(name, lambda of_class: of_class.backlog_bytes) for name in NETWORK_CLASSES),
    ),
)
