"""What is wanted of a GRIB file: one message, as its index names it and as its header numbers it.

Both must agree before a message counts. An index is text that may be stale or of another file, and a header alone
costs a request to look at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from convcast.variables import GribKey, Variable

INSTANT = frozenset({0})
"""Product definition template of an analysis or a forecast at a point in time (code table 4.0)."""


@dataclass(frozen=True)
class Limit:
    """The event of a probability: at or above `threshold`, or at or below it."""

    threshold: float
    below: bool = False


@dataclass(frozen=True)
class MessageSpec:
    """One message.

    Attributes
    ----------
    name : what convcast calls it, in sidecars and to the rooms that read it
    index_name, index_level : columns of the index
    keys : its GRIB numbers; more than one where publishers disagree
    rest : pattern that the columns after the forecast must match whole
    templates : product definition templates it may have
    limit : the event, of a probability
    """

    name: str
    index_name: str
    index_level: str
    keys: tuple[GribKey, ...]
    rest: str = ""
    templates: frozenset[int] = INSTANT
    limit: Limit | None = None

    def in_index(self, name: str, level: str, rest: str) -> bool:
        """Whether a row with these columns is it."""
        return (self.index_name, self.index_level) == (name, level) and re.fullmatch(self.rest, rest) is not None


def fields(variables: Sequence[Variable]) -> tuple[MessageSpec, ...]:
    """These fields of one deterministic analysis or forecast."""
    return tuple(MessageSpec(v.name, v.index_name, v.index_level, (v.grib,)) for v in variables)
