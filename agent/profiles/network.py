"""Network samples -> rates over the last tick. Pure. A counter that fell, or is new, has no rate yet."""

from __future__ import annotations

import math
from collections.abc import Mapping

from agent.records import DeviceProfile, DeviceSample, NetworkProfile, NetworkSample
from agent.units import NS_PER_S


class NetworkProfiler:
    """Remembers the sample before."""

    def __init__(self) -> None:
        self._before: NetworkSample | None = None

    def update(self, sample: NetworkSample) -> NetworkProfile:
        before, self._before = self._before, sample
        interval_s = (sample.time_ns - before.time_ns) / NS_PER_S if before else math.nan
        devices = {device.ifindex: device for device in before.devices} if before else {}
        groups: Mapping[int, int] = before.group_bytes if before else {}
        return NetworkProfile(
            sample=sample,
            devices=tuple(_device(device, devices.get(device.ifindex), interval_s) for device in sample.devices),
            group_bytes_per_s={
                group_id: rate
                for group_id, sent_bytes in sample.group_bytes.items()
                if not math.isnan(rate := _rate(sent_bytes, groups.get(group_id), interval_s))
            },
        )


def _device(now: DeviceSample, before: DeviceSample | None, interval_s: float) -> DeviceProfile:
    whole = before.whole if before else None
    classes = before.classes if before else {}
    return DeviceProfile(
        sample=now,
        sent_bytes_per_s=_rate(now.whole.sent_bytes, whole.sent_bytes if whole else None, interval_s)
        if now.whole
        else math.nan,
        class_bytes_per_s={
            name: _rate(of_class.sent_bytes, classes[name].sent_bytes if name in classes else None, interval_s)
            for name, of_class in now.classes.items()
        },
    )


def _rate(now: int, before: int | None, interval_s: float) -> float:
    """Per s; NaN: not known."""
    if before is None or now < before or not interval_s > 0:
        return math.nan
    return (now - before) / interval_s
