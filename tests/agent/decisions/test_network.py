"""The law of the network: links are shaped, batch work gives way to services that send much, limits hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.control import Cause, Intent, Knob, KnobState, KnobValue, Result, SliValue
from agent.profiles.network import NetworkProfiler
from agent.records import ClassSample, DeviceProfile, DeviceSample, NetworkProfile, NetworkSample
from agent.samples.network import choose
from agent.traffic import Link
from tests.agent.decisions.world import BATCH, CALM, WEB, Look, World

ETH0 = 7
LINK = 125_000_000
CONFIG = '[enforce]\nmode = "on"\n[suppress]\nenforce = "off"\n[network]\nenforce = "on"\n'
LIMIT = CONFIG + '[[limit]]\nmatch = "/batch"\nsend = "100 Mbit/s"\n'
LOOKS = {WEB: CALM, BATCH: Look(used_cores=1.0)}


def network(
    ls_bytes_per_s: float | None = 0.0,
    be_bytes_per_s: float = 0.0,
    *,
    link: int | None = LINK,
    is_chosen: bool = True,
    ifindex: int = ETH0,
) -> NetworkProfile:
    """One device. None: it is not ours (yet), so no class is known."""
    counted = ClassSample(0, 0, 0, 0)
    names = () if ls_bytes_per_s is None else ("system", "LS", "BE")
    device = DeviceSample(ifindex, "eth0", is_chosen, link, counted, dict.fromkeys(names, counted))
    rates = {} if ls_bytes_per_s is None else {"system": 0.0, "LS": ls_bytes_per_s, "BE": be_bytes_per_s}
    sample = NetworkSample(0, (device,), {}, {})
    return NetworkProfile(sample, (DeviceProfile(device, 0.0, rates),), {})


def world(config: str = CONFIG, **first: float | None) -> World:
    """After its first tick, in which the device was taken."""
    made = World(config)
    made.network = network(**{"ls_bytes_per_s": None, **first})  # type: ignore[arg-type]
    made.tick(LOOKS)
    return made


def be_send(world: World) -> KnobValue:
    return world.value(ETH0, Knob.BE_SEND)


def test_a_chosen_device_is_shaped_to_its_speed_and_batch_work_has_its_high_bound() -> None:
    made = world()
    assert (made.value(ETH0, Knob.LINK), be_send(made)) == (LINK, LINK * 40 // 100)


def test_batch_work_falls_to_its_low_bound_in_the_tick_in_which_services_send_much() -> None:
    made = world()
    made.network = network(LINK * 0.81)
    made.tick(LOOKS)
    assert be_send(made) == LINK * 10 // 100


def test_it_stays_low_until_they_send_clearly_less() -> None:
    made = world()
    for sent, expected in ((0.81, 10), (0.7, 10), (0.65, 10), (0.63, 40), (0.79, 40)):
        made.network = network(LINK * sent)
        made.tick(LOOKS)
        assert be_send(made) == LINK * expected // 100, sent


def test_a_bound_stays_where_it_is_while_it_is_not_known_what_services_send() -> None:
    made = world()
    made.network = network(LINK * 0.9)
    made.tick(LOOKS)
    made.network = network(float("nan"))
    made.ticks(3, LOOKS)
    assert be_send(made) == LINK * 10 // 100


def test_nothing_is_done_while_the_network_cannot_be_read() -> None:
    made = world()
    made.network = None
    verdict = made.tick(LOOKS)
    assert verdict.accepted == ()
    assert "could not be read" in verdict.holds[0].reason


def test_a_device_whose_speed_is_not_known_is_left_alone_and_said() -> None:
    made = World(CONFIG)
    made.network = network(None, link=None)
    verdict = made.tick(LOOKS)
    assert verdict.accepted == ()
    assert "network.link_rate" in verdict.holds[0].reason


def test_a_change_of_speed_is_followed() -> None:
    made = world()
    made.network = network(link=LINK // 10)
    made.tick(LOOKS)
    assert (made.value(ETH0, Knob.LINK), be_send(made)) == (LINK // 10, LINK // 25)


def test_a_device_that_is_no_longer_chosen_is_given_back() -> None:
    made = world()
    made.network = network(is_chosen=False)
    (decision,) = made.tick(LOOKS).accepted
    assert decision.gives_back
    assert decision.intents == (Intent(ETH0, "eth0", Knob.LINK, None),)


def test_a_limit_is_set_for_the_topmost_groups_that_it_matches() -> None:
    made = world(LIMIT)
    assert made.value(BATCH, Knob.SEND) == 12_500_000
    assert made.value(WEB, Knob.SEND) is None


def test_what_was_refused_is_not_tried_at_every_tick() -> None:
    made = World(CONFIG)
    made.network = network(None)
    made.result = lambda _: Result.REFUSED
    assert [len(verdict.accepted) for verdict in made.ticks(4, LOOKS)] == [1, 0, 0, 0]


def test_a_device_that_its_owner_holds_on_to_is_left_alone() -> None:
    made = World(CONFIG)
    made.network = network(None)
    made.knobs[ETH0, Knob.LINK] = KnobState(None, None, is_foreign=True)
    assert made.tick(LOOKS).accepted == ()


SLI = """
[[sli]]
name = "shop"
url = "http://127.0.0.1:1/metrics"
metric = "m"
target = "100ms"
group = "/web"
[[rule]]
name = "slow"
signal = "sli:shop"
window_s = 2
"""


@pytest.mark.parametrize(("be_ratio", "cause"), [(0.3, Cause.NETWORK), (0.01, Cause.CACHE)])
def test_a_service_that_is_slow_without_waiting_is_slow_by_the_network_when_batch_work_sends(
    be_ratio: float, cause: Cause
) -> None:
    made = World(CONFIG + SLI)
    made.network = network(0.0, LINK * be_ratio)
    made.slis = {"shop": SliValue("shop", "/web", 200e6, 100e6, made.now_ns)}
    looks = {WEB: Look(used_cores=0.5, p99_ms=0.01, contention_s=0.0001), BATCH: Look(used_cores=0.1)}
    verdicts = made.ticks(6, looks)
    assert {finding.cause for finding in verdicts[-1].findings} == {cause}
    assert be_send(made) == LINK * (10 if cause is Cause.NETWORK else 40) // 100


def test_rates_are_growth_over_time_and_a_counter_that_fell_has_none() -> None:
    profiler = NetworkProfiler()
    first = network().sample
    device = first.devices[0]

    def at(seconds: int, sent_bytes: int) -> NetworkProfile:
        whole = ClassSample(sent_bytes, 0, 0, 0)
        now = replace(device, whole=whole, classes={"LS": whole})
        return profiler.update(NetworkSample(seconds * 10**9, (now,), {1: sent_bytes}, {}))

    assert at(0, 1000).group_bytes_per_s == {}
    later = at(2, 5000)
    assert (later.devices[0].class_bytes_per_s["LS"], later.group_bytes_per_s) == (2000.0, {1: 2000.0})
    assert at(3, 10).group_bytes_per_s == {}


def link(ifindex: int, name: str, kind: str = "", master: int = 0) -> Link:
    return Link(ifindex, name, kind, True, master, 1, 1500, None, "")


@pytest.mark.parametrize(
    ("names", "defaults", "chosen"),
    [
        ((), {2}, {2}),
        ((), {2, 5}, {2, 5}),
        (("eth1",), {2}, {4}),
        (("eth2",), {2}, {3}),
        ((), set(), set()),
        (("gone0",), {2}, set()),
        (("bond0.7",), {2}, {5}),
    ],
    ids=["default route", "two of them", "by name", "port of a bond", "no route", "gone", "vlan"],
)
def test_devices_are_those_of_the_default_routes_or_by_name_and_of_a_bond_the_bond(
    names: tuple[str, ...], defaults: set[int], chosen: set[int]
) -> None:
    links = (
        link(1, "lo"),
        link(2, "eth0"),
        link(3, "bond0", "bond"),
        link(4, "eth1"),
        link(5, "bond0.7", "vlan"),
        link(6, "eth2", master=3),
    )
    assert choose(links, names, frozenset(defaults)) == chosen
