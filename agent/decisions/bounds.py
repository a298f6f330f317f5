"""The last guard: what no controller may set, whatever it thinks. Pure.

It knows nothing of the laws. A value that the owner set is always good; any other is brought within

    quota   of BE: at least 1000 us and min_cores; of others: from the owner's to ceil_pct of it; never none
    burst   at most the quota
    weight, idle, freeze     only BE is taken from
    cpuset  CPUs that there are; of BE at least min_cpus
    link, be_send    of a device: something, at most what it can send
    send, receive    something
    cache_ways, memory_bandwidth    of a partition: something, at most all that there is
"""

from __future__ import annotations

from agent.config import Config
from agent.control import Intent, Knob, KnobValue, Situation
from agent.decisions.now import QUOTA_US_MIN, Memory, Unknown, owners_value, period_us, value_now
from agent.records import Qos

_NOTHING_REMEMBERED = Memory()


def bounded(intent: Intent, row: int, situation: Situation, config: Config) -> Intent | str:
    """The intent with a value that may be, or why there is none."""
    owners = owners_value(situation, row, intent.knob)
    if not isinstance(owners, Unknown) and intent.value == owners:
        return intent
    is_be = situation.tick.groups[row].qos is Qos.BE
    value: KnobValue | str
    match intent.knob:
        case Knob.QUOTA:
            value = _quota(intent.value, owners, row, situation, config, is_be=is_be)
        case Knob.BURST:
            value = _burst(intent.value, row, situation)
        case Knob.CPUSET:
            value = _cpuset(intent.value, situation, config, is_be=is_be)
        case Knob.SEND | Knob.RECEIVE:
            value = intent.value if intent.value is None or _is_some(intent.value) else "a group may send something"
        case _:
            value = intent.value if is_be else "it is taken from batch work only"
    if isinstance(value, str):
        return value
    return intent if value == intent.value else Intent(intent.group_id, intent.path, intent.knob, value)


def bounded_device(intent: Intent, situation: Situation) -> Intent | str:
    """The same for a knob of a device."""
    devices = situation.network.devices if situation.network else ()
    link = next((each.sample.link_bytes_per_s for each in devices if each.sample.ifindex == intent.group_id), None)
    if intent.value is None:
        return intent
    if link is None or not isinstance(intent.value, int):
        return "what the device can send is not known"
    return intent if 0 < intent.value <= link else f"it can send {link} bytes per s"


def bounded_partition(intent: Intent, situation: Situation) -> Intent | str:
    """The same for a knob of a partition of the caches."""
    match intent.value:
        case None:
            return intent
        case (int(begin), int(end)) if intent.knob is Knob.CACHE_WAYS:
            return intent if 0 <= begin < end <= 100 else "a partition has something of the cache"
        case int(value) if intent.knob is Knob.MEMORY_BANDWIDTH:
            offer = situation.cache.sample.offer if situation.cache else None
            most = None if offer is None or offer.is_mib_per_s else 100
            return intent if 0 < value <= (most or value) else "a partition has some bandwidth, at most all"
    return "no such value"


def _is_some(value: KnobValue) -> bool:
    return isinstance(value, int) and value > 0


def _quota(
    value: KnobValue, owners: KnobValue | Unknown, row: int, situation: Situation, config: Config, *, is_be: bool
) -> int | str:
    period = period_us(situation, row)
    if isinstance(owners, Unknown) or period is None:
        return "its owner's quota is not known"
    if not isinstance(value, int):
        return "a quota is not taken away"
    if is_be:
        least = max(QUOTA_US_MIN, int(config.suppress.min_cores * period))
        return min(max(value, least), owners) if isinstance(owners, int) else max(value, least)
    if not isinstance(owners, int):
        return "its owner set no quota"
    return min(max(value, owners), int(owners * config.burst.ceil_pct / 100))


def _burst(value: KnobValue, row: int, situation: Situation) -> int | str:
    quota = value_now(situation, row, Knob.QUOTA, _NOTHING_REMEMBERED)
    if not isinstance(quota, int) or not isinstance(value, int) or value < 0:
        return "there is no quota that could be saved up"
    return min(value, quota)


def _cpuset(value: KnobValue, situation: Situation, config: Config, *, is_be: bool) -> tuple[int, ...] | str:
    if not is_be or not isinstance(value, tuple):
        return "only batch work is moved off CPUs"
    cpus = tuple(sorted(set(value) & set(situation.topology.cpus)))
    least = min(config.suppress.min_cpus, len(situation.topology.cpus))
    return cpus if len(cpus) >= least else f"batch work keeps at least {least} CPUs"
