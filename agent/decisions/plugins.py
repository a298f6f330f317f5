"""Controllers of other packages, behind a guard: one that raises or answers nonsense is switched off, not the agent.

A package offers one by an entry point of the group `slackwater.controllers`, in its pyproject.toml:

    [project.entry-points."slackwater.controllers"]
    my-law = "my_package:MyLaw"

What it names is called without arguments and returns a Controller (agent/control.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from agent.control import Cause, Controller, Decision, Hold, Intent, Knob, Outcome, Resource, Situation
from agent.records import Qos

GROUP = "slackwater.controllers"


@dataclass(frozen=True, slots=True)
class GuardedState:
    """`failed`: why it is off."""

    inner: Any
    failed: str | None = None


class Guarded:
    """A controller that never raises; its decisions bear its name."""

    def __init__(self, controller: Controller[Any]) -> None:
        self._controller = controller
        self.name = controller.name
        self.claims: frozenset[tuple[Qos, Knob]] = frozenset(controller.claims)

    def initial(self) -> GuardedState:
        try:
            return GuardedState(self._controller.initial())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is theirs
            return GuardedState(None, _words(error))

    def decide(self, state: GuardedState, situation: Situation) -> tuple[GuardedState, tuple[Decision | Hold, ...]]:
        if state.failed is not None:
            return state, (Hold(self.name, f"switched off: {state.failed}"),)
        try:
            inner, items = self._controller.decide(state.inner, situation)
            return replace(state, inner=inner), tuple(self._signed(item) for item in items)
        except Exception as error:  # noqa: BLE001
            return self.decide(replace(state, failed=_words(error)), situation)

    def learn(
        self, state: GuardedState, decision: Decision, outcomes: tuple[Outcome, ...], now_ns: int
    ) -> GuardedState:
        if state.failed is not None:
            return state
        try:
            return replace(state, inner=self._controller.learn(state.inner, decision, outcomes, now_ns))
        except Exception as error:  # noqa: BLE001
            return replace(state, failed=_words(error))

    def _signed(self, item: Decision | Hold) -> Decision | Hold:
        if not isinstance(item, Decision | Hold):
            raise TypeError(f"decide gave a {type(item).__name__}, not a Decision or Hold")
        signed = replace(item, controller=self.name)
        if wrong := _wrong_field(signed):
            raise TypeError(f"the {wrong} of its {type(item).__name__} is {getattr(item, wrong)!r:.80}")
        return signed


def _wrong_field(item: Decision | Hold) -> str | None:
    """Name of a field that is not of its type."""
    good = {"reason": isinstance(item.reason, str)}
    if isinstance(item, Decision):
        good |= {
            "resource": isinstance(item.resource, Resource),
            "intents": isinstance(item.intents, tuple) and all(map(_is_intent, item.intents)),
            "cause": item.cause is None or isinstance(item.cause, Cause),
            "group_id": item.group_id is None or _is_id(item.group_id),
            "gives_back": isinstance(item.gives_back, bool),
            "emergency": isinstance(item.emergency, bool),
            "inputs": isinstance(item.inputs, Mapping)
            and all(
                isinstance(key, str) and isinstance(value, float | int | str) for key, value in item.inputs.items()
            ),
        }
    return next((name for name, is_good in good.items() if not is_good), None)


def _is_intent(item: Any) -> bool:
    """Whether it is one that can be judged; what its value may be is for the knob to say."""
    if not (isinstance(item, Intent) and _is_id(item.group_id) and isinstance(item.path, str)):
        return False
    values = item.value if isinstance(item.value, tuple) else (item.value,)
    return isinstance(item.knob, Knob) and all(value is None or type(value) is int for value in values)


def _is_id(item: Any) -> bool:
    return type(item) is int and 0 <= item < 1 << 64


@dataclass(frozen=True, slots=True)
class Plugins:
    """`refused`: one line for each that could not be loaded."""

    controllers: tuple[Guarded, ...]
    refused: tuple[str, ...]


def load_plugins(found: Iterable[EntryPoint] | None = None) -> Plugins:
    """Those that are installed, or `found`. Never raises. To be called only when enforcement is not off."""
    controllers: list[Guarded] = []
    refused: list[str] = []
    for entry in entry_points(group=GROUP) if found is None else found:
        try:
            controllers.append(_checked(entry.load()()))
        except Exception as error:  # noqa: BLE001
            refused.append(f"controller {entry.name} ({entry.value}) is left out: {_words(error)}")
    return Plugins(tuple(controllers), tuple(refused))


def _checked(controller: Any) -> Guarded:
    for name in ("name", "claims", "initial", "decide", "learn"):
        if not hasattr(controller, name):
            raise TypeError(f"{type(controller).__name__} has no {name}")
    if not isinstance(controller.name, str) or not controller.name:
        raise TypeError(f"its name is {controller.name!r}, not a word")
    for claim in controller.claims:
        if not (
            isinstance(claim, tuple) and len(claim) == 2 and isinstance(claim[0], Qos) and isinstance(claim[1], Knob)
        ):
            raise TypeError(f"it claims {claim!r}, not a (Qos, Knob)")
    return Guarded(controller)


def _words(error: Exception) -> str:
    """One line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
