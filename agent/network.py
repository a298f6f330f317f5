"""Joins the stages of the network for the enforcer: what is read, who is in which class, what is written.

Made only where [network] is on, or where a predecessor has left devices.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from agent.actuators import net_cls
from agent.actuators.devices import Devices
from agent.actuators.executor import Executor
from agent.actuators.htb import NetClass, Shares
from agent.actuators.journal_records import DeviceEntry
from agent.actuators.network import Member, NetworkExecutor
from agent.actuators.report import Restored
from agent.config import Config
from agent.config_check import check_devices
from agent.control import Intent, Knob, KnobState, Outcome
from agent.decisions.tree import SENSITIVE, Tree
from agent.errors import HostError
from agent.host import Host
from agent.profiles.network import NetworkProfiler
from agent.records import Group, NetworkProfile
from agent.rtnetlink import Rtnetlink
from agent.samples.network import NetworkSampler, cgroup2_ids
from native.net import NetClassifier
from native.probe import ProbeError

log = logging.getLogger(__name__)


class NetworkStages:
    """A context manager, in the loop's thread: that thread's network namespace is the one that it is about."""

    def __init__(self, config: Config, host: Host, executor: Executor) -> None:
        """HostError: no rtnetlink, or the classifier is refused. ConfigError: a device that is not there."""
        self._config = config
        self._profiler = NetworkProfiler()
        self._followed: tuple[tuple[Group, ...], Mapping[int, int], Mapping[int, tuple[int, ...]]] = (), {}, {}
        self._failed: str | None = None
        with contextlib.ExitStack() as stack:
            try:
                self._rtnl = stack.enter_context(Rtnetlink())
                self._numbered = net_cls.hierarchy(host)
                classifier = stack.enter_context(
                    NetClassifier(config.agent.max_groups, use_net_cls=self._numbered is not None)
                )
            except ProbeError as err:
                raise HostError(err.strerror or str(err), errno=err.errno) from err
            except OSError as err:
                raise HostError.of(err, "rtnetlink") from err
            self._numbers = net_cls.NetCls(self._numbered) if self._numbered else None
            ids = self._numbers_of if self._numbers else cgroup2_ids(host)
            self._sampler = NetworkSampler(self._rtnl, classifier, host, ids)
            self._executor = NetworkExecutor(
                self._rtnl, executor.journal, classifier, time.monotonic_ns, shares=_shares(config), takeover=False
            )
            self.configure(config)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Without restoring."""
        self._stack.close()

    @property
    def knobs(self) -> Mapping[tuple[int, Knob], KnobState]:
        return self._executor.knobs

    @property
    def names(self) -> Mapping[int, str]:
        """Of devices that are held."""
        return self._executor.names

    def configure(self, config: Config) -> None:
        """ConfigError: it does not fit this host's devices; nothing is new."""
        links = self._rtnl.links()
        defaults = self._rtnl.default_devices()
        check_devices(
            config,
            {link.name: self._rtnl.speed_bytes_per_s(link.name) for link in links},
            frozenset(link.name for link in links if link.ifindex in defaults),
        )
        self._config = config
        self._executor.share(_shares(config))
        self._executor.takeover = config.network.takeover
        self._executor.foreign_writes_max = config.enforce.foreign_writes_per_min

    def adopt(self, entries: Iterable[DeviceEntry]) -> tuple[Restored, ...]:
        """Give back what a dead predecessor had."""
        return self._executor.adopt(entries)

    def read(self, groups: tuple[Group, ...]) -> NetworkProfile | None:
        """Of this tick; None: it could not be read, which is said once."""
        try:
            self._executor.watch()
            own_classes = self._executor.own_classes
            sample = self._sampler.read(self._config.network, groups, own_classes, time.monotonic_ns())
            profile = self._profiler.update(sample)
        except OSError as err:
            if self._failed != err.strerror:
                log.error("the network cannot be read: %s", err.strerror)
                self._failed = err.strerror
            return None
        self._failed = None
        return profile

    def follow(self, groups: tuple[Group, ...], tree: Tree) -> None:
        """Whose packets go where, when that has changed."""
        ids, veths = self._sampler.socket_ids, self._sampler.veths
        if groups is self._followed[0] and ids is self._followed[1] and veths is self._followed[2]:
            return
        self._followed = groups, ids, veths
        members = [
            Member(group.id, group.path, _class_of(row, tree), ids.get(group.id), veths.get(group.id, ()))
            for row, group in enumerate(groups)
        ]
        try:
            self._executor.follow(members)
        except OSError as err:
            log.error("the classifier could not be told of all groups: %s", err.strerror)

    def apply(self, intents: Sequence[Intent]) -> tuple[Outcome, ...]:
        return self._executor.apply(intents)

    def restore(self) -> tuple[Restored, ...]:
        return (*self._executor.restore(), *(net_cls.give_back(self._numbered) if self._numbered else ()))

    def _numbers_of(self, groups: Sequence[Group]) -> Mapping[int, int]:
        """None while nothing is shaped: a dry run writes nothing."""
        return self._numbers.numbers(groups) if self._numbers and self._executor.knobs else {}


def _shares(config: Config) -> Shares:
    return Shares(config.network.system_pct, config.network.ls_pct, config.network.be_low_pct)


def _class_of(row: int, tree: Tree) -> NetClass:
    """What lies in a BE group is batch work, of whatever class by name."""
    if tree.is_be[row]:
        return NetClass.BE
    return NetClass.LS if tree.groups[row].qos in SENSITIVE else NetClass.SYSTEM


def restore_network(executor: Executor, host: Host) -> tuple[Restored, ...]:
    """Without an agent: give back what a dead one had. HostError."""
    numbered = net_cls.hierarchy(host)
    numbers = net_cls.give_back(numbered) if numbered else ()
    if not executor.devices:
        return numbers
    try:
        with Rtnetlink() as rtnl:
            return (*Devices(rtnl, executor.journal).adopt(executor.devices), *numbers)
    except OSError as err:
        raise HostError.of(err, "rtnetlink") from err
