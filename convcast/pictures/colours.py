"""Colours of fields, of probabilities and of members.

Sequential tables run from light to dark, so that people who cannot tell red from green can read them, and change hue
where forecasters expect it. Values below the first level, such as no echo, are not drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, Normalize

from convcast.variables import Variable


@dataclass(frozen=True)
class ColourSteps:
    """A colour table in steps, with a colour between each two levels, and one below and one above all levels."""

    levels: tuple[float, ...]
    colours: tuple[str, ...]
    under: str
    over: str
    labels: tuple[float, ...] | None = None
    """Levels that the colour bar labels; None for matplotlib's choice."""


BLANK = "#ffffff00"
"""Colour of values that are not drawn."""
MISSING = "#d0d0d0"
"""Colour of points without a value."""
TABLES = {
    # The order of hues of the weather service's displays, in steps of 5 dBZ: green, yellow from 35, orange from 45, red
    # from 55, magenta from 65. Unlike there, each step is darker than the one before.
    "convcast.reflectivity": ColourSteps(
        tuple(range(5, 80, 5)),
        (
            *("#eaf5ec", "#d2f2d7", "#b0efb7", "#97e79d", "#83dd89", "#6dd473", "#d8a900"),
            *("#dd8c00", "#e16b00", "#e44000", "#d5181c", "#ac1d44", "#7f1c63", "#51195e"),
        ),
        BLANK,
        "#2a0a33",
        labels=(20, 30, 40, 50, 60),
    ),
    "convcast.energy": ColourSteps(
        (100, 250, 500, 750, 1000, 1500, 2000, 2500, 3000, 4000),
        ("#fbf3cf", "#f9e3a0", "#f8cd72", "#f4ad52", "#ec8741", "#dc5f3c", "#bf3b42", "#962650", "#681c59"),
        BLANK,
        "#3a1247",
    ),
    "convcast.inhibition": ColourSteps(
        (-400, -250, -150, -100, -75, -50, -25, -10),
        ("#2b2a66", "#3c4791", "#4c68ab", "#648bbf", "#85acd0", "#aecbe1", "#d9e7f0"),
        "#1c1642",
        BLANK,
    ),
}


Colours = tuple[Colormap, Normalize]
"""A colour map, and the normalisation of values to it."""


def field_colours(variable: Variable, month: int | None = None) -> Colours:
    """Return the colour map of a field and the normalisation of its values, which does not depend on the forecast.

    Args:
        variable: Field.
        month: Month, 1 to 12, of fields whose range follows the season; None for summer.
    """
    steps = TABLES.get(variable.colour_map)
    if steps is None:
        return colormaps[variable.colour_map], Normalize(*displayed_range(variable, month))
    colours = ListedColormap(steps.colours).with_extremes(under=steps.under, over=steps.over, bad=MISSING)
    return colours, BoundaryNorm(steps.levels, len(steps.colours))


def bar_labels(variable: Variable) -> tuple[float, ...] | None:
    """Return the values that a field's colour bar names, or None for those that matplotlib chooses."""
    steps = TABLES.get(variable.colour_map)
    return None if steps is None else steps.labels


def displayed_range(variable: Variable, month: int | None = None) -> tuple[float, float]:
    """Return the range of values of a field's colour scale in a month, 1 to 12, or in summer."""
    low, high = variable.display
    if variable.winter_display is None or month in (6, 7, 8, None):
        return variable.display
    coldest, warmest = variable.winter_display
    if month in (12, 1, 2):
        return variable.winter_display
    return (low + coldest) / 2, (high + warmest) / 2


def spread_colours(top: float) -> Colours:
    """Return the colour map and normalisation of an ensemble's spread up to `top`; spread near 0 is not drawn."""
    top = _round(top)
    return _steps("YlGnBu", (top / 20, *(top * step / 10 for step in range(1, 11))))


def difference_colours(top: float) -> Colours:
    """Return the colour map and normalisation of differences up to `top`; small ones are not drawn."""
    top = _round(top)
    levels = tuple(top * step / 10 for step in (-10, -8, -6, -4, -2, -1, 1, 2, 4, 6, 8, 10))
    colours = colormaps["RdBu_r"](np.linspace(0.02, 0.98, len(levels) + 1))
    colours[len(levels) // 2] = (1, 1, 1, 0)
    middle = ListedColormap(colours[1:-1]).with_extremes(under=colours[0], over=colours[-1], bad=MISSING)
    return middle, BoundaryNorm(levels, len(levels) - 1)


def difference_labels(top: float) -> tuple[float, ...]:
    """Return the differences that the colour bar of `difference_colours` names, the same on both sides of zero."""
    return tuple(_round(top) * step / 10 for step in (-10, -6, -2, 2, 6, 10))


def speed_colours(step: float) -> Colours:
    """Return the colour map and normalisation of wind speeds in steps; calms are not drawn."""
    return _steps("YlOrBr", tuple(step * number for number in range(1, 12)), darkest=0.8)


def probability_colours() -> Colours:
    """Return the colour map and normalisation of probabilities in percent; values below 2 are not drawn."""
    return _steps("BuPu", (2, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100.001))


def _steps(name: str, levels: tuple[float, ...], *, darkest: float = 1.0) -> Colours:
    """Return a step of a colour map between each two levels, without its palest colours."""
    colours = colormaps[name](np.linspace(0.12, darkest, len(levels) - 1))
    table = ListedColormap(colours).with_extremes(under=BLANK, over=colours[-1], bad=MISSING)
    return table, BoundaryNorm(levels, len(levels) - 1)


def _round(value: float) -> float:
    """Return the number nearest to a value among 1, 2, 2.5 and 5 times powers of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(min((power * step for step in (1, 2, 2.5, 5, 10)), key=lambda number: abs(number - value)))


FEW = 8
"""Maximum number of members with a colour each; readers cannot tell more apart."""
MEMBERS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#5b2c83")
"""Colours of up to FEW members, after Okabe and Ito (2008)."""
SEVERAL = "#3a3a3a"
"""Colour of points at which two or more of a few members have the event."""


def count_colours(members: int) -> tuple[ListedColormap, tuple[int, ...]]:
    """Return the colours of classes of numbers of members, and the smallest number of each class, from 1."""
    firsts = tuple(n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256) if n <= members)
    return ListedColormap(colormaps["viridis_r"](np.linspace(0.02, 1, len(firsts)))), firsts
