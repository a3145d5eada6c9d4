"""One field of an ensemble at one lead, as maps show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.notation import HOUR, Hour
from convcast.pictures.geography.base_map import BaseMap
from convcast.pictures.units import DisplayUnits, UnitSystem, display_units
from convcast.variables import Variable

Floats = NDArray[np.floating]
DOTS = 110
"""Resolution, dots per inch."""


@dataclass(frozen=True, eq=False)
class Wind:
    """Wind at 10 m along the axes of the grid, m/s, each (y, x)."""

    x: Floats
    """Ensemble mean along the x axis."""
    y: Floats
    """Ensemble mean along the y axis."""
    speed: Floats
    """Ensemble mean of the speed, which is larger than the speed of the mean wind."""
    of_mean: bool = False
    """Whether `speed` is that of the mean wind instead, since the members are not stored."""


@dataclass(frozen=True, eq=False)
class ForecastField:
    """One field of an ensemble forecast at one lead, with its members or only its products."""

    variable: Variable
    threshold: float
    """Threshold of the event whose probability is drawn, in the field's units."""
    init: Hour
    lead: int
    """Lead time, hours."""
    base_map: BaseMap
    numbers: tuple[int, ...]
    """Numbers of the members."""
    simulated: bool
    source: str
    """Model and its input, for the note."""
    members: Floats | None
    """Members, (member, y, x), where the forecast holds them."""
    mean: Floats
    """Ensemble mean, (y, x)."""
    spread: Floats
    """Ensemble standard deviation, (y, x)."""
    probability: Floats
    """Probability of the event, 0 to 1, (y, x)."""
    neighbourhood: Floats | None = None
    """Probability of the event anywhere within `radius` of a point, (y, x), where it is known."""
    radius: float = 40.0
    """Radius of the neighbourhood, km."""
    any_time: Floats | None = None
    """Probability of the event at any of the leads in `window`, (y, x), where it is known."""
    any_time_near: Floats | None = None
    """Probability of the event anywhere within `radius` of a point at any of these leads, (y, x)."""
    window: tuple[int, ...] = ()
    """Leads of the forecast up to this one, hours."""
    matched_mean: Floats | None = None
    """Probability-matched mean, (y, x), of fields that have one."""
    wind: Wind | None = None
    """Wind of the same forecast and lead, where both components are there."""
    observed: Floats | None = None
    """Analysis of the valid time, (y, x), where there is one."""
    reference: Floats | None = None
    """HRRR's forecast of the same init and lead, (y, x), where there is one."""
    model: str = ""
    """First digits of the model's identity; empty if it is unknown."""
    warnings: tuple[str, ...] = ()
    """Sentences on faults that verification has found in such forecasts."""
    system: UnitSystem = "si"
    """System of units of the map."""
    width: float | None = None
    """Width of the figure, inches; None for the standard width. Letters keep their size."""
    dots: int = DOTS
    """Resolution, dots per inch."""

    @property
    def units(self) -> DisplayUnits:
        """Unit in which the field is shown."""
        return display_units(self.variable, self.system)

    @property
    def event(self) -> str:
        """Name of the event, in the units of the map: `REFC ≥ 40 dBZ`."""
        return self.variable.event(round(self.units.convert(self.threshold), 2), self.units.sign)

    @property
    def near_event(self) -> str:
        """Name of the event in the neighbourhood: `REFC ≥ 40 dBZ within 40 km`."""
        return f"{self.event} within {self.radius:g} km"

    @property
    def field(self) -> str:
        """Name of the field at the beginning of a title."""
        return self.variable.long_name[0].upper() + self.variable.long_name[1:]

    @property
    def times(self) -> str:
        """Valid time, lead and init time: `valid Mon 2024-05-27 23 UTC (F01, init 22 UTC)`."""
        valid = self.init + self.lead * HOUR
        start = f"{self.init}".replace("T", " ")
        same_day = self.init.astype("datetime64[D]") == valid.astype("datetime64[D]")
        day, hour = f"{valid}".split("T")
        return (
            f"valid {valid.item():%a} {day} {hour} UTC (F{self.lead:02d}, init {start[-2:] if same_day else start} UTC)"
        )

    @property
    def times_of_window(self) -> str:
        """Last valid time of the window, and its leads: `valid until Tue 2024-05-28 01 UTC (F01, F03, init …)`."""
        leads = ", ".join(f"F{lead:02d}" for lead in self.window)
        return f"valid until {self.times.removeprefix('valid ').replace(f'(F{self.lead:02d}', f'({leads}')}"

    @property
    def basis(self) -> str:
        """Number of members, and the model."""
        count = len(self.numbers)
        return f"{count} member{'s' * (count != 1)}; {self.source}"

    @property
    def month(self) -> int:
        """Month of the valid time, 1 to 12."""
        return int(str(self.init + self.lead * HOUR)[5:7])

    def happens(self, values: Floats) -> NDArray[np.bool_]:
        """Return whether the event happens, for values in the field's own units."""
        return self.variable.happens(values, self.threshold)


def from_members(
    shown: Callable[..., ForecastField], variable: Variable, threshold: float, members: Floats, **products: Any
) -> ForecastField:
    """Complete a forecast field with mean, spread and probability of its members.

    Args:
        shown: ForecastField with the other arguments bound.
        variable: Field.
        threshold: Threshold of the event, in the field's units.
        members: Members, (member, y, x).
        products: Further products of the members, by name.
    """
    event = variable.happens(members, threshold)
    spread = members.std(axis=0, ddof=1) if len(members) > 1 else np.zeros_like(members[0])
    return shown(members=members, mean=members.mean(axis=0), spread=spread, probability=event.mean(axis=0), **products)
