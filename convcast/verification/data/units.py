"""Units of fields as files spell them, and how values in other units become the table's."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Conversion:
    """Values in a field's units are `factor` times the file's, plus `offset`."""

    factor: float = 1.0
    offset: float = 0.0

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of any shape, converted; those that need no conversion are returned as they are."""
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
"""By a field's units, then by the file's, in lower case and with plain exponents."""


def conversion(given: str, wanted: str) -> Conversion | None:
    """How values in units `given` become values in a field's units `wanted`; None where they do not."""
    text = re.sub(r"\*\*|\^", "", given.strip()).lower()
    text = re.sub(r"\s+", " ", text)
    return _CONVERSIONS.get(wanted, {}).get(text, SAME if given == wanted else None)
