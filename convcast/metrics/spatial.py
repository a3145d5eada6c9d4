"""Neighbourhoods of scores of whole fields, and the case that these scores get."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from convcast.grid import SPACING
from convcast.variables import CAPE, REFC, Variable

Result = TypeVar("Result")
Changes = Mapping[tuple[int, int], NDArray[np.float64]]
"""Fair CRPS at each point, (y, x), of the change between two leads, hours."""
NEIGHBOURLY = (REFC, CAPE)
"""Fields whose events are also scored in neighbourhoods."""


def odd_width(kilometres: float) -> int:
    """Return the odd number of cells along a square whose side is nearest to this many kilometres."""
    return 2 * round((1000 * kilometres / SPACING - 1) / 2) + 1


@dataclass(frozen=True)
class Scales:
    """Sizes of the neighbourhoods of the fractions skill score, and whether the domain is periodic."""

    widths: tuple[int, ...]
    """Sides of the squares of FSS, cells, odd."""
    periodic: bool

    @classmethod
    def of(cls, kilometres: tuple[float, ...], shape: tuple[int, int], *, periodic: bool) -> Scales:
        """Convert widths in kilometres to odd numbers of cells, at most half as wide as the domain.

        Args:
            kilometres: Widths of the squares, km.
            shape: Rows and columns of the domain, cells.
            periodic: Whether the domain is a torus.
        """
        widths = map(odd_width, kilometres)
        return cls(tuple(dict.fromkeys(w for w in widths if 1 <= w <= min(shape) // 2)), periodic)


class ObservedResults:
    """Results that scores compute from the observation alone, stored for the next system at the same points."""

    def __init__(self) -> None:
        self._observations: NDArray[np.floating] | None = None
        self._present: NDArray[np.bool_] | None = None
        self._kept: dict[Hashable, Any] = {}

    def begin(self, observations: NDArray[np.floating], present: NDArray[np.bool_]) -> None:
        """Discard the results, unless they belong to these observations (y, x) and points (y, x)."""
        before = self._present
        if self._observations is not observations or before is None or not np.array_equal(before, present):
            self._kept.clear()
            self._observations, self._present = observations, present

    def get(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """Return the result of this key, after computing it if it is not stored."""
        if key not in self._kept:
            self._kept[key] = compute()
        kept: Result = self._kept[key]
        return kept


@dataclass(frozen=True)
class FieldCase:
    """The forecast of one field, its observation, and the scales at which they are compared."""

    forecasts: NDArray[np.floating]
    """Members, (member, y, x)."""
    observations: NDArray[np.floating]
    """Observations, (y, x)."""
    present: NDArray[np.bool_]
    """Whether neither the observation nor a member is missing, (y, x)."""
    variable: Variable
    scales: Scales
    packed: NDArray[np.uint32] | None = None
    """Members with the event of each of the field's thresholds, one bit each, (word, threshold, y, x); None if there
    are no events to score."""
    around: tuple[NDArray[np.bool_], ...] = ()
    """Strong echoes of the same members an hour earlier and later, (member, y, x) each, where there are forecasts."""
    changes: Changes = field(default_factory=dict)
    """CRPS of the changes between successive leads, where several leads are scored as one extreme."""
    observed: ObservedResults = field(default_factory=ObservedResults)
    """Results that do not depend on the members."""

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Thresholds of the events that are scored in neighbourhoods."""
        return self.variable.thresholds if self.variable in NEIGHBOURLY else ()

    def events(self) -> Iterator[tuple[float, NDArray[np.uint32]]]:
        """Yield each of `thresholds`, and the members with its event, one bit each, (word, y, x)."""
        assert self.packed is not None
        return zip(self.thresholds, np.moveaxis(self.packed, 1, 0), strict=False)
