"""What the sections of the configuration are made of."""

from __future__ import annotations

from typing import Annotated

import msgspec

Meta = msgspec.Meta
Glob = Annotated[str, Meta(pattern="^/")]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""
