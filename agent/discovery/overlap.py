"""Whether two globs have a path in common. Pure.

Each glob is a small automaton over characters; both are walked at once. States are positions in the glob, so at most
the product of the two lengths is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.discovery.rules import WILD


@dataclass(frozen=True, slots=True)
class _Step:
    """One character, or any number of them (`loops`): `char`, or any but `/` ("*"), or any at all ("**")."""

    char: str
    loops: bool = False
    skips_to: int | None = None
    """Where it goes on when all from here to there is left out."""


def _steps(glob: str) -> list[_Step]:
    steps: list[_Step] = []
    for part in WILD.split(glob):
        if part.startswith("/**"):
            at = len(steps)
            if part.endswith("/"):  # "/" or "/" + anything + "/"
                steps += [_Step("/"), _Step("**", loops=True, skips_to=at + 3), _Step("/")]
            else:  # nothing, or "/" + anything
                steps += [_Step("/", skips_to=at + 2), _Step("**", loops=True)]
        elif part.startswith("*"):
            steps.append(_Step("*" if part == "*" else "**", loops=True))
        else:
            steps += [_Step(char) for char in part]
    return steps


def _common(one: str, other: str) -> bool:
    """Whether some character is both."""
    if one == "**" or other == "**":
        return True
    if one == "*" or other == "*":
        return (other if one == "*" else one) != "/"
    return one == other


def _silent(steps: list[_Step], at: int) -> list[int]:
    """Positions reached from `at` without a character."""
    if at == len(steps):
        return []
    step = steps[at]
    return [*([at + 1] if step.loops else []), *([step.skips_to] if step.skips_to is not None else [])]


def globs_overlap(one: str, other: str) -> bool:
    """Some path is matched by both. Globs as in discovery/rules.py."""
    left, right = _steps(one), _steps(other)
    seen, todo = {(0, 0)}, [(0, 0)]
    while todo:
        i, j = todo.pop()
        if i == len(left) and j == len(right):
            return True
        following = [(k, j) for k in _silent(left, i)] + [(i, k) for k in _silent(right, j)]
        if i < len(left) and j < len(right) and _common(left[i].char, right[j].char):
            following.append((i if left[i].loops else i + 1, j if right[j].loops else j + 1))
        new = [pair for pair in following if pair not in seen]
        seen.update(new)
        todo += new
    return False
