"""Units of maps: those of the fields, or those that forecasters in the United States use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from convcast.variables import Variable

Value = TypeVar("Value", float, NDArray[np.floating])
UnitSystem = Literal["si", "us"]
"""Name of a system of units."""


@dataclass(frozen=True)
class DisplayUnits:
    """Unit in which a field is shown, and how its values are converted."""

    sign: str
    factor: float = 1.0
    offset: float = 0.0

    def convert(self, values: Value) -> Value:
        """Convert values of the field."""
        return values * self.factor + self.offset

    def convert_difference(self, values: Value) -> Value:
        """Convert differences of values, such as spreads."""
        return values * self.factor

    def original(self, value: float) -> float:
        """Convert a value back to the field's units."""
        return (value - self.offset) / self.factor


US = {"K": DisplayUnits("°F", 1.8, -459.67), "m s-1": DisplayUnits("kt", 3600 / 1852)}
"""Units of forecasters in the United States, by the field's unit, where they differ."""


def display_units(variable: Variable, system: UnitSystem) -> DisplayUnits:
    """Return the unit in which a system shows a field."""
    own = DisplayUnits(variable.sign)
    return US.get(variable.units, own) if system == "us" else own
