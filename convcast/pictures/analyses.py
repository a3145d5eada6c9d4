"""Draw a field hour by hour, as the analyses show it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from convcast.notation import Hour
from convcast.pictures.colours import bar_labels, field_colours
from convcast.pictures.geography.base_map import BaseMap
from convcast.pictures.style import finish, styled
from convcast.variables import Variable

PANEL = 2.6
"""Side of a map, inches."""


def draw_analyses(
    variable: Variable, fields: Sequence[np.ndarray], hours: Sequence[Hour], base_map: BaseMap, *, simulated: bool
) -> bytes:
    """Draw one map an hour, side by side, and return them as PNG.

    Args:
        variable: Field.
        fields: Field of each hour, (y, x), in its units.
        hours: Hours, UTC.
        base_map: Base map of the fields' grid.
        simulated: Whether the weather is simulated.
    """
    with styled():
        figure = Figure(figsize=(PANEL * len(hours), PANEL + 1.4), dpi=110)
        panels = figure.subplots(1, len(hours), squeeze=False)[0]
        colours, norm = field_colours(variable, int(str(hours[0])[5:7]))
        for panel, values, hour in zip(panels, fields, hours, strict=True):
            image = panel.imshow(
                values, origin="lower", extent=base_map.extent, cmap=colours, norm=norm, interpolation="none"
            )
            base_map.draw(panel, small=True)
            panel.set_title(f"{hour}".replace("T", " ") + " UTC", fontsize=9)
        figure.colorbar(
            image,
            ax=list(panels),
            location="right",
            label=variable.sign,
            extend="both",
            shrink=0.8,
            ticks=bar_labels(variable),
        ).minorticks_off()
        ny, nx = base_map.grid.shape
        kilometres = base_map.spacing
        return finish(
            figure,
            title=f"{variable.long_name[0].upper()}{variable.long_name[1:]}: analyses",
            note=f"{nx} x {ny} cells of {kilometres:g} km",
            simulated=simulated,
        )
