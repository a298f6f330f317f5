"""The frozen records of control: what is seen (Situation), what is to be done (Decision), what came of it (Outcome).

`agent/records.py` has what is measured; decisions/ turns it into decisions, actuators/ turn these into outcomes.
Nothing here reads, writes or decides. What is not known is None and makes a law hold; it is never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

from agent.records import CacheProfile, NetworkProfile, PartitionProfile, Profile, Qos, Tick


class Enforce(StrEnum):
    """How far the agent goes, as a whole and per controller; the lesser of both holds."""

    OFF = "off"
    DRY_RUN = "dry-run"
    ON = "on"


class Resource(StrEnum):
    """What the arbiter gives out: after a change of one, the others stay as they are for a while."""

    BURST = "burst"
    SUPPRESS = "suppress"
    CACHE = "cache"
    NETWORK = "network"


class Cause(StrEnum):
    """Why a group's signal is past its threshold, and so which resource may cure it."""

    OWN_QUOTA = "own quota"
    BATCH_ON_CPU = "batch work on the CPU"
    OWN_LOAD = "own load or other services"
    CACHE = "cache or memory bandwidth"
    NETWORK = "network"
    UNKNOWN = "unknown"


class Knob(StrEnum):
    """A setting of a group that can be written. Files, ranges and formats on v1 and v2: actuators/knobs.py."""

    QUOTA = "quota"
    """CPU time per period in us; None: no limit. The period stays the owner's."""
    BURST = "burst"
    """us that may be saved up over quiet periods."""
    WEIGHT = "weight"
    """On the scale of cpu.weight, 1 to 10000."""
    IDLE = "idle"
    """1: SCHED_IDLE as a group; 0: not."""
    CPUSET = "cpuset"
    """CPU numbers, ascending; (): those of the parent."""
    FREEZE = "freeze"
    """1: frozen; 0: not."""
    LINK = "link"
    """Of a device: bytes per s that its classes share; None: its qdiscs are its owner's."""
    BE_SEND = "be_send"
    """Of a device: bytes per s that batch work may send by it at most; None: its qdiscs are its owner's."""
    SEND = "send"
    """Bytes per s that the group may send by a device at most; None: no limit of its own."""
    RECEIVE = "receive"
    """The same for what it receives; only a container with a veth of its own can have it."""
    CACHE_WAYS = "cache_ways"
    """Of a partition: (from, to) in percent of the ways of the last cache that can be divided; None: no partition."""
    MEMORY_BANDWIDTH = "memory_bandwidth"
    """Of a partition: percent of the bandwidth, MiB/s where resctrl is mounted with mba_MBps; None: no partition."""


DEVICE_KNOBS = frozenset({Knob.LINK, Knob.BE_SEND})
NETWORK_KNOBS = DEVICE_KNOBS | {Knob.SEND, Knob.RECEIVE}
"""What actuators/network.py writes."""
CACHE_KNOBS = frozenset({Knob.CACHE_WAYS, Knob.MEMORY_BANDWIDTH})
"""What actuators/cache.py writes."""
CGROUP_KNOBS = tuple(knob for knob in Knob if knob not in NETWORK_KNOBS | CACHE_KNOBS)
"""Files of a cgroup, which actuators/executor.py writes."""


KnobValue = int | tuple[int, ...] | None


def partition_id(qos: Qos) -> int:
    """Of the partition (a group of resctrl) of a class, below 0; that of a single workload has its group's id."""
    return -1 - list(Qos).index(qos)


@dataclass(frozen=True, slots=True)
class Intent:
    """One knob of one group is to have this value. `path` is for printing, the id counts."""

    group_id: int
    """Of a knob of a device: its ifindex, and `path` is its name. Of a partition: see `partition_id`."""
    path: str
    knob: Knob
    value: KnobValue


@dataclass(frozen=True, slots=True)
class Decision:
    """Intents that belong together, and why. `inputs`: the numbers it was decided from, by name with unit."""

    controller: str
    resource: Resource
    intents: tuple[Intent, ...]
    reason: str
    """A sentence with numbers, as `slackwater explain` tells it."""
    cause: Cause | None = None
    group_id: int | None = None
    """The group for whose sake."""
    gives_back: bool = False
    """Towards what the owner set."""
    emergency: bool = False
    """A giving back that does not wait for another resource to settle."""
    inputs: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is done, for this reason. `controller` None: nobody does anything."""

    controller: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """What this node cannot cure, told to whoever can: the owner, the cluster's scheduler."""

    reason: str
    group_id: int | None = None
    path: str | None = None
    cause: Cause | None = None
    inputs: Mapping[str, float | str] = field(default_factory=dict)


class Result(StrEnum):
    """What became of a write."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    """It was so already."""
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"
    """This host has no such knob for this group."""
    GONE = "gone"
    FOREIGN = "foreign"
    """Somebody else wrote this knob meanwhile: nothing is written, their value is the new base (and before and after);
    after several times it is left alone."""
    DRY_RUN = "dry-run"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one intent, or of a write that had to go with it (a burst that must not exceed its quota)."""

    intent: Intent
    result: Result
    before: KnobValue = None
    """As read before the write; means nothing where the result is unsupported or gone."""
    after: KnobValue = None
    """As read back."""
    errno: int | None = None
    kernel_text: str | None = None


@dataclass(frozen=True, slots=True)
class KnobState:
    """Of a knob that the agent has written or tried to."""

    base: KnobValue
    """What its owner set: found before the first write, or written by somebody else since."""
    current: KnobValue
    """What the agent wrote last; equal to `base`: nothing of ours is on it."""
    is_foreign: bool = False
    """Left alone: its owner wrote it too often."""


@dataclass(frozen=True, slots=True)
class ThrottleEvent:
    """A group's quota ran out on one CPU. `time_ns`: CLOCK_MONOTONIC, in the kernel."""

    group_id: int
    cpu: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class SliValue:
    """An application's own figure, as scraped; `value` and `target` in ns."""

    name: str
    group: str
    """Glob of the groups whose figure it is."""
    value: float
    target: float
    time_ns: int


@dataclass(frozen=True, slots=True)
class Topology:
    """CPUs of the machine. Sources: /sys/devices/system/cpu, /sys/devices/system/node."""

    cpus: tuple[int, ...]
    """Online, ascending."""
    siblings: Mapping[int, tuple[int, ...]]
    """CPU -> the hardware threads of its core, itself included."""
    node_of: Mapping[int, int]
    """CPU -> NUMA node."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that fires for a group, and why."""

    rule: str
    group_id: int
    path: str
    signal: str
    value: float
    threshold: float
    cause: Cause
    reason: str
    controllers: tuple[str, ...] = ()
    """Who may act on it; (): whoever cures the cause."""
    is_fresh: bool = True
    """False: the signal is absent now, or what tells its cause. The rule still fires, but nothing more is done because
    of it."""
    is_past: bool = True
    """False: the last sample is not past the threshold, though most of the window is. What was done last may have been
    enough, so nothing more is done."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a controller may look at. Of one tick, or of a throttle event between two (`throttled`)."""

    now_ns: int
    tick: Tick
    profile: Profile
    topology: Topology
    findings: tuple[Finding, ...] = ()
    """Rules that fire now."""
    clear_s: float = 0.0
    """For how long no rule has fired."""
    knobs: Mapping[tuple[int, Knob], KnobState] = field(default_factory=dict)
    slis: Mapping[str, SliValue] = field(default_factory=dict)
    """By name; one that is stale is not there."""
    throttled: tuple[ThrottleEvent, ...] = ()
    """Since the last call."""
    owners: Mapping[tuple[int, Knob], KnobValue] = field(default_factory=dict)
    """Idle, weight and freeze of BE groups as their owners set them; where it is known."""
    cpusets: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """CPUs that a BE or LSE group may use by its owner's will, as the kernel says; where it is known."""
    network: NetworkProfile | None = None
    """None: it is not looked at."""
    cache: CacheProfile | None = None
    """None: it is not looked at, or could not be read."""
    root_is_read_only: bool | None = None
    """The root file system was remounted so, as after a disk error."""


@dataclass(frozen=True, slots=True)
class PartitionView:
    """A partition of the caches as it is now, for people and metrics."""

    id: int | None
    """See `partition_id`; None: of the rest."""
    name: str
    """The class, the path of the group that has it alone, or (rest): what lies in no partition."""
    members: tuple[str, ...]
    """Paths of the groups that lie in it; what lies in these is not told of."""
    ways_pct: tuple[int, int] | None
    """From and to; None: not set."""
    bandwidth: int | None
    """None: not set."""
    is_mib_per_s: bool
    """Else it is in percent."""
    profile: PartitionProfile | None
    """None: it has no counters."""


@dataclass(frozen=True, slots=True)
class Reloads:
    """How often the configuration was read anew since the start."""

    accepted_count: int = 0
    refused_count: int = 0
    last_was_refused: bool = False

    def accepted(self) -> Reloads:
        return Reloads(self.accepted_count + 1, self.refused_count)

    def refused(self) -> Reloads:
        return Reloads(self.accepted_count, self.refused_count + 1, last_was_refused=True)


NO_RELOADS = Reloads()


@dataclass(frozen=True, slots=True)
class SliView:
    """A service's own figure. `value_ns` None: not known now; `failed`: readings that gave none, by problem."""

    name: str
    value_ns: float | None
    target_ns: float
    failed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ControlReport:
    """What controlling did, as metrics show it. Counts rise since the start."""

    mode: Enforce
    holds: tuple[Hold, ...]
    """Now."""
    outcomes: Mapping[tuple[str, Result], int]
    """By controller."""
    events: int
    """Told upwards."""
    changed_knobs: int
    """Not as their owners set them, now."""
    foreign_knobs: int
    """Left alone because their owners write them too often, now."""
    foreign_writes: int
    """Of owners to what the agent had written."""
    reaction_ns: Mapping[float, float]
    """Quantile -> from a throttle in the kernel to its answer read back, of the last ones; empty: there was none."""
    throttles_lost: int
    history_dropped: int | None
    """None: there is no history."""
    network: NetworkProfile | None = None
    partitions: tuple[PartitionView, ...] = ()
    slis: tuple[SliView, ...] = ()


State = TypeVar("State")


class Controller(Protocol[State]):
    """A law. Pure: what it remembers is its state, a frozen object of its own.

    Other packages bring theirs by an entry point of the group `slackwater.controllers`: a callable without arguments
    that returns one. It is asked at every tick, not between two.
    """

    name: str
    claims: frozenset[tuple[Qos, Knob]]
    """What it writes. No two controllers that are on may claim the same."""

    def initial(self) -> State: ...

    def decide(self, state: State, situation: Situation) -> tuple[State, tuple[Decision | Hold, ...]]:
        """What should be done now. It may be refused by the arbiter, then `learn` is not called."""
        ...

    def learn(self, state: State, decision: Decision, outcomes: tuple[Outcome, ...], now_ns: int) -> State:
        """What became of a decision."""
        ...
