"""Controllers of other packages.

`EXAMPLE` is how one is written: a package with an entry point of the group `slackwater.controllers`, which names a
class that takes no arguments and has `name`, `claims`, `initial`, `decide`, `learn` (agent.control.Controller). It
halves the weight of batch work while any rule fires, and gives it back when none does.
"""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from agent.control import Decision, Hold, Intent, Knob, Outcome, Resource, Situation
from agent.decisions.plugins import Guarded, Plugins, load_plugins
from agent.errors import ConfigError
from agent.records import Qos
from tests.agent.decisions.world import BATCH, CALM, RULE, SLOW, WEB, Look, World

EXAMPLE = """
from agent.control import Decision, Intent, Knob, Resource
from agent.records import Qos


class HalfWeight:
    name = "half-weight"
    claims = frozenset({(Qos.BE, Knob.WEIGHT)})

    def initial(self):
        return False  # whether the weights are halved

    def decide(self, halved, situation):
        slow = bool(situation.findings)
        if slow == halved:
            return halved, ()
        batch = [group for group in situation.tick.groups if group.qos is Qos.BE]
        intents = tuple(Intent(group.id, group.path, Knob.WEIGHT, 50 if slow else 100) for group in batch)
        reason = "services wait" if slow else "no service waits"
        return halved, (Decision(self.name, Resource.SUPPRESS, intents, reason, gives_back=not slow),)

    def learn(self, halved, decision, outcomes, now_ns):
        return not decision.gives_back
"""
WITHOUT_SUPPRESS = RULE + '\n[suppress]\nenforce = "off"'
WAITING, QUIET = {WEB: SLOW, BATCH: Look(3.0)}, {WEB: CALM, BATCH: Look(3.0)}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """The example as pip would leave it behind."""
    (tmp_path / "half_weight.py").write_text(EXAMPLE)
    info = tmp_path / "half_weight-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half-weight\nVersion: 1\n")
    entry_points = "[slackwater.controllers]\nhalf-weight = half_weight:HalfWeight\ngone = half_weight:Gone\n"
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
    monkeypatch.syspath_prepend(str(tmp_path))
    return load_plugins()


def test_an_installed_controller_acts_and_one_that_cannot_be_loaded_is_one_line(installed: Plugins) -> None:
    (line,) = installed.refused
    assert line.startswith("controller gone (half_weight:Gone) is left out: AttributeError")
    world = World(WITHOUT_SUPPRESS, plugins=installed.controllers)
    world.ticks(4, WAITING)
    assert world.value(BATCH, Knob.WEIGHT) == 50
    world.ticks(10, QUIET)
    assert world.value(BATCH, Knob.WEIGHT) == 100


def test_two_controllers_that_claim_the_same_knob_are_refused(installed: Plugins) -> None:
    message = (
        "controllers suppress and half-weight both claim weight of BE: allowed is one; "
        "set enforce.plugins, or enforce of one of burst, suppress, network and cache, to off"
    )
    with pytest.raises(ConfigError) as caught:
        World(RULE, plugins=installed.controllers)
    assert str(caught.value) == message
    World(RULE.replace("[enforce]", '[enforce]\nplugins = "off"'), plugins=installed.controllers)


class Bad:
    """Raises, or answers nonsense, at its third tick."""

    name = "bad"
    claims = frozenset({(Qos.LSR, Knob.WEIGHT)})

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def initial(self) -> int:
        return 0

    def decide(self, state: int, situation: Situation) -> tuple[int, tuple[Decision | Hold, ...]]:
        if state < 2:
            return state + 1, ()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[return-value]

    def learn(self, state: int, decision: Decision, outcomes: tuple[Outcome, ...], now_ns: int) -> int:
        return state


@pytest.mark.parametrize("answer", [ZeroDivisionError("a\nb"), None, (1, 2, 3), (1, ("x",)), (1, 5), RecursionError()])
def test_one_that_raises_or_answers_nonsense_is_switched_off_with_one_line_and_the_others_go_on(answer: object) -> None:
    world = World(RULE, plugins=(Guarded(Bad(answer)),))
    news = [line for verdict in world.ticks(8, WAITING) for line in verdict.news]
    assert len(news) == 1
    assert news[0].startswith("controller bad is switched off: ")
    assert news[0].isprintable()
    assert world.value(BATCH, Knob.IDLE) == 1


GOOD = Decision("bad", Resource.CACHE, (), "")


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (replace(GOOD, intents=None), "intents"),  # type: ignore[arg-type]
        (replace(GOOD, intents=[]), "intents"),  # type: ignore[arg-type]
        (replace(GOOD, intents=(Intent("20", "/batch", Knob.IDLE, 1),)), "intents"),  # type: ignore[arg-type]
        (replace(GOOD, intents=(Intent(20, "/batch", Knob.CPUSET, (1.5,)),)), "intents"),  # type: ignore[arg-type]
        (replace(GOOD, intents=(Intent(20, "/batch", "no", 1),)), "intents"),  # type: ignore[arg-type]
        (replace(GOOD, inputs={"a": None}), "inputs"),  # type: ignore[dict-item]
        (replace(GOOD, inputs=None), "inputs"),  # type: ignore[arg-type]
        (replace(GOOD, reason=None), "reason"),  # type: ignore[arg-type]
        (replace(GOOD, resource="all"), "resource"),  # type: ignore[arg-type]
        (replace(GOOD, cause="none"), "cause"),  # type: ignore[arg-type]
        (replace(GOOD, group_id=1 << 64), "group_id"),
        (Hold("bad", 5), "reason"),  # type: ignore[arg-type]
    ],
)
def test_one_whose_answer_has_a_field_of_another_type_is_switched_off(item: Decision | Hold, field: str) -> None:
    world = World(RULE, plugins=(Guarded(Bad((2, (item,)))),))
    (line,) = [line for verdict in world.ticks(8, WAITING) for line in verdict.news]
    assert line.startswith(f"controller bad is switched off: TypeError: the {field} of its {type(item).__name__} is ")
    assert world.value(BATCH, Knob.IDLE) == 1


def test_what_it_does_not_claim_it_does_not_get() -> None:
    decision = Decision("suppress", Resource.CACHE, (Intent(BATCH, "/batch", Knob.FREEZE, 1),), "")
    world = World('enforce.mode = "on"', plugins=(Guarded(Bad((2, (decision,)))),))
    verdict = world.ticks(4, QUIET)[-1]
    assert world.changes == []
    assert any("bad does not claim freeze of BE" in hold.reason for hold in verdict.holds)


def test_what_is_no_controller_is_left_out() -> None:
    from importlib.metadata import EntryPoint

    plugins = load_plugins([EntryPoint("dict", "builtins:dict", "slackwater.controllers")])
    assert plugins == Plugins((), ("controller dict (builtins:dict) is left out: TypeError: dict has no name",))
