"""A kernel that lacks a module of the network: `doctor` names it, and what needs it is refused in words.

In a guest, where modules can be taken away.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.actuators.htb import Shares
from agent.actuators.journal import Journal
from agent.actuators.network import NetworkExecutor
from agent.cli.doctor import Level, findings
from agent.control import Intent, Knob, Result
from agent.host import probe
from agent.network_host import lacking
from agent.rtnetlink import Rtnetlink
from agent.traffic import MODULES
from native.net import NetClassifier
from tests.kernel.namespaces import ifindex, inside, pair, state
from tests.kernel.needs import needs

pytestmark = [needs("root", "bpf", "net", "machine"), pytest.mark.slow]

LOADER = Path("/proc/sys/kernel/modprobe")


@contextmanager
def without(module: str) -> Iterator[None]:
    """The kernel has not got it, and finds nobody who could load it."""
    before = LOADER.read_text()
    LOADER.write_text("/bin/false")
    try:
        deadline_s = time.monotonic() + 60  # a namespace that used it may still be on its way out
        while subprocess.run(["rmmod", module], capture_output=True, check=False).returncode:
            if f"{module} " not in Path("/proc/modules").read_text():
                break  # it was not there, or is built in
            assert time.monotonic() < deadline_s, f"{module} is in use"
            time.sleep(0.5)
        yield
    finally:
        LOADER.write_text(before)


@pytest.mark.parametrize("module", sorted(MODULES.values()))
def test_doctor_names_what_is_lacking_and_the_rest_goes_on(module: str) -> None:
    assert lacking() == {}  # now all are there
    with without(module):
        found = lacking()
    assert isinstance(found, dict)
    if not found:
        pytest.skip(f"{module} is built in")
    assert list(found) == [module]
    (told,) = (each for each in findings(probe(), None, None, None, found) if module in (each.mend or ""))
    assert told.level is Level.DEGRADED
    assert lacking() == {}


@pytest.mark.parametrize("module", ["sch_htb", "cls_bpf"])
def test_without_it_a_device_stays_as_it_is_and_the_module_is_named(module: str, tmp_path: Path) -> None:
    with pair() as both, inside(both.near), Rtnetlink() as rtnl, NetClassifier(8) as classifier, without(module):
        before = state("va")
        journal = Journal(tmp_path / "journal", "boot", ())
        executor = NetworkExecutor(rtnl, journal, classifier, time.monotonic_ns, shares=Shares(1, 1, 1), takeover=False)
        (outcome,) = executor.apply([Intent(ifindex("va"), "va", Knob.LINK, 12_500_000)])
        assert (outcome.result, module in (outcome.kernel_text or "")) == (Result.UNSUPPORTED, True)
        assert (state("va"), executor.knobs) == (before, {})
        journal.close()
