"""Network devices that are not as their owners left them: each on record before it is changed, and given back.

A device is its ifindex; its name is for printing. What is ours on one: a root qdisc with the handle 51ac:, and at its
ingress a filter of the priority 0x51ac that sends all that comes in to an IFB of ours (slwIFINDEX, alias slackwater).
Everything else there is its owner's.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator
from dataclasses import replace

from agent import tc_options
from agent.actuators.htb import is_ours
from agent.actuators.journal import Journal
from agent.actuators.journal_records import DeviceEntry
from agent.actuators.qdisc_tree import (
    ALIAS,
    Parts,
    can_be_rebuilt,
    capture,
    described,
    is_kernels_own,
    is_our_ifb,
    put_back,
    remove_trial,
)
from agent.actuators.report import Fate, Restored
from agent.control import Knob
from agent.rtnetlink import Rtnetlink, own_namespace
from agent.traffic import ALL_PROTOCOLS, INGRESS, INGRESS_FILTERS, MAJOR, ROOT, Link, Part, ifb_name, root_of

_CLSACT = Part("qdisc", "clsact", INGRESS & 0xFFFF0000, INGRESS)
_GONE = frozenset({errno.ENODEV, errno.ENXIO})


class Refused(Exception):
    """It is not ours to change; the text says why."""


class Devices:
    """Those that are held, by ifindex."""

    def __init__(self, rtnl: Rtnetlink, journal: Journal) -> None:
        self.rtnl = rtnl
        self._journal = journal
        self._held: dict[int, DeviceEntry] = {}
        self._namespace = own_namespace()

    def __contains__(self, ifindex: int) -> bool:
        return ifindex in self._held

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._held))

    def entry(self, ifindex: int) -> DeviceEntry | None:
        return self._held.get(ifindex)

    def take_root(self, link: Link, root: Part, *, takeover: bool) -> None:
        """From now on it is ours to shape. Refused: it is somebody's, or could not be given back. OSError."""
        entry = self._entry(link)
        found = capture(self.rtnl, link.ifindex)
        if entry.takes_root and _is_ours(found):
            self.rtnl.change(link.ifindex, root)
            return
        if _is_ours(found):
            found = ()  # on nobody's record: what the kernel gives
        elif not is_kernels_own(found):
            if not takeover:
                raise Refused(
                    f"its root qdisc is {described(found)}, which is somebody's: allowed with network.takeover"
                )
            self._announce(entry)  # so that the trial's device is not forgotten
            why_not = can_be_rebuilt(self.rtnl, found, link.tx_queues)
            if why_not:
                if not entry.takes_ingress:
                    self._free(link.ifindex)
                raise Refused(f"it could not be given back: {why_not}")
        self._announce(replace(entry, base=found, takes_root=True))
        self.rtnl.add(link.ifindex, root, replaces=True)

    def take_ingress(self, link: Link) -> int:
        """What comes in goes through an IFB of ours from now on; its ifindex. OSError."""
        entry = self._entry(link)
        if entry.takes_ingress and (ifb := self._ifb_of(link.ifindex)):
            return ifb
        has_ingress = any(part.parent == INGRESS for part in self.rtnl.parts("qdisc", link.ifindex))
        makes = entry.makes_ingress if entry.takes_ingress else not has_ingress
        self._announce(replace(entry, takes_ingress=True, makes_ingress=makes))
        self._remove_ifb(link.ifindex)
        ifb = self.rtnl.add_ifb(ifb_name(link.ifindex), ALIAS)
        if not has_ingress:
            self.rtnl.add(link.ifindex, _CLSACT)
        with contextlib.suppress(OSError):
            self.rtnl.delete(link.ifindex, _redirect())
        self.rtnl.add(link.ifindex, _redirect(ifb))
        return ifb

    def give_back_root(self, ifindex: int) -> Restored:
        """The root that its owner had."""
        return self._given_back(ifindex, replace(self._held[ifindex], takes_ingress=False))

    def give_back_ingress(self, ifindex: int) -> Restored:
        return self._given_back(ifindex, replace(self._held[ifindex], takes_root=False))

    def give_back(self, ifindex: int) -> Restored:
        """All that is ours on it."""
        return self._given_back(ifindex, self._held[ifindex])

    def adopt(self, entries: Iterable[DeviceEntry]) -> tuple[Restored, ...]:
        """Give back what a dead predecessor had."""
        remove_trial(self.rtnl)
        done = []
        for entry in entries:
            if entry.namespace != self._namespace:
                why = f"it is in another network namespace ({entry.namespace})"
                done.append(replace(_told(entry, Fate.REFUSED), why=why))
                continue
            self._held[entry.ifindex] = entry
            done.append(self.give_back(entry.ifindex))
        return tuple(done)

    def lost(self, ifindex: int) -> None:
        """It is gone, or somebody has put another root there."""
        self._remove_ifb(ifindex)
        self._free(ifindex)

    def root_is_ours(self, ifindex: int) -> bool:
        return has_our_root(self.rtnl.parts("qdisc", ifindex))

    def exists(self, ifindex: int) -> bool:
        return any(link.ifindex == ifindex for link in self.rtnl.links())

    def _entry(self, link: Link) -> DeviceEntry:
        return self._held.get(link.ifindex) or DeviceEntry(link.ifindex, self._namespace, link.name, ())

    def _announce(self, entry: DeviceEntry) -> None:
        self._journal.announce(entry)
        self._held[entry.ifindex] = entry

    def _free(self, ifindex: int) -> None:
        self._held.pop(ifindex, None)
        with contextlib.suppress(OSError):  # then it will be found as it was
            self._journal.free(ifindex)

    def _given_back(self, ifindex: int, what: DeviceEntry) -> Restored:
        entry = self._held[ifindex]
        try:
            told = self._return(what)
        except OSError as err:
            if err.errno not in _GONE and self.exists(ifindex):
                return replace(_told(entry, Fate.REFUSED), why=err.strerror)
            told = _told(entry, Fate.GONE)
            self._remove_ifb(ifindex)
        if told.fate is Fate.REFUSED:
            return told
        left = replace(
            entry,
            takes_root=entry.takes_root and not what.takes_root,
            takes_ingress=entry.takes_ingress and not what.takes_ingress,
            is_returning=False,
        )
        if told.fate is not Fate.GONE and (left.takes_root or left.takes_ingress):
            self._announce(left)
        else:
            self._free(ifindex)
        return told

    def _return(self, what: DeviceEntry) -> Restored:
        if not self.exists(what.ifindex):
            raise OSError(errno.ENODEV, "no such device")
        if what.takes_ingress:
            self._return_ingress(what)
        if not what.takes_root:
            return _told(what, Fate.RESTORED if what.takes_ingress else Fate.AS_FOUND)
        found = capture(self.rtnl, what.ifindex)
        told = replace(_told(what, Fate.RESTORED), found=described(found))
        if not _is_ours(found) and not what.is_returning:
            return replace(told, fate=Fate.AS_FOUND if found == what.base else Fate.FOREIGN)
        if not is_kernels_own(what.base):
            self._announce(replace(self._held[what.ifindex], is_returning=True))
        put_back(self.rtnl, what.ifindex, what.base)
        after = capture(self.rtnl, what.ifindex)
        if after == what.base or (is_kernels_own(what.base) and is_kernels_own(after)):
            return told
        return replace(told, fate=Fate.REFUSED, why=f"it came back as {described(after)}")

    def _return_ingress(self, what: DeviceEntry) -> None:
        ours = [
            part
            for part in self.rtnl.parts("filter", what.ifindex, INGRESS_FILTERS)
            if part.info >> 16 == MAJOR and part.kind == "u32"
        ]
        if ours:
            self.rtnl.delete(what.ifindex, _redirect())
        self._remove_ifb(what.ifindex)
        qdiscs = [part for part in self.rtnl.parts("qdisc", what.ifindex) if part.parent == INGRESS]
        hooks = (INGRESS_FILTERS, INGRESS_FILTERS + 1)
        is_used = any(self.rtnl.parts("filter", what.ifindex, hook) for hook in hooks)
        if what.makes_ingress and qdiscs and not is_used:
            self.rtnl.delete(what.ifindex, qdiscs[0])

    def _ifb_of(self, ifindex: int) -> int | None:
        name = ifb_name(ifindex)
        ours = (link.ifindex for link in self.rtnl.links() if is_our_ifb(link, name))
        return next(ours, None)

    def _remove_ifb(self, ifindex: int) -> None:
        ifb = self._ifb_of(ifindex)
        if ifb is not None:
            with contextlib.suppress(OSError):
                self.rtnl.delete_link(ifb)


def has_our_root(qdiscs: Parts) -> bool:
    return any(is_ours(part) for part in qdiscs if part.parent == ROOT)


def _redirect(ifb: int | None = None) -> Part:
    """The filter at an ingress that is ours; without an IFB: as it is named to delete it."""
    options = b"" if ifb is None else tc_options.redirect_all(ifb)
    return Part("filter", "u32", 0, INGRESS_FILTERS, MAJOR << 16 | ALL_PROTOCOLS, options)


def _is_ours(parts: Parts) -> bool:
    root = root_of(parts)
    return root is not None and is_ours(root)


def _told(entry: DeviceEntry, fate: Fate) -> Restored:
    return Restored(entry.ifindex, entry.name, Knob.LINK, fate, described(entry.base))
