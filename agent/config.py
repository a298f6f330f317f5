"""Configuration: a TOML file -> one frozen Config, or one line that says what is wrong with it.

Every key stands here once, with its default, its range, its unit and its meaning; the decoder, the error
messages and docs/configuration.md all read them from these types. What no other module acts on has no key.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from agent.config_base import Glob, Meta, Section
from agent.config_cache import CacheConfig, PartitionConfig
from agent.config_check import check, check_own_group
from agent.config_control import HistoryConfig, RuleConfig, SliConfig
from agent.config_cpi import CpiConfig
from agent.config_explain import explain, one_line
from agent.config_laws import BurstConfig, EnforceConfig, SuppressConfig
from agent.config_network import LimitConfig, NetworkConfig
from agent.errors import ConfigError
from agent.records import Qos

DEFAULT_PATH = Path("/etc/slackwater/slackwater.toml")
FILE_BYTES_MAX = 1 << 20
WINDOW_TICKS_MAX = 3600
"""A window costs 12 bytes per group and tick: 42 MiB at 1000 groups with the longest."""

_PORT = r"(?:6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]\d{4}|[1-9]\d{0,3})"
_ADDRESS = rf"^(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):{_PORT}\Z"


class AgentConfig(Section, frozen=True):
    tick_s: Annotated[
        float, Meta(ge=0.1, le=60, description="Length of a tick: how often everything is read.", extra={"unit": "s"})
    ] = 1.0
    drain_interval_ms: Annotated[
        int,
        Meta(ge=5, le=1000, description="How often the rings are emptied within a tick.", extra={"unit": "ms"}),
    ] = 50
    window_s: Annotated[
        float,
        Meta(
            ge=2,
            le=3600,
            description=f"What a profile looks back on: 2 to {WINDOW_TICKS_MAX} ticks; 12 bytes per group and tick.",
            extra={"unit": "s"},
        ),
    ] = 60.0
    rescan_s: Annotated[
        float,
        Meta(ge=1, le=3600, description="How often the cgroup tree is walked, as a correction.", extra={"unit": "s"}),
    ] = 30.0
    max_groups: Annotated[
        int,
        Meta(ge=16, le=65536, description="Groups that are watched; more are counted as refused."),
    ] = 16384
    slow_every_ticks: Annotated[
        int,
        Meta(
            ge=1,
            le=600,
            description="Files that are slow to read (memory, IO, PSI) are read every so many ticks.",
            extra={"unit": "ticks"},
        ),
    ] = 10

    @property
    def window_ticks(self) -> int:
        """Ticks in the window, at least 1 (a snapshot's tick is longer than its window)."""
        return max(1, round(self.window_s / self.tick_s))


class MetricsConfig(Section, frozen=True):
    enabled: Annotated[bool, Meta(description="Serve /metrics over HTTP.")] = True
    address: Annotated[
        str,
        Meta(
            pattern=_ADDRESS,
            description="Where /metrics is served.",
            extra={"allowed": '"HOST:PORT" with a port from 1 to 65535, IPv6 as "[::1]:9753"'},
        ),
    ] = "127.0.0.1:9753"
    culprits_per_group: Annotated[
        int, Meta(ge=0, le=100, description="Culprits exported per victim, the largest first; the rest is summed up.")
    ] = 5

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


class ProbeConfig(Section, frozen=True):
    enabled: Annotated[bool, Meta(description="Measure with BPF; false: cgroup files and /proc only.")] = True
    max_sampling: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="Under overload only one wait in N is sent, N up to this; 1: always every wait.",
        ),
    ] = 64
    ring_kib_per_8_cpus: Annotated[
        Literal[64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384],
        Meta(description="Size of each sample ring; one ring serves up to 8 CPUs.", extra={"unit": "KiB"}),
    ] = 1024
    unthrottle: Annotated[
        Literal["auto", "off"],
        Meta(description="Trace the kernel's unthrottle itself where it may be traced (fentry, kprobe)."),
    ] = "auto"


class BudgetConfig(Section, frozen=True):
    cpu_pct: Annotated[
        float,
        Meta(
            ge=0.1,
            le=100,
            description="CPU for taking in samples, in per cent of one core; above it the sampling factor is raised.",
            extra={"unit": "%"},
        ),
    ] = 4.0


class DiscoveryConfig(Section, frozen=True):
    systemd: Annotated[
        bool, Meta(description="What is below system.slice or user.slice is LS; false: SYSTEM, as all the rest.")
    ] = True


class ClassRule(Section, frozen=True):
    """The first rule that matches a group's path gives its class."""

    match: Annotated[
        Glob | tuple[Glob, ...],
        Meta(
            description="Group path from the cpu hierarchy's root: `*` within one component, `**` across components.",
            extra={"allowed": 'a glob that begins with "/", or a list of such globs'},
        ),
    ]
    qos: Annotated[Qos, Meta(description="The class of these groups.")] = msgspec.field(name="class")

    @property
    def globs(self) -> tuple[str, ...]:
        return (self.match,) if isinstance(self.match, str) else self.match


class Config(Section, frozen=True):
    agent: AgentConfig = AgentConfig()
    metrics: MetricsConfig = MetricsConfig()
    probe: ProbeConfig = ProbeConfig()
    budget: BudgetConfig = BudgetConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    class_rules: tuple[ClassRule, ...] = msgspec.field(name="class", default=())
    enforce: EnforceConfig = EnforceConfig()
    burst: BurstConfig = BurstConfig()
    suppress: SuppressConfig = SuppressConfig()
    network: NetworkConfig = NetworkConfig()
    limits: tuple[LimitConfig, ...] = msgspec.field(name="limit", default=())
    cache: CacheConfig = CacheConfig()
    partitions: tuple[PartitionConfig, ...] = msgspec.field(name="partition", default=())
    cpi: CpiConfig = CpiConfig()
    history: HistoryConfig = HistoryConfig()
    rules: tuple[RuleConfig, ...] = msgspec.field(name="rule", default=())
    slis: tuple[SliConfig, ...] = msgspec.field(name="sli", default=())


def load_config(
    path: Path | None = None, *, default_path: Path = DEFAULT_PATH, own_cgroup: str | None = None
) -> Config:
    """Read `path`; without one read `default_path`, which may be missing (then: the defaults).

    `own_cgroup`: of the agent, relative to the cpu hierarchy's root (Host.own_cgroup); no rule may make it BE.
    Raises ConfigError with one line: file, key, value, what is allowed.
    """
    file = path or default_path
    name = one_line(str(file))
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as err:
        if path is None:
            return Config()
        raise ConfigError(f"{name}: no such file") from err
    except (OSError, ValueError) as err:
        raise ConfigError(f"{name}: cannot be read: {getattr(err, 'strerror', None) or err}") from err
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"{name}: larger than {FILE_BYTES_MAX >> 20} MiB, not a configuration")
    try:
        text = content.decode()
    except UnicodeDecodeError as err:
        raise ConfigError(f"{name}: not a text file: byte {err.start} is not UTF-8, as TOML must be") from err
    return parse_config(text, name, own_cgroup=own_cgroup)


def parse_config(text: str, name: str, *, own_cgroup: str | None = None) -> Config:
    """Decode TOML. `name` stands before the errors. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as err:  # tomllib lets int() and datetime errors through as they are
        raise ConfigError(f"{name}: not TOML: {one_line(str(err))}") from err
    try:
        config = msgspec.convert(document, Config)
    except msgspec.ValidationError as err:
        raise ConfigError(f"{name}: {explain(document, Config, str(err))}") from err
    try:
        _check_window(config.agent)
        check(config)
        if own_cgroup is not None:
            check_own_group(config, own_cgroup)
    except ConfigError as err:
        raise ConfigError(f"{name}: {err}") from err
    return config


def _check_window(agent: AgentConfig) -> None:
    if not 2 * agent.tick_s <= agent.window_s <= WINDOW_TICKS_MAX * agent.tick_s:
        low_s, high_s = max(2.0, 2 * agent.tick_s), min(3600.0, WINDOW_TICKS_MAX * agent.tick_s)
        raise ConfigError(
            f"agent.window_s = {agent.window_s:g}: with agent.tick_s = {agent.tick_s:g} "
            f"allowed is {low_s:g} to {high_s:g} s"
        )
