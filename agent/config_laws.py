"""Configuration of the laws: how far the agent goes, and every constant of burst and suppress.

The laws themselves, with these constants in their places: docs/control.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from agent.config_base import Meta, Section
from agent.control import Enforce

Rung = Literal["idle", "cpuset", "quota", "freeze"]
Sensitive = Literal["LSE", "LSR", "LS"]
SENSITIVE_ALLOWED = "a list of LSE, LSR, LS"


class EnforceConfig(Section, frozen=True):
    mode: Annotated[
        Enforce, Meta(description="Whether the agent acts: not at all, only says what it would do, or does it.")
    ] = Enforce.OFF
    plugins: Annotated[Enforce, Meta(description="How far controllers of other packages go, at most.")] = Enforce.ON
    on_exit: Annotated[
        Literal["restore", "keep"], Meta(description="What becomes of what it has set when the agent ends.")
    ] = "restore"
    settle_s: Annotated[
        float,
        Meta(
            ge=0,
            le=300,
            description="After a change of one resource the others stay as they are for this long.",
            extra={"unit": "s"},
        ),
    ] = 3.0
    stale_ticks: Annotated[
        int, Meta(ge=2, le=100, description="Samples older than this: nothing is done.", extra={"unit": "ticks"})
    ] = 3
    lost_samples_pct: Annotated[
        float, Meta(ge=0, le=100, description="More samples lost in a tick: nothing is done.", extra={"unit": "%"})
    ] = 1.0
    refused_writes: Annotated[
        int, Meta(ge=1, le=1000, description="So many writes refused in a row, of any group: nothing is done.")
    ] = 5
    ill_s: Annotated[
        float,
        Meta(
            ge=0, le=3600, description="How long nothing is done after such a thing was last seen.", extra={"unit": "s"}
        ),
    ] = 10.0
    retry_s: Annotated[
        float,
        Meta(ge=1, le=86_400, description="A write that was refused is not tried again before.", extra={"unit": "s"}),
    ] = 60.0
    foreign_writes_per_min: Annotated[
        int,
        Meta(
            ge=0, le=1000, description="A group whose settings somebody else writes more often than this is left alone."
        ),
    ] = 3
    culprit_pct: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description="Part of a group's contention wait that makes the class which caused it its cause.",
            extra={"unit": "%"},
        ),
    ] = 50.0
    throttle_pct: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description="Part of a group's wait that its own quota must make up to be its cause.",
            extra={"unit": "%"},
        ),
    ] = 50.0
    little_wait_pct: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="A group that waits less than this, of the time that it wants to run, is not slow by the CPU.",
            extra={"unit": "%"},
        ),
    ] = 5.0
    cpi_deviations: Annotated[
        float,
        Meta(
            ge=1,
            le=20,
            description=(
                "Cycles per instruction that are above the usual by more than so many standard deviations show that "
                "caches are contended ([cpi])."
            ),
        ),
    ] = 2.0
    be_cache_pct: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description=(
                "BE that has less than this, both of the last-level cache and of the memory bandwidth in use, does not "
                "contend for them."
            ),
            extra={"unit": "%"},
        ),
    ] = 10.0
    full_pct: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description="A machine with more use than this has no room for a larger quota.",
            extra={"unit": "%"},
        ),
    ] = 95.0


class BurstConfig(Section, frozen=True):
    enforce: Annotated[Enforce, Meta(description="How far this controller goes, at most.")] = Enforce.ON
    policy: Annotated[
        Literal["static", "dynamic"],
        Meta(description="static: unused quota may be saved up; dynamic: also the quota is raised for a while."),
    ] = "dynamic"
    classes: Annotated[
        tuple[Sensitive, ...],
        Meta(description="Groups of these classes that have a quota.", extra={"allowed": SENSITIVE_ALLOWED}),
    ] = ("LS",)
    burst_pct: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="Saved up at most, in per cent of the quota (kernels refuse more than 100).",
            extra={"unit": "%"},
        ),
    ] = 100.0
    ceil_pct: Annotated[
        float,
        Meta(
            ge=100,
            le=1000,
            description="The highest quota, in per cent of the one that its owner set.",
            extra={"unit": "%"},
        ),
    ] = 300.0
    up_ratio: Annotated[float, Meta(ge=1.01, le=4, description="A raise is the quota times this.")] = 1.2
    down_ratio: Annotated[float, Meta(ge=0.1, le=0.99, description="A step back is the quota times this.")] = 0.8
    decay_s: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="A group that was not throttled for so long gets its raise taken back.",
            extra={"unit": "s"},
        ),
    ] = 10.0
    share_pool_pct: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description="Use of the CPUs that LS groups share, from which on raises are taken back.",
            extra={"unit": "%"},
        ),
    ] = 50.0
    share_pool_free_ratio: Annotated[
        float, Meta(ge=0.1, le=1, description="Part of share_pool_pct from which on nothing is raised.")
    ] = 0.9
    share_pool_mean_s: Annotated[
        float, Meta(ge=1, le=60, description="That use is the mean over this.", extra={"unit": "s"})
    ] = 5.0
    lower_groups_per_tick: Annotated[
        int,
        Meta(ge=1, le=1000, description="Under overload so many groups are lowered per tick, the largest first."),
    ] = 2
    budget_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="How long a group may use all of its ceiling before its raise is taken back.",
            extra={"unit": "s"},
        ),
    ] = 60.0
    save_pct: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description="Below this use, in per cent of the owner's quota, it gets budget back.",
            extra={"unit": "%"},
        ),
    ] = 60.0


class SuppressConfig(Section, frozen=True):
    enforce: Annotated[Enforce, Meta(description="How far this controller goes, at most.")] = Enforce.ON
    rungs: Annotated[
        tuple[Rung, ...],
        Meta(
            description=(
                "What BE groups lose, one after the other: priority (cpu.idle, or the lowest weight), "
                "CPUs, CPU time, all of it."
            ),
            extra={"allowed": "a list of some of idle, cpuset, quota, freeze, in this order"},
        ),
    ] = ("idle", "quota")
    always: Annotated[
        bool, Meta(description="CPUs or CPU time of BE are always what others leave, also while no rule fires.")
    ] = False
    threshold_pct: Annotated[
        float,
        Meta(ge=1, le=100, description="What all together may use, in per cent of the machine.", extra={"unit": "%"}),
    ] = 65.0
    min_pct: Annotated[
        float, Meta(ge=0, le=100, description="BE keeps this much, in per cent of the machine.", extra={"unit": "%"})
    ] = 2.0
    min_cores: Annotated[float, Meta(ge=0.02, le=4096, description="BE keeps this much.", extra={"unit": "cores"})] = (
        0.02
    )
    min_cpus: Annotated[int, Meta(ge=1, le=4096, description="BE keeps this many CPUs.", extra={"unit": "CPUs"})] = 2
    reserved_cores: Annotated[
        float,
        Meta(
            ge=0, le=4096, description="What the system needs at least, outside of all groups.", extra={"unit": "cores"}
        ),
    ] = 0.0
    reserved_cpus: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=8191)], ...],
        Meta(
            description="CPUs that BE loses first of all when it loses some.",
            extra={"allowed": "a list of CPU numbers, 0 to 8191"},
        ),
    ] = ()
    down_ratio: Annotated[float, Meta(ge=0.1, le=0.99, description="A step down by wait is the limit times this.")] = (
        0.7
    )
    up_pct: Annotated[
        float,
        Meta(ge=0.1, le=100, description="A step up by wait, in per cent of the machine.", extra={"unit": "%"}),
    ] = 5.0
    rise_pct: Annotated[
        float,
        Meta(
            ge=0.1,
            le=100,
            description="The most that a limit rises in a tick, in per cent of the machine.",
            extra={"unit": "%"},
        ),
    ] = 10.0
    dead_band_pct: Annotated[
        float,
        Meta(ge=0, le=10, description="A smaller change is not made, in per cent of the machine.", extra={"unit": "%"}),
    ] = 1.0
    calm_s: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="No rule has fired for so long: the highest rung is given back, then the next.",
            extra={"unit": "s"},
        ),
    ] = 10.0
    freeze_s: Annotated[
        float, Meta(ge=1, le=60, description="How long BE is frozen at a time.", extra={"unit": "s"})
    ] = 10.0
    freeze_step_s: Annotated[
        float, Meta(ge=0, le=60, description="Each repetition is longer by this.", extra={"unit": "s"})
    ] = 10.0
    freeze_max_s: Annotated[
        float, Meta(ge=1, le=120, description="The longest time that it is frozen.", extra={"unit": "s"})
    ] = 30.0
