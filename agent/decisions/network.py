"""The network: services first on the link, batch work within bounds, groups within their limits. Pure.

    link     every chosen device whose speed is known is shaped; one that is no longer chosen is given back
    be_send  its low bound while services send more than the watermark, until they send less than the watermark x
             clear_ratio; also while a rule fires whose cause is the network. Else its high bound
    limits   send and receive of each [[limit]], of the topmost groups that it matches

What services send is measured in their class on the device. While that is not known, a bound stays where it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from agent.config import Config
from agent.config_network import LimitConfig
from agent.control import (
    Cause,
    Decision,
    Finding,
    Hold,
    Intent,
    Knob,
    Outcome,
    Resource,
    Result,
    Situation,
)
from agent.decisions.now import Memory
from agent.discovery.rules import glob_regex
from agent.quantity import RATE, format_quantity
from agent.records import DeviceProfile, Group, Qos
from agent.units import NS_PER_S

_CLAIMS = frozenset((qos, knob) for qos in Qos for knob in (Knob.SEND, Knob.RECEIVE)) | {
    (Qos.BE, Knob.BE_SEND),
    (Qos.SYSTEM, Knob.LINK),
}


@dataclass(frozen=True, slots=True)
class NetworkState:
    pressed: Mapping[int, bool] = field(default_factory=dict)
    """By ifindex: services have sent past the watermark."""
    groups: tuple[Group, ...] = ()
    limits: Mapping[int, tuple[Group, LimitConfig]] = field(default_factory=dict)
    """Of `groups`, by id."""
    memory: Memory = field(default_factory=Memory)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a knob is to be, and why."""

    intent: Intent
    why: str


class Network:
    """The controller."""

    name = "network"
    claims = _CLAIMS

    def __init__(self, config: Config) -> None:
        self._config = config.network
        self._limits = [(limit, [glob_regex(glob).fullmatch for glob in limit.globs]) for limit in config.limits]
        self._retry_ns = int(config.enforce.retry_s * NS_PER_S)

    def initial(self) -> NetworkState:
        return NetworkState()

    def decide(self, state: NetworkState, situation: Situation) -> tuple[NetworkState, tuple[Decision | Hold, ...]]:
        if situation.network is None:
            return state, (Hold(self.name, "the network could not be read"),)
        state = self._followed(state, situation)
        finding = next(filter(self._is_ours, situation.findings), None)
        chosen = [device for device in situation.network.devices if device.sample.is_chosen]
        pressed = {device.sample.ifindex: self._is_pressed(device, state) for device in chosen}
        alive = {group.id: 0 for group in situation.tick.groups} | dict.fromkeys(pressed, 0)
        state = replace(state, pressed=pressed, memory=state.memory.without_gone(alive))
        wishes = [wish for device in chosen for wish in self._of_device(device, state, finding)]
        wishes += self._of_others(situation)
        wishes += self._of_groups(state, situation)
        wanted = [wish for wish in wishes if self._is_new(wish.intent, state, situation)]
        holds = tuple(
            Hold(self.name, f"the speed of {device.sample.name} is not known: give network.link_rate")
            for device in chosen
            if device.sample.link_bytes_per_s is None
        )
        if not wanted:
            return state, holds
        return state, (self._decision(wanted, chosen, finding), *holds)

    def learn(
        self, state: NetworkState, decision: Decision, outcomes: tuple[Outcome, ...], now_ns: int
    ) -> NetworkState:
        """What was applied the executor knows; that a dry run said it is only known here."""
        news = [outcome for outcome in outcomes if outcome.result not in (Result.APPLIED, Result.UNCHANGED)]
        return replace(state, memory=state.memory.learned(news, now_ns, self._retry_ns))

    def _followed(self, state: NetworkState, situation: Situation) -> NetworkState:
        """With the limits of the groups of now: of those in one that has a limit, none of their own."""
        groups = situation.tick.groups
        if groups is state.groups:
            return state
        limits: dict[int, tuple[Group, LimitConfig]] = {}
        limited: list[str] = []
        for group in sorted(groups, key=lambda group: group.path.count("/")):
            limit = self._limit_of(group)
            if limit and not any(group.path.startswith(f"{path}/") for path in limited):
                limits[group.id] = group, limit
                limited.append(group.path)
        return replace(state, groups=groups, limits=limits)

    def _limit_of(self, group: Group) -> LimitConfig | None:
        if group.path == "/":
            return None
        return next((limit for limit, globs in self._limits if any(glob(group.path) for glob in globs)), None)

    def _is_pressed(self, device: DeviceProfile, state: NetworkState) -> bool:
        """Services send much by it. As before while it is not known."""
        before = state.pressed.get(device.sample.ifindex, False)
        sent, link = device.class_bytes_per_s.get("LS", math.nan), device.sample.link_bytes_per_s
        if math.isnan(sent) or link is None:
            return before
        mark = link * self._config.watermark_pct / 100
        return sent > (mark * self._config.clear_ratio if before else mark)

    def _of_device(self, device: DeviceProfile, state: NetworkState, finding: Finding | None) -> Iterator[_Wish]:
        sample = device.sample
        link = sample.link_bytes_per_s
        if link is None:
            return
        yield _Wish(
            Intent(sample.ifindex, sample.name, Knob.LINK, link),
            f"{sample.name} is shaped to {format_quantity(link, RATE)}",
        )
        is_pressed = state.pressed.get(sample.ifindex, False)
        is_low = is_pressed or finding is not None
        bound = int(link * (self._config.be_low_pct if is_low else self._config.be_high_pct) / 100)
        sent = device.class_bytes_per_s.get("LS", math.nan)
        sends = "" if math.isnan(sent) else f", services send {format_quantity(sent, RATE)}"
        because = f"{finding.path}: {finding.reason}; " if finding and not is_pressed else ""
        yield _Wish(
            Intent(sample.ifindex, sample.name, Knob.BE_SEND, bound),
            f"{because}batch work may send {format_quantity(bound, RATE)} by {sample.name}{sends}",
        )

    def _of_others(self, situation: Situation) -> Iterator[_Wish]:
        """Devices that are ours and should not be."""
        assert situation.network
        names = {device.sample.ifindex: device.sample for device in situation.network.devices}
        for (ifindex, knob), state in situation.knobs.items():
            sample = names.get(ifindex)
            if knob is Knob.LINK and state.current is not None and sample and not sample.is_chosen:
                yield _Wish(
                    Intent(ifindex, sample.name, Knob.LINK, None), f"{sample.name} is no longer a device to shape"
                )

    def _of_groups(self, state: NetworkState, situation: Situation) -> Iterator[_Wish]:
        for group_id, (group, limit) in state.limits.items():
            for knob, value in ((Knob.SEND, limit.send_bytes_per_s), (Knob.RECEIVE, limit.receive_bytes_per_s)):
                if value is not None:
                    text = f"{group.path} may {knob} {format_quantity(value, RATE)}"
                    yield _Wish(Intent(group_id, group.path, knob, value), text)
        paths = {group.id: group.path for group in situation.tick.groups}
        for (group_id, knob), held in situation.knobs.items():
            if knob not in (Knob.SEND, Knob.RECEIVE) or held.current is None or group_id not in paths:
                continue
            wanted = state.limits.get(group_id)
            limit_now = wanted[1] if wanted else None
            still = limit_now and (limit_now.send if knob is Knob.SEND else limit_now.receive)
            if not still:
                text = f"{paths[group_id]} has no limit any more for what it may {knob}"
                yield _Wish(Intent(group_id, paths[group_id], knob, None), text)

    def _is_new(self, intent: Intent, state: NetworkState, situation: Situation) -> bool:
        """It is not so already, and may be tried."""
        key = intent.group_id, intent.knob
        held = situation.knobs.get(key)
        if held is not None:
            return held.current != intent.value and not held.is_foreign
        link = situation.knobs.get((intent.group_id, Knob.LINK))
        if intent.knob is Knob.BE_SEND and link is not None and link.is_foreign:
            return False
        return state.memory.said.get(key) != intent.value and state.memory.may_try(key, situation.now_ns)

    def _is_ours(self, finding: Finding) -> bool:
        may = not finding.controllers or self.name in finding.controllers
        return may and finding.cause is Cause.NETWORK

    def _decision(self, wishes: list[_Wish], chosen: list[DeviceProfile], finding: Finding | None) -> Decision:
        inputs: dict[str, float | str] = {}
        for device in chosen:
            for name, rate in device.class_bytes_per_s.items():
                if not math.isnan(rate):
                    inputs[f"{device.sample.name}_{name}_bytes_per_s"] = round(rate)
        return Decision(
            controller=self.name,
            resource=Resource.NETWORK,
            intents=tuple(wish.intent for wish in wishes),
            reason="; ".join(wish.why for wish in wishes),
            cause=finding.cause if finding else None,
            group_id=finding.group_id if finding else None,
            gives_back=all(wish.intent.value is None for wish in wishes),
            inputs=inputs,
        )
