"""Random histories of a made-up node: loads, missing figures, refusals, owners' writes, illness."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from agent.control import Knob, KnobValue, Result
from agent.records import Qos
from tests.agent.decisions.world import CALM, NAN, Look, World

SHOP, POD, APP, PINNED, BATCH_A, BATCH_B, JOB = 10, 11, 12, 13, 20, 21, 22
GROUPS = {
    SHOP: ("/shop", Qos.LS),
    POD: ("/pod", Qos.LS),
    APP: ("/pod/app", Qos.LS),
    PINNED: ("/pinned", Qos.LSE),
    BATCH_A: ("/batch-a", Qos.BE),
    BATCH_B: ("/batch-b", Qos.BE),
    JOB: ("/batch-b/job", Qos.BE),
}
SERVICES, BATCH = (SHOP, POD, APP), (BATCH_A, BATCH_B)
OWNERS: dict[tuple[int, Knob], KnobValue] = {
    (SHOP, Knob.QUOTA): 50_000,
    (POD, Knob.QUOTA): 120_000,
    (APP, Knob.QUOTA): 100_000,
    (BATCH_B, Knob.QUOTA): 150_000,
    (JOB, Knob.QUOTA): 900_000,
}
CPUS = 4
FLOOR_CORES = 0.02 * CPUS
SETTLE_S = 3

CONFIG = """
[enforce]
mode = "on"
settle_s = {settle_s}
ill_s = 2
refused_writes = 1000
[suppress]
rungs = {rungs}
always = {always}
{more}
[[rule]]
name = "slow"
class = "LS"
signal = "wait_p99"
threshold = "2ms"
window_s = 3
"""
RUNGS: tuple[list[str], ...] = (
    ["idle", "quota"],
    ["quota"],
    ["idle", "cpuset", "quota", "freeze"],
    ["cpuset"],
    ["freeze"],
    [],
)

SLOW = Look(0.4, 9, 0.5, culprits={BATCH_A: 0.6, BATCH_B: 0.4})
LOOKS = (
    SLOW,
    SLOW,
    CALM,
    Look(0.9, 9, 0.5, culprits={SHOP: 1}),
    Look(0.5, 9, 0.1, throttle_s=0.8, throttled=3),
    Look(0.5, 0.1, 0.01, throttle_s=0.1, throttled=1),
    Look(NAN, NAN, NAN, throttle_s=NAN, throttled=NAN),
    Look(0.0, None),
)


@dataclass(frozen=True)
class Moment:
    """A tick and what comes after it."""

    shop: Look
    app: Look
    batch_cores: tuple[float, float]
    node_used_cores: float | None
    events: tuple[int, ...]
    result: Result
    owner_writes: tuple[int, int] | None
    seconds: float
    is_ill: bool


RESULTS = [Result.APPLIED] * 6 + [Result.REFUSED, Result.UNSUPPORTED, Result.FOREIGN, Result.GONE, Result.UNCHANGED]
CORES = st.sampled_from([0.0, 0.01, 0.3, 1.5, 4.0, NAN])


def moments(*, always_works: bool = False) -> st.SearchStrategy[Moment]:
    """`always_works`: all writes are applied, and nobody else writes."""
    return st.builds(
        Moment,
        shop=st.sampled_from(LOOKS),
        app=st.sampled_from(LOOKS),
        batch_cores=st.tuples(CORES, CORES),
        node_used_cores=st.sampled_from([None, None, None, 0.2, 3.9, NAN]),
        events=st.sampled_from([(), (), (SHOP,), (APP,), (APP, POD, SHOP), (999,)]),
        result=st.just(Result.APPLIED) if always_works else st.sampled_from(RESULTS),
        owner_writes=st.none()
        if always_works
        else st.none() | st.tuples(st.sampled_from(list(GROUPS)), st.sampled_from([1_000, 30_000, 400_000])),
        seconds=st.sampled_from([1.0, 1.0, 0.1, 5.0]),
        is_ill=st.sampled_from([False] * 9 + [True]),
    )


def world_of(rungs: list[str], *, always: bool = False, settle_s: float = SETTLE_S, more: str = "") -> World:
    text = CONFIG.format(rungs=rungs, always=str(always).lower(), settle_s=settle_s, more=more)
    world = World(text, GROUPS, cpus=CPUS, owners=dict(OWNERS))
    world.cpusets[PINNED] = (3,)
    return world


def live(world: World, moment: Moment) -> None:
    """One moment of the node."""
    world.result = lambda _: moment.result
    a, b = moment.batch_cores
    looks = {SHOP: moment.shop, APP: moment.app, POD: moment.app, BATCH_A: Look(a), BATCH_B: Look(b), JOB: Look(b)}
    world.tick(
        looks,
        node_used_cores=moment.node_used_cores,
        seconds=moment.seconds,
        root_is_read_only=moment.is_ill,
    )
    if moment.events:
        world.event(*moment.events)
    if moment.owner_writes:
        group_id, value_us = moment.owner_writes
        world.foreign_write(group_id, Knob.QUOTA, value_us)
        burst_us = world.value(group_id, Knob.BURST)
        assert isinstance(burst_us, int)
        if burst_us > value_us:  # the kernel would not let the owner do that
            world.foreign_write(group_id, Knob.BURST, 0)
