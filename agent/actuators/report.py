"""What came of putting knobs back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.control import Knob


class Fate(StrEnum):
    """Of one knob on record."""

    RESTORED = "restored"
    AS_FOUND = "as found"
    """It was at its base already."""
    GONE = "gone"
    FOREIGN = "foreign"
    """Somebody else has written it since: theirs, so it stays."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Restored:
    """`base`: the text that the owner's file had; `found`: what it had now, None: not readable."""

    group_id: int
    path: str
    knob: Knob
    fate: Fate
    base: str
    found: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Of one restoring. `notes`: what is to be said of the journal itself."""

    items: tuple[Restored, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """All that still exists is as it was found."""
        return not any(item.fate in (Fate.FOREIGN, Fate.REFUSED) for item in self.items)
