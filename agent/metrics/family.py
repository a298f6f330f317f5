"""What a metric family is: one entry of the table in group_families.py and host_families.py. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from agent.control import NO_RELOADS, ControlReport, Reloads
from agent.metrics.totals import Totals
from agent.records import Floats, Profile, Tick
from agent.units import NS_PER_S, NS_PER_US

US_PER_S = NS_PER_S // NS_PER_US

UNITS = ("seconds", "bytes", "cores", "ratio")
PREFIX = "slackwater_"

Labels = tuple[tuple[str, str], ...]
GROUP_LABELS = ("group", "class")


class Kind(StrEnum):
    """Metric types, spelled as in the text formats."""

    COUNTER = "counter"
    GAUGE = "gauge"
    INFO = "info"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class View:
    """One moment of the agent as a scrape shows it: the last tick, nothing of the kernel."""

    tick: Tick
    profile: Profile
    totals: Totals
    version: str
    now_ns: int
    """CLOCK_MONOTONIC of the scrape."""
    reloads: Reloads = NO_RELOADS
    control: ControlReport | None = None
    """None: nothing is enforced."""


@dataclass(frozen=True, slots=True)
class GroupColumn:
    """One value per group of the tick."""

    read: Callable[[View], Floats]
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class HostColumn:
    """One value of the machine or of the agent."""

    read: Callable[[View], float | None]
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """The value 1 with labels that are read: an info metric without a group."""

    read: Callable[[View], Labels]


@dataclass(frozen=True, slots=True)
class Series:
    """Any number of values, each with labels of these names, in this order."""

    read: Callable[[View], Iterable[tuple[Labels, float]]]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Special:
    """Series whose number per group varies; agent/metrics/series.py and the writers know how to read them."""

    what: str


GROUP_INFO = Special("group info")
CULPRITS = Special("culprits")
WAIT_HISTOGRAMS = Special("wait histograms")

Column = GroupColumn | HostColumn | LabelColumn | Series | Special


@dataclass(frozen=True, slots=True)
class Family:
    """`own_labels` are those that no column states."""

    name: str
    kind: Kind
    help: str
    columns: tuple[Column, ...]
    own_labels: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels of every series, in order."""
        column = self.columns[0]
        if isinstance(column, Series):
            return column.names
        stated = tuple(name for name, _ in column.labels) if isinstance(column, GroupColumn | HostColumn) else ()
        return (GROUP_LABELS if isinstance(column, GroupColumn | Special) else ()) + stated + self.own_labels

    @property
    def unit(self) -> str:
        """The name's last word but for _total, if that is a unit; else nothing is measured but counted."""
        word = self.name.removesuffix("_total").rpartition("_")[2]
        return word if word in UNITS else ""


def counter(name: str, help_text: str, *columns: Column, labels: tuple[str, ...] = ()) -> Family:
    return Family(PREFIX + name, Kind.COUNTER, help_text, columns, labels)


def gauge(name: str, help_text: str, *columns: Column) -> Family:
    return Family(PREFIX + name, Kind.GAUGE, help_text, columns)


def info(name: str, help_text: str, column: Column, *, labels: tuple[str, ...]) -> Family:
    return Family(PREFIX + name, Kind.INFO, help_text, (column,), labels)


def histogram(name: str, help_text: str, column: Column, *, labels: tuple[str, ...]) -> Family:
    return Family(PREFIX + name, Kind.HISTOGRAM, help_text, (column,), labels)
