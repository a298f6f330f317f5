"""What this kernel has for the network, tried out in a network namespace of its own that is gone afterwards."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping

from agent import tc_options
from agent.actuators import htb
from agent.rtnetlink import Rtnetlink
from agent.tc_options import HtbRates
from agent.traffic import ALL_PROTOCOLS, INGRESS, INGRESS_FILTERS, MODULES, ROOT, Part
from native.net import NetClassifier

_CLONE_NEWNET = 0x40000000
_LOOPBACK = 1
_BYTES_PER_S = 1_000_000
_MTU_BYTES = 65_550


def lacking() -> Mapping[str, str] | str:
    """Module -> what the kernel says instead; empty: nothing is lacking. A text: why it could not be tried."""
    found: list[Mapping[str, str] | str] = []

    def run() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            found.append(f"no network namespace to try it in: {os.strerror(ctypes.get_errno())}")
            return
        try:
            with Rtnetlink() as rtnl:
                found.append(_tried(rtnl))
        except OSError as err:
            found.append(err.strerror or str(err))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def _tried(rtnl: Rtnetlink) -> dict[str, str]:
    lacks: dict[str, str] = {}

    def attempt(kind: str, part: Part) -> bool:
        try:
            rtnl.add(_LOOPBACK, part)
        except OSError as err:
            lacks[MODULES[kind]] = err.strerror or str(err)
        return MODULES[kind] not in lacks

    if attempt("htb", htb.root()):
        rates = tc_options.htb_class(HtbRates(_BYTES_PER_S, _BYTES_PER_S), _MTU_BYTES)
        for minor, kind, options in ((1, "tbf", tc_options.tbf(_BYTES_PER_S, _MTU_BYTES)), (2, "fq_codel", b"")):
            rtnl.add(_LOOPBACK, Part("class", "htb", htb.HANDLE | minor, ROOT, options=rates))
            attempt(kind, Part("qdisc", kind, 0, htb.HANDLE | minor, options=options))
        with NetClassifier(1, 1) as classifier:
            options = tc_options.bpf_filter(classifier.program_fd, "slackwater")
            attempt("bpf", Part("filter", "bpf", 1, htb.HANDLE, 1 << 16 | ALL_PROTOCOLS, options))
    ifb = None
    try:
        ifb = rtnl.add_ifb("slackwater-try", "slackwater")
    except OSError as err:
        lacks[MODULES["ifb"]] = err.strerror or str(err)
    if attempt("clsact", Part("qdisc", "clsact", INGRESS & 0xFFFF0000, INGRESS)) and ifb:
        info = htb.HANDLE | ALL_PROTOCOLS
        attempt("u32", Part("filter", "u32", 0, INGRESS_FILTERS, info, tc_options.redirect_all(ifb)))
    return lacks
