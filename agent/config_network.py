"""Configuration of the network: devices, shares of the link, and limits of groups."""

from __future__ import annotations

from typing import Annotated

from agent.config_base import Glob, Meta, Section
from agent.control import Enforce
from agent.quantity import RATE, parse_quantity

_RATE_ALLOWED = f"a rate with its unit, {RATE.allowed}"
_DEVICE = r"^[^\s/:]{1,15}\Z"


class NetworkConfig(Section, frozen=True):
    enforce: Annotated[
        Enforce, Meta(description="How far this controller goes, at most; off: the network is not looked at.")
    ] = Enforce.OFF
    devices: Annotated[
        tuple[Annotated[str, Meta(pattern=_DEVICE)], ...],
        Meta(
            description="Which devices; none: those of the default routes. Of a bond: the bond.",
            extra={"allowed": "a list of names of network devices"},
        ),
    ] = ()
    link_rate: Annotated[
        str,
        Meta(
            description="What a device can send; left out: as its driver says.",
            extra={"allowed": _RATE_ALLOWED},
        ),
    ] = ""
    takeover: Annotated[
        bool,
        Meta(description="Also of devices whose root qdisc somebody chose; it is put back at the end."),
    ] = False
    system_pct: Annotated[
        float, Meta(ge=1, le=50, description="What the system is sure of, of the link.", extra={"unit": "%"})
    ] = 10.0
    ls_pct: Annotated[
        float, Meta(ge=1, le=90, description="What LS, LSR and LSE are sure of, of the link.", extra={"unit": "%"})
    ] = 50.0
    be_low_pct: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description="What BE may send, of the link, while services send much; it is sure of that.",
            extra={"unit": "%"},
        ),
    ] = 10.0
    be_high_pct: Annotated[
        float, Meta(ge=1, le=100, description="The same while they do not.", extra={"unit": "%"})
    ] = 40.0
    watermark_pct: Annotated[
        float,
        Meta(ge=1, le=100, description="Services that send more of the link send much.", extra={"unit": "%"}),
    ] = 80.0
    clear_ratio: Annotated[
        float, Meta(ge=0.1, le=1, description="They do until they send less than the watermark times this.")
    ] = 0.8
    be_sends_pct: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description=(
                "BE that sends this, of its low bound, is why a service is slow by its own figure that hardly waits "
                "for the CPU."
            ),
            extra={"unit": "%"},
        ),
    ] = 50.0

    @property
    def link_bytes_per_s(self) -> int | None:
        return int(parse_quantity(self.link_rate, RATE)) if self.link_rate else None


class LimitConfig(Section, frozen=True):
    """What a group may send and receive at most, by each device; with [network]. The first that matches counts."""

    match: Annotated[
        Glob | tuple[Glob, ...],
        Meta(
            description="Groups with these paths; what lies in one shares its limit.",
            extra={"allowed": 'a glob that begins with "/", or a list of such globs'},
        ),
    ]
    send: Annotated[
        str, Meta(description="What it may send; left out: no limit.", extra={"allowed": _RATE_ALLOWED})
    ] = ""
    receive: Annotated[
        str,
        Meta(
            description="What it may receive: only containers with a veth of their own.",
            extra={"allowed": _RATE_ALLOWED},
        ),
    ] = ""

    @property
    def globs(self) -> tuple[str, ...]:
        return (self.match,) if isinstance(self.match, str) else self.match

    @property
    def send_bytes_per_s(self) -> int | None:
        return int(parse_quantity(self.send, RATE)) if self.send else None

    @property
    def receive_bytes_per_s(self) -> int | None:
        return int(parse_quantity(self.receive, RATE)) if self.receive else None
