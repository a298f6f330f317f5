"""Writes one knob: read, compare, record, write, read back, compare. What order is right is for others to know."""

from __future__ import annotations

from agent.actuators.cgroup import Gone, Group, Hierarchies, Unsupported
from agent.actuators.constraints import Write
from agent.actuators.holdings import Held, Holdings, keep_weight, look_at_weight
from agent.control import Intent, Knob, KnobValue, Outcome, Result


class Writer:
    def __init__(self, hierarchies: Hierarchies, holdings: Holdings) -> None:
        self.hierarchies = hierarchies
        self.held = holdings
        self.groups: dict[int, Group] = {}
        """The open ones: those with a held knob, and during a call those that it looks at."""

    def group(self, group_id: int, path: str) -> Group:
        """Gone, OSError."""
        group = self.groups.get(group_id)
        if group is None:
            group = self.groups[group_id] = Group(self.hierarchies, path, group_id)
        return group

    def left_alone(self, intent: Intent) -> Outcome | None:
        state = self.held.states.get((intent.group_id, intent.knob))
        return Outcome(intent, Result.FOREIGN, state.current, state.current) if state and state.is_foreign else None

    def foreign(self, intent: Intent, held: Held, text: str) -> Outcome:
        value = self.held.yield_to_owner(held, text)
        return Outcome(intent, Result.FOREIGN, value, value)

    def put(self, write: Write, *, is_companion: bool = False) -> Outcome:
        group = self.groups[write.group_id]
        intent = Intent(write.group_id, group.path, write.knob, write.value)
        try:
            return self.left_alone(intent) or self._written(intent, group, is_companion)
        except (Gone, Unsupported, OSError, ValueError) as err:
            return self.failed(intent, err)

    def _written(self, intent: Intent, group: Group, is_companion: bool) -> Outcome:
        """Read, compare, put on record, write, read back, compare."""
        knob, held = intent.knob, self.held.get((intent.group_id, intent.knob))
        file, found = group.file_of(knob), group.read(knob)
        if held and not held.is_ours(found):
            return self.foreign(intent, held, found)
        base, value = held.entry.base if held else found, file.parse(found)
        text = base if file.parse(base) == intent.value else file.format(intent.value)
        if text == found:
            if held:
                self.held.settle(held, found)
            return Outcome(intent, Result.UNCHANGED, value, value)
        try:
            if knob is Knob.IDLE and intent.value:
                keep_weight(self.held, group)
            if held is None or text != base:  # back to the base it goes even if the journal is full
                held = self.held.announce(group, knob, base, (found, text) if held else (text,))
        except OSError as err:
            return refused(intent, err.errno, f"the journal cannot be written: {err.strerror}", value)
        held.is_companion, held.text = is_companion, found
        try:
            group.write(knob, text)
            after = group.read(knob)
            if after != text:
                return self.foreign(intent, held, after)
            self.held.settle(held, after)
            return Outcome(intent, Result.APPLIED, value, file.parse(after))
        except OSError as err:
            self.held.settle(held, found)
            return refused(intent, err.errno, err.strerror, value)
        finally:
            if knob is Knob.IDLE:
                look_at_weight(self.held, group)

    def failed(self, intent: Intent, err: Exception) -> Outcome:
        if isinstance(err, Gone):
            if (intent.group_id, intent.knob) in self.held:
                self.held.free((intent.group_id, intent.knob))
            return Outcome(intent, Result.GONE)
        if isinstance(err, Unsupported):
            return Outcome(intent, Result.UNSUPPORTED)
        if isinstance(err, OSError):
            return refused(intent, err.errno, err.strerror)
        return refused(intent, None, str(err))

    def close_unused(self) -> None:
        used = {group_id for group_id, _ in self.held}
        for group_id in self.groups.keys() - used:
            self.groups.pop(group_id).close()


def refused(intent: Intent, number: int | None, text: str | None, value: KnobValue = None) -> Outcome:
    return Outcome(intent, Result.REFUSED, value, value, number, text)
