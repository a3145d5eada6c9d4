"""Base map: water, coasts, state and county lines, meridians and parallels. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from numpy.typing import NDArray
from scipy.ndimage import label

from convcast.grid import SPACING, Grid, projection
from convcast.pictures.geography.borders import Line, coast_lines, county_lines, state_lines

SPACINGS = (0.25, 0.5, 1, 2, 5, 10)
"""Possible spacings of meridians and parallels, degrees."""
LINES = 4
"""Approximate number of meridians or parallels on a map."""
SPECKS = 130
"""Lakes and islands narrower than 1 / SPECKS of the map are left out, since they would clutter CONUS."""
NEAR = 3.0
"""Margin around a map, degrees, within which points of borders are kept."""
COUNTIES = 700.0
"""Maximum width of a map with county lines, km; on wider ones they would hide the weather."""
WATER = "#e3ecf2"
"""Colour of lakes and sea, which is not in any field's colour table."""


@dataclass(frozen=True, eq=False)
class BaseMap:
    """Base map of a rectangle of the HRRR grid."""

    grid: Grid
    land: NDArray[np.floating] | None = None
    """Land mask, 1 over land and 0 over water, (y, x), where it is known."""
    borders: bool = True
    """Whether states and counties are drawn; the simulated world has none."""

    @property
    def spacing(self) -> float:
        """Side of a cell, km."""
        return SPACING / 1000

    @property
    def x(self) -> NDArray[np.float64]:
        """Coordinate of the columns, km from the first."""
        return np.asarray(self.grid.x - self.grid.x[0]) / 1000

    @property
    def y(self) -> NDArray[np.float64]:
        """Coordinate of the rows, km from the first."""
        return np.asarray(self.grid.y - self.grid.y[0]) / 1000

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Western, eastern, southern and northern edge of the cells, km."""
        half = self.spacing / 2
        return -half, self.x[-1] + half, -half, self.y[-1] + half

    def draw(self, axes: Axes, *, small: bool = False) -> None:
        """Draw water, coasts and borders, and labelled parallels and meridians; only thin lines where `small`."""
        weight = 0.4 if small else 1.0
        if self.land is not None:
            shape = (*self.land.shape, 4)
            water = np.where((self.land < 0.5)[..., None], to_rgba(WATER), 0).reshape(shape)
            axes.imshow(water, origin="lower", extent=self.extent, interpolation="none", zorder=-1)
        counties = [] if small else self._counties
        for lines, colour, width in (
            (counties, "#b4b4b4", 0.3),
            (self._coasts, "#7890a0", 0.6),
            (self._states, "#444444", 0.6),
        ):
            if lines:
                axes.add_collection(LineCollection(lines, colors=colour, linewidths=width * weight), autolim=False)
        if not small:
            self._degrees(axes)
        axes.set(xlim=self.extent[:2], ylim=self.extent[2:], xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(True)

    def _degrees(self, axes: Axes) -> None:
        latitude, longitude = self.grid.latitude_longitude()
        for angle, positive, negative in ((latitude, "N", "S"), (longitude, "E", "W")):
            low, high = float(angle.min()), float(angle.max())
            step = next((s for s in SPACINGS if (high - low) / s <= LINES + 1), SPACINGS[-1])
            levels = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
            if levels.size == 0:
                continue
            lines = axes.contour(self.x, self.y, angle, levels, colors="#999999", linewidths=0.35, linestyles="dotted")
            names = {level: f"{abs(level):g}°{positive if level >= 0 else negative}" for level in levels}
            axes.clabel(lines, fmt=names, fontsize=5.5, colors="#666666", inline_spacing=1)

    @cached_property
    def _coasts(self) -> list[NDArray[np.float64]]:
        """Coastlines, km, each (point, 2), without small lakes and islands; real ones if no land mask is known."""
        if self.land is None:
            return self._near(coast_lines()) if self.borders else []
        land = self.land >= 0.5
        for part in (True, False):
            labels, _ = label(land == part)
            speck = np.bincount(labels.ravel()) < (self.grid.nx / SPECKS) ** 2
            speck[0] = False  # the other part
            land = land ^ speck[labels]
        return contour_generator(self.x, self.y, land.astype(float)).lines(0.5)  # type: ignore[return-value]

    @cached_property
    def _states(self) -> list[Line]:
        return self._near(state_lines()) if self.borders else []

    @cached_property
    def _counties(self) -> list[Line]:
        if not self.borders or self.x[-1] > COUNTIES:
            return []
        return self._near(county_lines(*self._box))

    @cached_property
    def _box(self) -> tuple[float, float, float, float]:
        """Western, southern, eastern and northern limit, degrees, of the area near the rectangle."""
        latitude, longitude = self.grid.latitude_longitude()
        west, south = float(longitude.min()) - NEAR, float(latitude.min()) - NEAR
        return west, south, float(longitude.max()) + NEAR, float(latitude.max()) + NEAR

    def _near(self, lines: Iterable[Line]) -> list[Line]:
        """Return the parts of lines (longitude, latitude) near the rectangle, km, each (point, 2)."""
        west, south, east, north = self._box
        corner = np.array([self.grid.x[0], self.grid.y[0]])
        near = []
        for line in lines:
            inside = ((line >= (west, south)) & (line <= (east, north))).all(axis=1)
            if inside.any():
                near.append((np.stack(projection()(*line[inside].T), axis=1) - corner) / 1000)
        return near
