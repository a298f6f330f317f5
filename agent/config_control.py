"""Configuration of rules, of applications' own figures, and of the history."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from agent.config_base import Glob, Meta, Section
from agent.config_laws import SENSITIVE_ALLOWED, Sensitive
from agent.quantity import TIME, parse_quantity
from agent.records import Qos

_NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,62}\Z"
_NAME_ALLOWED = "a letter, then up to 62 letters, digits, `_`, `-` or `.`"
_GLOBS_ALLOWED = 'a glob that begins with "/", or a list of such globs'

Name = Annotated[
    str, Meta(pattern=_NAME, description="What it is called; each its own.", extra={"allowed": _NAME_ALLOWED})
]


class RuleConfig(Section, frozen=True, kw_only=True):
    """Fires for a group when most of a window was past the threshold."""

    name: Name
    qos: Annotated[
        Sensitive | tuple[Sensitive, ...],
        Meta(description="Groups of these classes.", extra={"allowed": f"LSE, LSR, LS, or {SENSITIVE_ALLOWED}"}),
    ] = msgspec.field(name="class", default=())
    match: Annotated[
        Glob | tuple[Glob, ...],
        Meta(description="Groups with these paths; with `class`: of these classes.", extra={"allowed": _GLOBS_ALLOWED}),
    ] = ()
    signal: Annotated[
        str,
        Meta(
            description="What is watched: a signal (docs/control.md), or `sli:` and the name of an [[sli]].",
            extra={"allowed": "the name of a signal"},
        ),
    ]
    threshold: Annotated[
        str,
        Meta(
            description="Past this is bad. Of an [[sli]], left out: its target.",
            extra={"allowed": 'a number with its unit, as "2ms", "5%", "10/s"'},
        ),
    ] = ""
    window_s: Annotated[
        float, Meta(ge=1, le=600, description="How far it looks back: 2 to 1000 ticks.", extra={"unit": "s"})
    ] = 10.0
    percentile: Annotated[
        float,
        Meta(
            ge=1,
            le=49,
            description="It fires when this percentile of the window is past the threshold: all the rest was bad.",
        ),
    ] = 20.0
    clear_ratio: Annotated[
        float,
        Meta(
            ge=0.1,
            le=1,
            description="It clears when percentile 100 - `percentile` is below the threshold times this.",
        ),
    ] = 0.8
    controllers: Annotated[
        tuple[Name, ...],
        Meta(
            description="Which may act on it; left out: the one that cures the cause.",
            extra={"allowed": "a list of names of controllers: burst, suppress, network, cache, or of a plug-in"},
        ),
    ] = ()

    @property
    def classes(self) -> tuple[Qos, ...]:
        return tuple(Qos(qos) for qos in ((self.qos,) if isinstance(self.qos, str) else self.qos))

    @property
    def globs(self) -> tuple[str, ...]:
        return (self.match,) if isinstance(self.match, str) else self.match


class SliConfig(Section, frozen=True, kw_only=True):
    """A service's own latency, from where Prometheus would scrape it."""

    name: Name
    url: Annotated[
        str,
        Meta(
            pattern=r"^https?://[^\s/]+(?:/\S*)?\Z",
            description="Where the service has its metrics.",
            extra={"allowed": '"http://HOST:PORT/PATH" or "https://..."'},
        ),
    ]
    metric: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z_:][A-Za-z0-9_:]*\Z",
            description="Name of a histogram (without `_bucket`) or summary of latencies.",
            extra={"allowed": "the name of a metric"},
        ),
    ]
    metric_unit: Annotated[Literal["s", "ms", "us", "ns"], Meta(description="Unit of the metric's values.")] = "s"
    labels: Annotated[
        dict[str, str],
        Meta(
            description="Only series with these labels; more than one of them are added up.",
            extra={"allowed": 'a table of strings, as {path = "/"}'},
        ),
    ] = msgspec.field(default_factory=dict)
    quantile: Annotated[
        float, Meta(ge=0.01, le=0.9999, description="Which quantile of the latencies since the last look.")
    ] = 0.95
    target: Annotated[
        str, Meta(description="Past this is bad.", extra={"allowed": f"a number with its unit, {TIME.allowed}"})
    ]
    group: Annotated[
        Glob,
        Meta(description="Glob of the groups whose latency it is.", extra={"allowed": 'a glob that begins with "/"'}),
    ]
    interval_s: Annotated[
        float,
        Meta(
            ge=0.5,
            le=300,
            description="How often it is read; after three without success it is not known.",
            extra={"unit": "s"},
        ),
    ] = 5.0

    @property
    def signal(self) -> str:
        """The name by which rules know it."""
        return f"sli:{self.name}"

    @property
    def target_ns(self) -> float:
        return parse_quantity(self.target, TIME)


class HistoryConfig(Section, frozen=True):
    enabled: Annotated[bool, Meta(description="Keep what was decided, why, and what came of it.")] = True
    path: Annotated[Glob, Meta(description="The SQLite file.", extra={"allowed": 'a path that begins with "/"'})] = (
        "/var/lib/slackwater/history.db"
    )
    max_rows: Annotated[
        int,
        Meta(
            ge=100, le=10_000_000, description="The oldest decisions are dropped beyond this.", extra={"unit": "rows"}
        ),
    ] = 100_000
    max_mib: Annotated[
        int,
        Meta(ge=8, le=10_240, description="The same for all that it takes on the disk.", extra={"unit": "MiB"}),
    ] = 64
