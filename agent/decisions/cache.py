"""The caches and memory bandwidth: each partition has its part, and batch work's gives way. Pure.

    static      every partition has what the configuration gives it
    dynamic     so, too, but for batch work's: while a rule fires whose cause is the cache, it falls once per settle_s
                to down_ratio of what it has above its low bounds; when no rule fires it rises by up_pct, at most to
                what is configured

Ways and bandwidth go together, as far as the machine has each (cache_steps.py). While another cause is at work, or the
signal is absent, they stay. Who lies in which partition: partitions.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from agent.config import Config
from agent.control import (
    CACHE_KNOBS,
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
    partition_id,
)
from agent.decisions.cache_steps import Scale, bandwidth_scale, ways_scale
from agent.decisions.now import DONE, Memory
from agent.decisions.partitions import Part, Partitions
from agent.decisions.tree import Tree, tree_of
from agent.records import CacheOffer, CacheProfile, Qos
from agent.units import NS_PER_S

BATCH_ID = partition_id(Qos.BE)


@dataclass(frozen=True, slots=True)
class Level:
    """What batch work has: where its range of ways ends, in percent; bandwidth in percent or MiB/s; None: no such."""

    ways_end: int | None
    bandwidth: int | None


@dataclass(frozen=True, slots=True)
class CacheState:
    tree: Tree | None = None
    parts: tuple[Part, ...] = ()
    """Of `tree`."""
    has_batch: bool = False
    level: Level | None = None
    """None: as it is configured."""
    proposed: Level | None = None
    """What it is when the decision just made comes true."""
    stepped_ns: int | None = None
    """When the last step was taken; the first is what is configured."""
    memory: Memory = field(default_factory=Memory)


@dataclass(frozen=True, slots=True)
class _Scales:
    """Of batch work; None: the machine or the configuration has no such."""

    ways: Scale | None
    bandwidth: Scale | None

    def high(self) -> Level:
        return Level(
            self.ways.high if self.ways else None,
            self.bandwidth.high if self.bandwidth else None,
        )

    def down(self, level: Level) -> Level:
        return Level(_moved(self.ways, Scale.down, level.ways_end), _moved(self.bandwidth, Scale.down, level.bandwidth))

    def up(self, level: Level) -> Level:
        return Level(_moved(self.ways, Scale.up, level.ways_end), _moved(self.bandwidth, Scale.up, level.bandwidth))


def _moved(scale: Scale | None, step: Callable[[Scale, int], int], value: int | None) -> int | None:
    return None if scale is None else step(scale, scale.high if value is None else value)


class Cache:
    """The controller."""

    name = "cache"
    claims = frozenset((qos, knob) for qos in Qos for knob in CACHE_KNOBS)

    def __init__(self, config: Config) -> None:
        self._config = config.cache
        self._partitions = Partitions(config)
        self._settle_ns = int(config.enforce.settle_s * NS_PER_S)
        self._retry_ns = int(config.enforce.retry_s * NS_PER_S)

    def initial(self) -> CacheState:
        return CacheState()

    def decide(self, state: CacheState, situation: Situation) -> tuple[CacheState, tuple[Decision | Hold, ...]]:
        state = replace(self._followed(state, situation), proposed=None)
        if situation.cache is None:
            what = "mount it, or set cache.mount" if not self._config.mount else "the log says why"
            # What was refused, or not there, may be possible when it comes back.
            return replace(state, memory=Memory()), (Hold(self.name, f"resctrl is not there, or not readable: {what}"),)
        offer = situation.cache.sample.offer
        if offer.ways is None and offer.bandwidth_step is None:
            return state, (Hold(self.name, "this machine can divide neither cache nor memory bandwidth"),)
        scales = self._scales(state, offer)
        level = state.level or scales.high()
        following, hold = self._next(level, scales, state, situation)
        holds = (*((hold,) if hold else ()), *self._misfits(state, offer))
        wanted = [
            intent
            for part in state.parts
            for intent in self._intents(part, following, offer)
            if _is_new(intent, state, situation)
        ]
        if not wanted:
            return state, holds
        decision = self._decision(wanted, state.parts, (level, following), situation)
        return replace(state, proposed=following), (decision, *holds)

    def learn(self, state: CacheState, decision: Decision, outcomes: tuple[Outcome, ...], now_ns: int) -> CacheState:
        """A step counts when some of it was done."""
        news = [outcome for outcome in outcomes if outcome.result not in (Result.APPLIED, Result.UNCHANGED)]
        state, proposed = replace(state, memory=state.memory.learned(news, now_ns, self._retry_ns)), state.proposed
        done = any(each.intent.group_id == BATCH_ID and each.result in DONE for each in outcomes)
        if proposed is None or not done:
            return replace(state, proposed=None)
        stepped_ns = state.stepped_ns if proposed == state.level else now_ns
        return replace(state, level=proposed, proposed=None, stepped_ns=stepped_ns)

    def _followed(self, state: CacheState, situation: Situation) -> CacheState:
        tree = tree_of(situation.tick.groups, state.tree)
        if tree is state.tree:
            return state
        parts, members = self._partitions.of(tree)
        has_batch = any(member.partition_id == BATCH_ID for member in members)
        memory = state.memory.without_gone({part.id: 0 for part in parts})
        return replace(state, tree=tree, parts=parts, has_batch=has_batch, memory=memory)

    def _scales(self, state: CacheState, offer: CacheOffer) -> _Scales:
        batch = next(part.config for part in state.parts if part.id == BATCH_ID)
        most = batch.bandwidth_most(mib_per_s=self._config.mba_mbps)
        return _Scales(ways_scale(self._config, batch.ways_pct, offer), bandwidth_scale(self._config, most, offer))

    def _next(
        self, level: Level, scales: _Scales, state: CacheState, situation: Situation
    ) -> tuple[Level, Hold | None]:
        """What batch work is to have now."""
        findings = situation.findings
        ours = [finding for finding in findings if self._is_ours(finding)]
        settled = state.stepped_ns is not None and situation.now_ns - state.stepped_ns >= self._settle_ns
        if self._config.policy == "static" or not settled or (findings and not ours):
            return level, None
        if not ours:
            return scales.up(level), None
        if not any(finding.is_fresh for finding in ours):
            return level, Hold(self.name, f"{ours[0].signal} of {ours[0].path} is absent, or what tells its cause")
        if not any(finding.is_fresh and finding.is_past for finding in ours):
            return level, None
        if not state.has_batch:
            return level, Hold(self.name, "there is no batch work that could give way")
        lower = scales.down(level)
        return lower, Hold(self.name, "batch work has nothing more to give") if lower == level else None

    def _is_ours(self, finding: Finding) -> bool:
        may = not finding.controllers or self.name in finding.controllers
        return may and finding.cause is Cause.CACHE

    def _misfits(self, state: CacheState, offer: CacheOffer) -> Iterator[Hold]:
        """Bandwidth in a unit that resctrl does not have as it is mounted."""
        if offer.bandwidth_step is None or offer.is_mib_per_s == self._config.mba_mbps:
            return
        if any(part.config.bandwidth for part in state.parts):
            unit, word = ("MiB/s", "with") if offer.is_mib_per_s else ("per cent", "without")
            yield Hold(self.name, f"bandwidth is left alone: resctrl was mounted {word} mba_MBps, it is in {unit} here")

    def _intents(self, part: Part, level: Level, offer: CacheOffer) -> Iterator[Intent]:
        """What a partition is to have, as far as the machine can divide it."""
        (begin, end), is_batch = part.config.ways_pct, part.id == BATCH_ID
        if offer.ways is not None:
            end = level.ways_end if is_batch and level.ways_end is not None else end
            yield Intent(part.id, part.title, Knob.CACHE_WAYS, (begin, end))
        if offer.bandwidth_step is not None and offer.is_mib_per_s == self._config.mba_mbps:
            most = part.config.bandwidth_most(mib_per_s=offer.is_mib_per_s)
            most = level.bandwidth if is_batch else most
            if most is not None:
                yield Intent(part.id, part.title, Knob.MEMORY_BANDWIDTH, most)

    def _decision(
        self, intents: list[Intent], parts: tuple[Part, ...], step: tuple[Level, Level], situation: Situation
    ) -> Decision:
        """`step`: what batch work had, and what it is to have."""
        assert situation.cache
        finding = next(filter(self._is_ours, situation.findings), None)
        takes, gives_back = step[0] != step[1] and finding is not None, step[0] != step[1] and finding is None
        why = f"{finding.path}: {finding.reason}; " if finding and takes else "no rule fires: " if gives_back else ""
        tell = _Teller(intents, parts, step, situation.cache.sample.offer)
        return Decision(
            controller=self.name,
            resource=Resource.CACHE,
            intents=tuple(intents),
            reason=why + "; ".join(tell.sentences()),
            cause=finding.cause if finding and takes else None,
            group_id=finding.group_id if finding and takes else None,
            gives_back=gives_back,
            inputs=_seen(situation.cache),
        )


@dataclass(frozen=True, slots=True)
class _Teller:
    """Says what partitions get, with numbers."""

    intents: list[Intent]
    parts: tuple[Part, ...]
    step: tuple[Level, Level]
    offer: CacheOffer

    def sentences(self) -> Iterator[str]:
        values = {(intent.group_id, intent.knob): intent.value for intent in self.intents}
        for part in self.parts:
            ways, bandwidth = values.get((part.id, Knob.CACHE_WAYS)), values.get((part.id, Knob.MEMORY_BANDWIDTH))
            has = []
            if isinstance(ways, tuple):
                alone = " alone" if part.config.exclusive else ""
                has.append(f"{ways[0]}-{ways[1]} % of the {self.offer.cache}{alone}{self._had_ways(part, ways)}")
            if isinstance(bandwidth, int):
                has.append(f"{self._rate(bandwidth)} of memory bandwidth{self._had_bandwidth(part, bandwidth)}")
            if has:
                yield f"{'batch work' if part.id == BATCH_ID else part.name} may use {' and '.join(has)}"

    def _had_ways(self, part: Part, ways: tuple[int, ...]) -> str:
        before = self.step[0].ways_end
        if part.id != BATCH_ID or before in (None, ways[1]):
            return ""
        return f" (was {ways[0]}-{before} %)"

    def _had_bandwidth(self, part: Part, bandwidth: int) -> str:
        before = self.step[0].bandwidth
        return "" if part.id != BATCH_ID or before in (None, bandwidth) else f" (was {self._rate(before or 0)})"

    def _rate(self, value: int) -> str:
        return f"{value} MiB/s" if self.offer.is_mib_per_s else f"{value} %"


def _is_new(intent: Intent, state: CacheState, situation: Situation) -> bool:
    """It is not so already, and may be tried."""
    key = intent.group_id, intent.knob
    held = situation.knobs.get(key)
    if held is not None and (held.is_foreign or held.current == intent.value):
        return False
    if held is None and state.memory.said.get(key) == intent.value:
        return False
    return state.memory.may_try(key, situation.now_ns)


def _seen(cache: CacheProfile) -> dict[str, float | str]:
    """What batch work has in the cache and moves, where it is known."""
    batch = cache.partitions.get(BATCH_ID)
    if batch is None:
        return {}
    seen = {"be_cache_bytes": batch.llc_bytes, "be_memory_bytes_per_s": batch.total_bytes_per_s}
    return {name: round(value) for name, value in seen.items() if not math.isnan(value)}
