"""Colours of fields, of probabilities and of members.

Field tables run from light to dark and change hue where forecasters expect it, so that they can be read by people
who do not tell red from green.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, Normalize

from convcast.variables import Variable

GOLDEN = 0.6180339887
"""Golden angle, as a fraction of a turn."""


@dataclass(frozen=True)
class ColourSteps:
    """Colour table with steps: a colour between each two levels, and one below and above them."""

    levels: tuple[float, ...]
    colours: tuple[str, ...]
    under: str
    over: str


TABLES = {
    # The hues and 5 dBZ steps of the weather service's displays: blue for drizzle, yellow from 35, red from 50.
    "convcast.reflectivity": ColourSteps(
        tuple(range(5, 75, 5)),
        (
            *("#cfdce8", "#a3c4e2", "#6ea3d6", "#3d7cbd", "#43a895", "#1f7d63", "#f7e463"),
            *("#f6bd41", "#ef8f2f", "#df4f32", "#b71c31", "#7f1140", "#bb46c0"),
        ),
        "#f7f7f5",
        "#eaaeed",
    ),
    "convcast.energy": ColourSteps(
        (100, 250, 500, 750, 1000, 1500, 2000, 2500, 3000, 4000),
        ("#fbf3cf", "#f9e3a0", "#f8cd72", "#f4ad52", "#ec8741", "#dc5f3c", "#bf3b42", "#962650", "#681c59"),
        "#fbfaf7",
        "#3a1247",
    ),
    "convcast.inhibition": ColourSteps(
        (-400, -250, -150, -100, -75, -50, -25, -10),
        ("#2b2a66", "#3c4791", "#4c68ab", "#648bbf", "#85acd0", "#aecbe1", "#d9e7f0"),
        "#1c1642",
        "#fbfaf7",
    ),
}


def field_colours(variable: Variable) -> tuple[Colormap, Normalize]:
    """Return the colour map of a field and the normalisation of its values."""
    steps = TABLES.get(variable.colour_map)
    if steps is None:
        return colormaps[variable.colour_map], Normalize(*variable.display)
    colours = ListedColormap(steps.colours).with_extremes(under=steps.under, over=steps.over, bad="#d0d0d0")
    return colours, BoundaryNorm(steps.levels, len(steps.colours))


def probability_colours() -> tuple[Colormap, Normalize]:
    """Return the colour map and normalisation of probabilities in percent; values below 2 are white."""
    levels = (2, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    return colormaps["BuPu"].resampled(len(levels)).with_extremes(under="#fbfaf7"), BoundaryNorm(
        levels, len(levels), extend="min"
    )


def member_colours(count: int) -> ListedColormap:
    """Return one colour a member; hues advance by the golden angle, so that neighbours differ."""
    hues = np.modf(np.arange(count) * GOLDEN)[0]
    return ListedColormap(colormaps["turbo"](0.06 + 0.88 * hues))
