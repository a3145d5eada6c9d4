"""Specification of a GRIB message by its index columns and its header's numbers.

Both must match, since an index may be stale or belong to another file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from convcast.grib.identity import Limit
from convcast.variables import GribKey, Variable

INSTANT = frozenset({0})
"""Product definition template of a deterministic field at a point in time (code table 4.0)."""


@dataclass(frozen=True)
class MessageSpec:
    """Specification of one GRIB message."""

    name: str
    """convcast's name of the message, used in sidecars."""
    index_name: str
    """Name column of the index."""
    index_level: str
    """Level column of the index."""
    keys: tuple[GribKey, ...]
    """GRIB keys that the message may have, since publishers differ."""
    rest: str = ""
    """Regular expression that must match all columns after the forecast column."""
    templates: frozenset[int] = INSTANT
    """Product definition templates that the message may have."""
    limit: Limit | None = None
    """Event, if the message is a probability."""

    def in_index(self, name: str, level: str, rest: str) -> bool:
        """Return whether an index row with these columns is this message.

        Args:
            name: Name column.
            level: Level column.
            rest: All columns after the forecast column.
        """
        return (self.index_name, self.index_level) == (name, level) and re.fullmatch(self.rest, rest) is not None


def fields(variables: Sequence[Variable]) -> tuple[MessageSpec, ...]:
    """Return the specifications of these fields of a deterministic analysis or forecast."""
    return tuple(MessageSpec(v.name, v.index_name, v.index_level, (v.grib,)) for v in variables)
