"""The one writer of the network: brings devices, classes and limits where they are to be, and says what came of it.

    link      the device's root is our HTB, with a class for the system, for services, and for batch work (htb.py)
    be_send   the ceil of the class of batch work
    send      a class of its own for a group; of a container with a veth: a TBF on an IFB through which it sends
    receive   of a container with a veth: a TBF on the host's side of it

Which packet goes to which class is the classifier's to say (bpf/net_class.bpf.c), whose maps are filled here. It stays
on the device when we die, with what it knew; the next start or `slackwater restore` takes it off. Made from the
journal of actuators/executor.py: there is one record of all that is not as its owner left it.
"""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent import tc_options
from agent.actuators import htb
from agent.actuators.devices import Devices, Refused, has_our_root
from agent.actuators.htb import GroupLimit, NetClass, Shares
from agent.actuators.journal import Journal
from agent.actuators.journal_records import DeviceEntry
from agent.actuators.report import Fate, Restored
from agent.actuators.shaper import Shape, Shaper
from agent.control import DEVICE_KNOBS, Intent, Knob, KnobState, KnobValue, Outcome, Result
from agent.rtnetlink import NO_SUCH_KIND, Rtnetlink
from agent.traffic import ROOT, Link, Part
from agent.units import NS_PER_S
from native.net import NetClassifier

_FOREIGN_WINDOW_NS = 60 * NS_PER_S
_ORDER = (Knob.LINK, Knob.BE_SEND, Knob.SEND, Knob.RECEIVE)


@dataclass(frozen=True, slots=True)
class Member:
    """A group, as far as the network is concerned. `socket_id`: what its sockets are known by; None: nothing."""

    group_id: int
    path: str
    net_class: NetClass
    socket_id: int | None
    veths: tuple[int, ...] = ()
    """The host's side of the devices in its own network namespace, by ifindex."""


@dataclass(slots=True)
class _Limits:
    """Of a group; None: none."""

    minor: int
    send_bytes_per_s: int | None = None
    receive_bytes_per_s: int | None = None


@dataclass(slots=True)
class _Members:
    """All groups, by id, and those whose own class a path belongs to."""

    by_id: dict[int, Member] = field(default_factory=dict)
    by_path: dict[str, Member] = field(default_factory=dict)


class NetworkExecutor:
    """There is one per journal, in the network namespace of its thread."""

    def __init__(
        self,
        rtnl: Rtnetlink,
        journal: Journal,
        classifier: NetClassifier,
        now_ns: Callable[[], int],
        *,
        shares: Shares,
        takeover: bool,
    ) -> None:
        self._rtnl, self._classifier, self._now_ns = rtnl, classifier, now_ns
        self._devices = Devices(rtnl, journal)
        self._shares, self.takeover = shares, takeover
        self.foreign_writes_max = 3
        self._shaped: dict[int, Shape] = {}
        self._shaper = Shaper(rtnl)
        self._limits: dict[int, _Limits] = {}
        self._members = _Members()
        self._told: dict[tuple[str, int], int] = {}
        """What the classifier was told: ("group", socket id) or ("device", ifindex) -> class."""
        self._states: dict[tuple[int, Knob], KnobState] = {}
        self._foreign_ns: dict[int, deque[int]] = {}

    def share(self, shares: Shares) -> None:
        """From now on classes are sure of this."""
        self._shares = shares
        for ifindex, shaped in self._shaped.items():
            self._shaped[ifindex] = replace(shaped, shares=shares)
        self._shape_all()

    @property
    def knobs(self) -> Mapping[tuple[int, Knob], KnobState]:
        """Those that are held, and devices that are left to their owners."""
        return dict(self._states)

    @property
    def names(self) -> Mapping[int, str]:
        """Of devices that are held."""
        entries = {ifindex: self._devices.entry(ifindex) for ifindex in self._devices}
        return {ifindex: entry.name for ifindex, entry in entries.items() if entry}

    @property
    def own_classes(self) -> Mapping[int, int]:
        """Class -> the group whose own it is."""
        return {htb.group_class_id(limits.minor): group_id for group_id, limits in self._limits.items()}

    def adopt(self, entries: Iterable[DeviceEntry]) -> tuple[Restored, ...]:
        """Give back what a dead predecessor had."""
        return self._devices.adopt(entries)

    def apply(self, intents: Sequence[Intent]) -> tuple[Outcome, ...]:
        """One outcome per intent, in their order."""
        outcomes = {
            intent: self._applied(intent) for intent in sorted(intents, key=lambda intent: _ORDER.index(intent.knob))
        }
        return tuple(outcomes[intent] for intent in intents)

    def follow(self, members: Iterable[Member]) -> None:
        """These are the groups now: whose packets go where. When they have changed."""
        before, self._members = self._members, _Members()
        for member in members:
            self._members.by_id[member.group_id] = member
            self._members.by_path[member.path] = member
        for group_id in tuple(self._limits):
            now, then = self._members.by_id.get(group_id), before.by_id.get(group_id)
            if now is None or (then is not None and now.veths != then.veths):
                self._forget_limits(group_id)
        self._classify()

    def watch(self) -> tuple[Outcome, ...]:
        """Look whether somebody has put another root on a device that is ours, or has taken the device away."""
        noticed = []
        if not self.names:
            return ()
        there, qdiscs = {link.ifindex for link in self._rtnl.links()}, self._rtnl.qdiscs()
        for ifindex, name in self.names.items():
            entry = self._devices.entry(ifindex)
            assert entry
            if ifindex in there and (not entry.takes_root or has_our_root(qdiscs.get(ifindex, ()))):
                continue
            state = self._states.get((ifindex, Knob.LINK))
            noticed.append(self._lost(Intent(ifindex, name, Knob.LINK, state.current if state else None)))
        return tuple(noticed)

    def restore(self) -> tuple[Restored, ...]:
        """Everything back; what cannot be put back stays held, and on record."""
        done = tuple(self._devices.give_back(ifindex) for ifindex in self._devices)
        for key in [key for key in self._states if key[0] not in self._devices]:
            del self._states[key]
        self._shaped = {ifindex: shaped for ifindex, shaped in self._shaped.items() if ifindex in self._devices}
        self._limits.clear()
        return done

    def _applied(self, intent: Intent) -> Outcome:
        state = self._states.get((intent.group_id, intent.knob))
        before = state.current if state else None
        if state and state.is_foreign:
            return Outcome(intent, Result.FOREIGN, before, before)
        if before == intent.value:
            return Outcome(intent, Result.UNCHANGED, before, before)
        try:
            if intent.knob in DEVICE_KNOBS:
                return self._set_device(intent, before)
            return self._set_group(intent, before)
        except Refused as err:
            return Outcome(intent, Result.REFUSED, before, before, errno.EPERM, str(err))
        except OSError as err:
            return self._failed(intent, before, err)

    def _set_device(self, intent: Intent, before: KnobValue) -> Outcome:
        ifindex, value = intent.group_id, intent.value
        if value is None:
            if intent.knob is Knob.BE_SEND:
                return Outcome(intent, Result.UNCHANGED, before, before)
            return self._released(intent, before)
        assert isinstance(value, int)
        shaped = self._shaped.get(ifindex)
        if shaped and not self._root_is_ours(ifindex):
            return self._lost(intent)
        if intent.knob is Knob.LINK:
            be_bytes_per_s = min(shaped.be_bytes_per_s, value) if shaped else value
            wanted = Shape(value, be_bytes_per_s, self._shares)
        elif shaped:
            wanted = Shape(shaped.link_bytes_per_s, value, self._shares)
        else:
            return Outcome(intent, Result.REFUSED, kernel_text="the device is not ours")
        try:
            if shaped is None:
                self._devices.take_root(self._link(ifindex), htb.root(), takeover=self.takeover)
            self._shape(ifindex, wanted)
            if shaped is None:
                self._shaper.attach(ifindex, self._classifier.program_fd)
        except OSError:
            if shaped is None and ifindex in self._devices:  # not half of it
                self._devices.give_back_root(ifindex)
            raise
        self._shaped[ifindex] = wanted
        self._states[ifindex, intent.knob] = KnobState(None, value)
        return Outcome(intent, Result.APPLIED, before, value)

    def _shape(self, ifindex: int, wanted: Shape) -> None:
        self._shaper.shape(self._link(ifindex), wanted, self._group_limits())

    def _shape_all(self) -> None:
        for ifindex, shaped in self._shaped.items():
            with contextlib.suppress(OSError):  # the device has gone: `watch` says so
                self._shape(ifindex, shaped)

    def _released(self, intent: Intent, before: KnobValue) -> Outcome:
        ifindex = intent.group_id
        if ifindex in self._devices:
            told = self._devices.give_back_root(ifindex)
            if told.fate is Fate.REFUSED:
                return Outcome(intent, Result.REFUSED, before, before, None, told.why)
        self._shaped.pop(ifindex, None)
        for knob in DEVICE_KNOBS:
            self._states.pop((ifindex, knob), None)
        return Outcome(intent, Result.APPLIED, before, None)

    def _set_group(self, intent: Intent, before: KnobValue) -> Outcome:
        group_id, value = intent.group_id, intent.value
        assert value is None or isinstance(value, int)
        member = self._members.by_id.get(group_id)
        if member is None:
            return Outcome(intent, Result.GONE)
        if intent.knob is Knob.RECEIVE and not member.veths:
            why = "only a container with a veth of its own can be limited in what it receives"
            return Outcome(intent, Result.UNSUPPORTED, kernel_text=why)
        limits = self._limits.setdefault(group_id, _Limits(self._free_minor()))
        try:
            if intent.knob is Knob.SEND:
                limits.send_bytes_per_s = value
                self._limit_sending(member, value)
            else:
                limits.receive_bytes_per_s = value
                self._limit_receiving(member, value)
        except (Refused, OSError):
            self._forget_limits(group_id)
            raise
        self._states[group_id, intent.knob] = KnobState(None, value)
        if value is None:
            del self._states[group_id, intent.knob]
        if limits.send_bytes_per_s is None and limits.receive_bytes_per_s is None:
            del self._limits[group_id]
        return Outcome(intent, Result.APPLIED, before, value)

    def _limit_sending(self, member: Member, value: int | None) -> None:
        if not member.veths:
            for ifindex, shaped in self._shaped.items():
                self._shape(ifindex, shaped)
            self._classify()
        for ifindex in member.veths:
            if value is not None:
                link = self._link(ifindex)
                self._set_tbf(self._devices.take_ingress(link), link.mtu_bytes, value)
            elif ifindex in self._devices:
                self._devices.give_back_ingress(ifindex)

    def _limit_receiving(self, member: Member, value: int | None) -> None:
        for ifindex in member.veths:
            if value is not None:
                link = self._link(ifindex)
                self._devices.take_root(link, _tbf(link.mtu_bytes, value), takeover=self.takeover)
                self._check_tbf(ifindex, value)
            elif ifindex in self._devices:
                self._devices.give_back_root(ifindex)

    def _set_tbf(self, ifindex: int, mtu_bytes: int, value: int) -> None:
        self._rtnl.add(ifindex, _tbf(mtu_bytes, value), replaces=True)
        self._check_tbf(ifindex, value)

    def _check_tbf(self, ifindex: int, value: int) -> None:
        roots = [part for part in self._rtnl.parts("qdisc", ifindex) if htb.is_ours(part)]
        if not roots or tc_options.read_tbf(roots[0].options) != value:
            raise OSError(errno.EIO, "its rate reads back otherwise")

    def _group_limits(self) -> list[GroupLimit]:
        """Of groups whose packets go through a class: those without a veth of their own."""
        limits = []
        for group_id, of_group in self._limits.items():
            member = self._members.by_id.get(group_id)
            if member and not member.veths and of_group.send_bytes_per_s is not None:
                limits.append(GroupLimit(member.net_class, of_group.minor, of_group.send_bytes_per_s))
        return limits

    def _forget_limits(self, group_id: int) -> None:
        """The group has gone, or has another network: whoever decides sets them anew."""
        del self._limits[group_id]
        for knob in (Knob.SEND, Knob.RECEIVE):
            self._states.pop((group_id, knob), None)
        self._shape_all()

    def _classify(self) -> None:
        """Tell the classifier of what is new or otherwise."""
        own = {self._members.by_id[group_id].path for group_id in self._limits if group_id in self._members.by_id}
        wanted: dict[tuple[str, int], int] = {}
        for member in self._members.by_id.values():
            class_id = self._class_of(member, own)
            if member.socket_id is not None:
                wanted["group", member.socket_id] = class_id
            wanted |= {("device", ifindex): class_id for ifindex in member.veths}
        for kind, number in self._told.keys() - wanted.keys():
            (self._classifier.forget_group if kind == "group" else self._classifier.forget_device)(number)
        for (kind, number), class_id in wanted.items():
            if self._told.get((kind, number)) != class_id:
                (self._classifier.set_group if kind == "group" else self._classifier.set_device)(number, class_id)
        self._told = wanted

    def _class_of(self, member: Member, own: set[str]) -> int:
        """That of the nearest group at or above it that has its own class, else the one of all of its kind."""
        path = member.path
        while path:
            if path in own:
                owner = self._members.by_path[path]
                limits = self._limits[owner.group_id]
                if not owner.veths and limits.send_bytes_per_s is not None:
                    return htb.group_class_id(limits.minor)
            path = path.rpartition("/")[0]
        return htb.class_id(member.net_class)

    def _free_minor(self) -> int:
        taken = {limits.minor for limits in self._limits.values()}
        free = next((minor for minor in range(htb.GROUP_MINOR_MIN, htb.GROUP_MINOR_MAX) if minor not in taken), None)
        if free is None:
            raise Refused(f"no more than {htb.GROUP_MINOR_MAX - htb.GROUP_MINOR_MIN} groups can have limits")
        return free

    def _link(self, ifindex: int) -> Link:
        for link in self._rtnl.links():
            if link.ifindex == ifindex:
                return link
        raise OSError(errno.ENODEV, "no such device")

    def _root_is_ours(self, ifindex: int) -> bool:
        with contextlib.suppress(OSError):
            return self._devices.root_is_ours(ifindex)
        return False

    def _lost(self, intent: Intent) -> Outcome:
        """The device has gone, or somebody has given it another root: theirs, so it stays."""
        ifindex = intent.group_id
        is_there = self._devices.exists(ifindex)
        self._devices.lost(ifindex)
        self._shaped.pop(ifindex, None)
        for knob in DEVICE_KNOBS:
            self._states.pop((ifindex, knob), None)
        for group_id in [id for id in self._limits if ifindex in self._members.by_id[id].veths]:
            self._forget_limits(group_id)
        if not is_there:
            return Outcome(intent, Result.GONE)
        times_ns, now_ns = self._foreign_ns.setdefault(ifindex, deque()), self._now_ns()
        times_ns.append(now_ns)
        while now_ns - times_ns[0] > _FOREIGN_WINDOW_NS:
            times_ns.popleft()
        if len(times_ns) > self.foreign_writes_max:
            self._states[ifindex, Knob.LINK] = KnobState(None, None, is_foreign=True)
        return Outcome(intent, Result.FOREIGN)

    def _failed(self, intent: Intent, before: KnobValue, err: OSError) -> Outcome:
        text = err.strerror or str(err)
        if err.errno in NO_SUCH_KIND and self._exists(intent):
            return Outcome(intent, Result.UNSUPPORTED, before, before, err.errno, text)
        if not self._exists(intent):
            return self._lost(intent) if intent.knob in DEVICE_KNOBS else Outcome(intent, Result.GONE)
        return Outcome(intent, Result.REFUSED, before, before, err.errno, text)

    def _exists(self, intent: Intent) -> bool:
        if intent.knob in DEVICE_KNOBS:
            return self._devices.exists(intent.group_id)
        member = self._members.by_id.get(intent.group_id)
        return member is not None and all(map(self._devices.exists, member.veths))


def _tbf(mtu_bytes: int, rate_bytes_per_s: int) -> Part:
    return Part("qdisc", "tbf", htb.HANDLE, ROOT, options=tc_options.tbf(rate_bytes_per_s, mtu_bytes))
