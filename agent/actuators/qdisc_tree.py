"""What a device had before it was ours: its qdiscs, classes and filters, and how to give them back.

A root that the kernel made (handle 0) comes back by itself when ours is deleted. Any other is built anew from the bytes
of its parts; whether that gives the same again is tried beforehand, on a device made for it (`can_be_rebuilt`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from agent.actuators.qdisc_bytes import askable, comparable
from agent.rtnetlink import Rtnetlink
from agent.traffic import INGRESS, ROOT, Link, Part, root_of

Parts = tuple[Part, ...]

_MADE_BY_HAND = frozenset({"htb", "hfsc", "drr", "qfq", "cbq"})
"""Qdiscs whose classes are told to them; those of others (prio, mq, tbf) come with them."""
_U32_NODE, _U32_NUMBERED = 0xFFFFF, 0x80000000
"""Of a handle: which filter of a hash table; a table whose number the kernel chose. Source: TC_U32_*."""
TRIAL_NAME, ALIAS = "slackwater-try", "slackwater"


def capture(rtnl: Rtnetlink, ifindex: int) -> Parts:
    """All parts from the root down, as they are built; without what is at the ingress. OSError."""
    qdiscs = [comparable(part) for part in rtnl.parts("qdisc", ifindex) if part.parent != INGRESS]
    classes = [part.plain for part in rtnl.parts("class", ifindex) if _is_made_by_hand(part)]
    found = [*_downwards([*qdiscs, *classes])]
    parents = [part.handle for part in found if part.handle and _may_have_filters(part)]
    filters = [comparable(part) for parent in dict.fromkeys(parents) for part in rtnl.parts("filter", ifindex, parent)]
    return (*found, *sorted(filters, key=lambda part: part.handle if _is_u32_node(part) else 0))


def is_kernels_own(parts: Parts) -> bool:
    """Nobody chose it."""
    root = root_of(parts)
    return root is None or root.handle == 0


def put_back(rtnl: Rtnetlink, ifindex: int, parts: Parts) -> None:
    """Delete the root, whoever's it is, and give the device these parts. OSError."""
    root = root_of(capture(rtnl, ifindex))
    if root is not None and root.handle:
        rtnl.delete(ifindex, root)
    if not is_kernels_own(parts):
        _build(rtnl, ifindex, parts)


def can_be_rebuilt(rtnl: Rtnetlink, parts: Parts, tx_queues: int) -> str | None:
    """Try it; why not, None: it can. The device for it is there for some milliseconds."""
    remove_trial(rtnl)
    try:
        ifindex = rtnl.add_ifb(TRIAL_NAME, ALIAS, tx_queues)
    except OSError as err:
        return f"no device to try it on: {err.strerror}"
    try:
        _build(rtnl, ifindex, parts)
        differing = {part for part in {*capture(rtnl, ifindex)} ^ {*parts} if not _comes_by_itself(part)}
        return f"{described(parts)} comes back otherwise: {_named(differing)}" if differing else None
    except OSError as err:
        return f"{described(parts)}: {err.strerror}"
    finally:
        with contextlib.suppress(OSError):
            rtnl.delete_link(ifindex)


def remove_trial(rtnl: Rtnetlink) -> None:
    """One that an agent left which died meanwhile."""
    for link in rtnl.links():
        if is_our_ifb(link, TRIAL_NAME):
            with contextlib.suppress(OSError):
                rtnl.delete_link(link.ifindex)


def is_our_ifb(link: Link, name: str) -> bool:
    """It gets its alias a moment after it is made."""
    return link.kind == "ifb" and link.name == name and link.alias in ("", ALIAS)


def described(parts: Parts) -> str:
    """Of a root, as tc prints it: "htb 51ac:", "prio 1: with 2 filters"."""
    root = root_of(parts)
    if root is None:
        return "nothing"
    filters = sum(part.what == "filter" for part in parts)
    handle = f" {root.handle >> 16:x}:" if root.handle else ""
    return f"{root.kind}{handle}{f' with {filters} filters' if filters else ''}"


def _build(rtnl: Rtnetlink, ifindex: int, parts: Parts) -> None:
    for part in parts:
        if _comes_by_itself(part):
            continue
        try:
            rtnl.add(ifindex, askable(part), replaces=part.what == "qdisc")
        except OSError as err:
            raise OSError(err.errno or 0, f"{part.what} {part.kind}: {err.strerror}") from err


def _is_made_by_hand(part: Part) -> bool:
    """hfsc has one more, which stands for the qdisc itself."""
    return part.kind in _MADE_BY_HAND and part.handle & 0xFFFF != 0


def _comes_by_itself(part: Part) -> bool:
    """The kernel's own qdisc in a class; the head of a list of filters; the first hash table of u32 filters."""
    if part.what == "filter":
        return not part.handle or (part.kind == "u32" and part.handle >= _U32_NUMBERED and not _is_u32_node(part))
    return part.what == "qdisc" and not part.handle


def _downwards(parts: Sequence[Part]) -> Iterator[Part]:
    """Each after what it hangs on. What hangs on nothing that is there comes last."""
    left, known = list(parts), {ROOT}
    while left:
        ready = [part for part in left if part.parent in known or part.parent >> 16 << 16 in known - {0}]
        ready = [part for part in ready if not _waits(part, left)] or ready or left
        yield from ready
        known.update(part.handle for part in ready)
        left = [part for part in left if part not in ready]


def _waits(part: Part, left: Sequence[Part]) -> bool:
    """What it hangs on is still to come."""
    return any(other is not part and other.handle == part.parent for other in left)


def _may_have_filters(part: Part) -> bool:
    return part.what == "class" or part.kind not in ("pfifo", "bfifo", "pfifo_fast", "noqueue")


def _is_u32_node(part: Part) -> bool:
    """It comes after the hash tables that it may be in; the kernel numbers tables in the order in which they come."""
    return part.kind == "u32" and bool(part.handle & _U32_NODE)


def _named(parts: set[Part]) -> str:
    return ", ".join(sorted({f"{part.what} {part.kind} {part.handle:x}" for part in parts}))
