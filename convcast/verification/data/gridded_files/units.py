"""Spellings of units in files, and the conversions to the units of the table of fields."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Conversion:
    """Linear conversion: value in a field's units = `factor` * value in the file + `offset`."""

    factor: float = 1.0
    offset: float = 0.0

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert values of any shape; the identity returns the same array."""
        if self == SAME:
            return values
        converted: NDArray[np.float32] = values * np.float32(self.factor) + np.float32(self.offset)
        return converted


SAME = Conversion()
_CELSIUS = Conversion(offset=273.15)
_CONVERSIONS: dict[str, dict[str, Conversion]] = {
    "K": {
        **dict.fromkeys(("k", "kelvin", "degk", "deg_k", "degree_kelvin", "degrees_kelvin"), SAME),
        **dict.fromkeys(
            ("c", "°c", "celsius", "degc", "deg_c", "degree_c", "degrees_c", "degree_celsius", "degrees_celsius"),
            _CELSIUS,
        ),
        **dict.fromkeys(
            ("f", "°f", "degf", "deg_f", "fahrenheit", "degree_fahrenheit", "degrees_fahrenheit"),
            Conversion(5 / 9, 273.15 - 32 * 5 / 9),
        ),
    },
    "m s-1": {
        **dict.fromkeys(("m s-1", "m/s", "m.s-1", "mps", "meter/second", "meters/second", "metres/second"), SAME),
        **dict.fromkeys(("kt", "kts", "knot", "knots"), Conversion(1852 / 3600)),
        **dict.fromkeys(("km/h", "km h-1", "kph"), Conversion(1 / 3.6)),
        **dict.fromkeys(("mph", "mi/h"), Conversion(0.44704)),
    },
    "J kg-1": {
        **dict.fromkeys(("j kg-1", "j/kg", "j.kg-1", "m2 s-2", "m2/s2"), SAME),
        **dict.fromkeys(("kj kg-1", "kj/kg"), Conversion(1000.0)),
    },
    "dBZ": dict.fromkeys(("dbz", "db", "decibel"), SAME),
}
"""Conversions by the units of a field, then by those of a file in lower case without ** and ^."""


def conversion(given: str, required: str) -> Conversion | None:
    """Return the conversion from the units of a file to the units of a field, or None where there is none."""
    text = re.sub(r"\*\*|\^", "", given.strip()).lower()
    text = re.sub(r"\s+", " ", text)
    return _CONVERSIONS.get(required, {}).get(text, SAME if given == required else None)
