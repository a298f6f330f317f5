"""Services' own latencies, read from where Prometheus would read them: one thread for each, off the loop.

Imported only when the configuration has an [[sli]]: HTTP client and parser are 8 MB of memory. A server that hangs
delays only its own figure, which is not known then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.config_control import SliConfig
from agent.control import SliValue, SliView
from agent.quantity import TIME, format_quantity
from agent.samples.sli_formats import (
    Problem,
    Reading,
    SliError,
    growth,
    histogram_quantile,
    parse_reading,
    summary_quantile,
)
from agent.samples.sli_http import scrape
from agent.units import NS_PER_S

log = logging.getLogger(__name__)

STALE_INTERVALS = 3
TIMEOUT_S_MAX = 10.0
_CLOSE_S = 0.2


@dataclass(frozen=True, slots=True)
class _Look:
    """A reading and when it was taken."""

    reading: Reading
    time_ns: int


class SliReader:
    """One service. Not thread-safe; `look` may take as long as the timeout."""

    def __init__(self, config: SliConfig) -> None:
        self.config = config
        self._unit_ns = TIME.factors[config.metric_unit]
        self._timeout_s = min(config.interval_s, TIMEOUT_S_MAX)
        self._before: _Look | None = None

    def look(self, clock_ns: Callable[[], int]) -> SliValue | None:
        """The figure since the last look; None: that was the first, or too long ago. Raises SliError."""
        config = self.config
        text, openmetrics = scrape(config.url, config.metric, self._timeout_s)
        reading = parse_reading(text, openmetrics=openmetrics, metric=config.metric, labels=config.labels)
        now_ns = clock_ns()
        if reading.quantiles:
            return self._value(summary_quantile(reading, config.quantile), now_ns)
        before, self._before = self._before, _Look(reading, now_ns)
        if before is None or now_ns - before.time_ns > self.stale_ns:
            return None
        value, is_beyond = histogram_quantile(growth(before.reading, reading), config.quantile)
        if is_beyond and value * self._unit_ns < config.target_ns:
            raise SliError(
                Problem.BEYOND_BUCKETS,
                f"beyond the last bucket, {format_quantity(value * self._unit_ns, TIME)}, which is below the target",
            )
        return self._value(value, now_ns)

    @property
    def stale_ns(self) -> int:
        """A figure older than this is not known."""
        return int(STALE_INTERVALS * self.config.interval_s * NS_PER_S)

    def _value(self, value: float, now_ns: int) -> SliValue:
        config = self.config
        return SliValue(config.name, config.group, value * self._unit_ns, config.target_ns, now_ns)


class SliSampler:
    """Reads all of them from the moment it is made, each every `interval_s`. No call waits for a server."""

    def __init__(self, configs: Iterable[SliConfig], clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._closing = threading.Event()
        self._readers = [SliReader(config) for config in configs]
        self._latest: dict[str, SliValue] = {}
        self._problems: dict[str, SliError | None] = {}
        self._told: dict[str, Problem | None] = {}
        self._counts: Counter[tuple[str, Problem]] = Counter()
        self._threads = [
            threading.Thread(target=self._work, args=(reader,), name=f"sli {reader.config.name}"[:15], daemon=True)
            for reader in self._readers
        ]
        for thread in self._threads:
            thread.start()

    def values(self, now_ns: int) -> dict[str, SliValue]:
        """By name. One that is older than three intervals is not known any more and not there."""
        latest = dict(self._latest)
        return {
            reader.config.name: value
            for reader in self._readers
            if (value := latest.get(reader.config.name)) and now_ns - value.time_ns <= reader.stale_ns
        }

    def problems(self) -> dict[str, str]:
        """Why the last look gave no figure, in words, of those that gave none."""
        return {name: error.words for name, error in list(self._problems.items()) if error}

    def views(self, now_ns: int) -> tuple[SliView, ...]:
        """What there is to tell of each since the start."""
        known, counts = self.values(now_ns), list(self._counts.items())
        return tuple(
            SliView(
                name=(name := reader.config.name),
                value_ns=known[name].value if name in known else None,
                target_ns=reader.config.target_ns,
                failed={problem.value: count for (of, problem), count in counts if of == name},
            )
            for reader in self._readers
        )

    def close(self) -> None:
        """Ends the threads; one that waits for a server is left behind, and ends with the process."""
        self._closing.set()
        for thread in self._threads:
            thread.join(_CLOSE_S / len(self._threads))

    def _work(self, reader: SliReader) -> None:
        """The thread of one service."""
        while not self._closing.is_set():
            begin_ns = self._clock_ns()
            try:
                value, error = reader.look(self._clock_ns), None
            except SliError as err:
                value, error = None, err
                self._counts[reader.config.name, err.problem] += 1
            if value:
                self._latest[reader.config.name] = value
            self._tell(reader.config, error)
            spent_s = (self._clock_ns() - begin_ns) / NS_PER_S
            self._closing.wait(max(reader.config.interval_s - spent_s, 0.0))

    def _tell(self, config: SliConfig, error: SliError | None) -> None:
        """Into the log only what is new; that nobody asked anything of a service is no news."""
        self._problems[config.name] = error
        if error and error.problem is Problem.QUIET:
            return
        told = self._told.get(config.name)
        self._told[config.name] = problem = error.problem if error else None
        if error and problem is not told:
            log.warning("sli %s: not known: %s: %s", config.name, config.url, error.words)
        elif told and not error:
            log.info("sli %s: known again", config.name)
