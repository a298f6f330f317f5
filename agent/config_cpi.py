"""Configuration of hardware counters: whether, of how many groups, and what is a group's usual figure."""

from __future__ import annotations

from typing import Annotated

from agent.config_base import Meta, Section


class CpiConfig(Section, frozen=True):
    enabled: Annotated[
        bool, Meta(description="Count cycles, instructions and cache misses of groups, where the machine has counters.")
    ] = False
    max_groups: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description=(
                "Of so many, at most: three descriptors on each CPU, and work at each switch between groups. Those "
                "that rules are about, or without rules all of LSE, LSR and LS; the topmost, with all that is below."
            ),
        ),
    ] = 16
    min_instructions_per_s: Annotated[
        int,
        Meta(ge=1000, le=10**12, description="A group with fewer tells nothing of caches.", extra={"unit": "/s"}),
    ] = 10_000_000
    recent_ticks: Annotated[
        int,
        Meta(
            ge=1,
            le=600,
            description="A group is slowed down if most of so many ticks were past its usual figure.",
            extra={"unit": "ticks"},
        ),
    ] = 10
    usual_half_life_s: Annotated[
        float,
        Meta(
            ge=60,
            le=604_800,
            description="How soon a group's usual figure forgets: after this a tick counts half.",
            extra={"unit": "s"},
        ),
    ] = 3600.0
    usual_after_ticks: Annotated[
        int,
        Meta(ge=10, le=100_000, description="What is usual is known after so many of them.", extra={"unit": "ticks"}),
    ] = 60
