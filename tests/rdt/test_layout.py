"""Layouts: what holds of each that is found, and why there is none where there is none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt.errors import NoLayout
from rdt.info import EIGHTHS_OF_GBPS, MBPS, PERCENT, Bandwidth, Cache, Info
from rdt.layout import DEFAULT, Class, Layout, Range, solve
from rdt.schemata import level


def cache(ways: int = 12, *, minimum: int = 1, closids: int = 16, shareable: int = 0, sparse: bool = False) -> Cache:
    return Cache((1 << ways) - 1, minimum, closids, shareable, sparse, None)


def bandwidth(step: int = 10, unit: str = PERCENT, maximum: int | None = 100) -> Bandwidth:
    return Bandwidth(unit, 0 if unit == EIGHTHS_OF_GBPS else step, step, 16, maximum, unit == PERCENT, None)


def info(caches: dict[str, Cache], bandwidths: dict[str, Bandwidth] | None = None) -> Info:
    return Info(caches, bandwidths or {}, None, frozenset())


def domains(of: Info, ids: tuple[int, ...] = (0, 1)) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(of.resources, ids)


def masks(layout: Layout, resource: str = "L3") -> dict[str, int]:
    """Class -> its mask, the same on every cache."""
    found = {name: set(values[resource].values()) for name, values in layout.items() if resource in values}
    assert all(len(each) == 1 for each in found.values())
    return {name: each.pop() for name, each in found.items()}


@st.composite
def machines(draw: st.DrawFn) -> Info:
    """With every kind of line, in every mixture."""
    caches: dict[str, Cache] = {}
    for name in draw(st.sampled_from([["L3"], ["L3CODE", "L3DATA"], ["L2"], ["L3", "L2"], ["L3", "L2CODE", "L2DATA"]])):
        kind = draw(st.tuples(st.integers(1, 32), st.integers(0, 3), st.integers(0, 1 << 32), st.booleans()))
        ways, minimum, shareable, sparse = kind
        alike = caches.get(name.replace("DATA", "CODE"))
        made = cache(ways, minimum=min(minimum, ways), shareable=shareable & (1 << ways) - 1, sparse=sparse)
        caches[name] = alike or made
    step = draw(st.sampled_from([5, 10, 20]))
    of_unit = {
        PERCENT: bandwidth(step),
        MBPS: bandwidth(step, MBPS, None),
        EIGHTHS_OF_GBPS: bandwidth(1, EIGHTHS_OF_GBPS, 2048),
    }
    return info(caches, draw(st.dictionaries(st.just("MB"), st.sampled_from(list(of_unit.values())), max_size=1)))


@st.composite
def wishes(draw: st.DrawFn, of: Info) -> list[Class]:
    pct = st.integers(0, 100)
    ranges = st.tuples(pct, pct, st.booleans()).map(lambda three: Range(min(three[:2]), max(three[:2]), three[2]))
    names = st.sampled_from(sorted({*of.caches, *map(level, of.caches)}))
    percents = st.dictionaries(st.sampled_from(sorted(of.bandwidths) or ["MB"]), st.integers(1, 100), max_size=1)
    count = draw(st.integers(0, 6))
    return [
        Class(f"c{number}", draw(st.dictionaries(names, ranges, max_size=2)), draw(percents)) for number in range(count)
    ]


@given(st.data())
def test_what_is_found_can_be_set_and_keeps_its_word(data: st.DataObject) -> None:
    """Each value is one that the machine takes; what is exclusive is nobody else's, nor a device's."""
    machine = data.draw(machines())
    classes = data.draw(wishes(machine))
    ids = (0, 1, 4)
    try:
        layout = solve(machine, domains(machine, ids), classes)
    except NoLayout:
        return  # why, is tested below
    for one in classes:
        assert set(layout[one.name]) == set(machine.resources)
    for values in layout.values():
        for resource, by_id in values.items():
            assert tuple(by_id) == ids
            assert all(machine.resources[resource].refuses(value) is None for value in by_id.values())
    for one in classes:
        for name, range_ in one.caches.items():
            if range_.exclusive:
                check_exclusive(machine, layout, one.name, name)
        for name, pct in one.bandwidths_pct.items():
            most = machine.bandwidths[name].maximum or 0
            assert min(layout[one.name][name].values()) >= most * pct / 100


def check_exclusive(machine: Info, layout: Layout, owner: str, name: str) -> None:
    for line in {name} & set(machine.caches):
        mine = layout[owner][line][0]
        assert mine & machine.caches[line].shareable_bits == 0
        for other, values in layout.items():
            peers = [mask[0] for resource, mask in values.items() if level(resource) == level(line)]
            if other != owner:
                assert peers
                assert all(mine & mask == 0 for mask in peers)


@given(st.integers(1, 32), st.integers(0, 100), st.integers(0, 100))
def test_range_is_rounded_outwards(ways: int, start: int, end: int) -> None:
    """From floor(n*start/100) to ceil(n*end/100), where nobody has anything to himself."""
    machine = info({"L3": cache(ways)})
    if start >= end:
        return
    found = masks(solve(machine, domains(machine), [Class("be", {"L3": Range(start, end)})]))
    low, high = math.floor(ways * start / 100), math.ceil(ways * end / 100)
    assert found == {"be": (1 << high) - (1 << low)}


def test_exclusive_comes_before_shared_where_they_meet_inside_a_way() -> None:
    """11 ways, split at 50 %: the sixth is the exclusive class's; the default group shares with the other."""
    machine = info({"L3": cache(11)})
    classes = [Class("be", {"L3": Range(50, 100)}), Class("ls", {"L3": Range(0, 50, exclusive=True)})]
    assert masks(solve(machine, domains(machine), classes)) == {"ls": 0x03F, "be": 0x7C0, DEFAULT: 0x7C0}


def test_without_exclusive_ranges_the_default_group_is_left_alone() -> None:
    machine = info({"L3": cache()})
    assert masks(solve(machine, domains(machine), [Class("be", {"L3": Range(0, 25)})])) == {"be": 0b111}


def test_gap_is_used_where_the_machine_takes_gaps() -> None:
    """Who shares has both sides of an exclusive range, else the longer one."""
    classes = [Class("ls", {"L3": Range(25, 50, exclusive=True)}), Class("be")]
    for sparse, left in ((True, 0b1111_1100_0111), (False, 0b1111_1100_0000)):
        machine = info({"L3": cache(12, sparse=sparse)})
        assert masks(solve(machine, domains(machine), classes)) == {"ls": 0b11_1000, "be": left, DEFAULT: left}


def test_ways_of_devices_are_nobodys_own() -> None:
    machine = info({"L3": cache(11, shareable=0x600)})
    found = masks(solve(machine, domains(machine), [Class("ls", {"L3": Range(50, 100, exclusive=True)})]))
    assert found == {"ls": 0x1E0, DEFAULT: 0x01F}


def test_too_short_a_range_grows() -> None:
    """At its upper end; at the top of the cache at its lower one."""
    machine = info({"L3": cache(20, minimum=2)})
    classes = [Class("low", {"L3": Range(0, 1)}), Class("high", {"L3": Range(99, 100)})]
    assert masks(solve(machine, domains(machine), classes)) == {"low": 0x3, "high": 0xC0000}


def test_code_and_data_are_one_cache() -> None:
    """A range of L3 is one of both; exclusive code is not another's data either."""
    machine = info(dict.fromkeys(("L3CODE", "L3DATA"), cache(10)))
    classes = [Class("ls", {"L3CODE": Range(0, 20, exclusive=True), "L3DATA": Range(0, 40)}), Class("be")]
    layout = solve(machine, domains(machine), classes)
    assert masks(layout, "L3CODE") == {"ls": 0b11, "be": 0x3FC, DEFAULT: 0x3FC}
    assert masks(layout, "L3DATA") == {"ls": 0b1111, "be": 0x3FC, DEFAULT: 0x3FC}
    both = solve(machine, domains(machine), [Class("be", {"L3": Range(0, 50)})])
    assert masks(both, "L3CODE") == masks(both, "L3DATA") == {"be": 0b11111}


@pytest.mark.parametrize(
    ("unit", "maximum", "pct", "value"),
    [(PERCENT, 100, 35, 40), (PERCENT, 100, 1, 10), (PERCENT, 100, 100, 100), (EIGHTHS_OF_GBPS, 2048, 35, 717)],
)
def test_bandwidth_is_rounded_up_to_a_step(unit: str, maximum: int, pct: float, value: int) -> None:
    machine = info({}, {"MB": bandwidth(1 if unit == EIGHTHS_OF_GBPS else 10, unit, maximum)})
    layout = solve(machine, domains(machine), [Class("be", bandwidths_pct={"MB": pct})])
    assert layout["be"] == {"MB": {0: value, 1: value}}


TWO = [Class("a"), Class("b")]


@pytest.mark.parametrize(
    ("machine", "classes", "why"),
    [
        (info({}), TWO, "counters only"),
        (info({"L3": cache(closids=2)}), TWO, "2 classes do not fit: there are 2 CLOSIDs, one of the default group"),
        (info({"L3": cache()}), [Class("a"), Class("a")], "a name of its own"),
        (info({"L3": cache()}), [Class("a", {"L2": Range(0, 50)})], "class a wants L2, which this resctrl has not"),
        (info({"L3": cache()}), [Class("a", {"L3CODE": Range(0, 50)})], "wants L3CODE, .*allowed: L3"),
        (info({"L3": cache()}), [Class("a", bandwidths_pct={"MB": 50})], "wants MB"),
        (info({"L3": cache()}), [Class("a", bandwidths_pct={"L3": 50})], "wants L3"),
        (info({"L3": cache()}), [Class("a", {"L3": Range(50, 50)})], "50-50 %: class a: L3 .allowed: 0 <= start < end"),
        (
            info({"L3": cache()}),
            [Class("a", {"L3": Range(0, 50, exclusive=True)}), Class("b", {"L3": Range(40, 60)})],
            "class a wants 0-50 % exclusive of L3, class b wants 40-60 %",
        ),
        (
            info({"L3": cache()}),
            [Class("a", {"L3": Range(0, 100, exclusive=True)})],
            "the default group is left with less than 1 ways of L3",
        ),
        (
            info({"L3": cache(shareable=0xFFF)}),
            [Class("a", {"L3": Range(0, 50, exclusive=True)})],
            "class a wants 0-50 % exclusive of L3: no 1 ways are free",
        ),
        (
            info({"L3": cache(2)}),
            [Class(f"c{n}", {"L3": Range(30 * n, 30 * n + 30, exclusive=True)}) for n in range(3)],
            "class c2 wants 60-90 % exclusive of L3: no 1 ways are free",
        ),
        (info({}, {"MB": bandwidth()}), [Class("a", bandwidths_pct={"MB": 0})], "0 %: class a: MB"),
        (info({}, {"MB": bandwidth()}), [Class("a", bandwidths_mib_per_s={"MB": 5})], "needs mount option mba_MBps"),
        (info({}, {"MB": bandwidth(unit=MBPS)}), [Class("a", bandwidths_pct={"MB": 5})], "is in MiB/s here"),
    ],
)
def test_it_says_why_there_is_none(machine: Info, classes: list[Class], why: str) -> None:
    with pytest.raises(NoLayout, match=why) as caught:
        solve(machine, domains(machine), classes)
    assert "\n" not in str(caught.value)
