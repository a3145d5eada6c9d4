"""Bring a scan of pixels of 0.01 degrees to the cells of the HRRR grid, by their maximum or their mean.

A cell of 3 km holds about nine pixels of MRMS. The maximum keeps the cores of storms, which HRRR's composite
reflectivity has too: a model's cell is compared with its strongest echo. The mean is that of the reflectivity factor Z
(mm6 m-3), in which radar data are averaged, and not of its logarithm; pixels without echo count as Z = 0. Means of
cells have fewer high values than the maxima.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convcast.grid import EARTH_RADIUS, LATIN, ORIENTATION, SPACING, Grid, RegularGrid, projection
from convcast.variables import NO_ECHO

CellChoice = Literal["maximum", "mean"]
NO_COVERAGE, LOWEST = -900.0, -90.0
"""Values below which a pixel has no coverage (-999 in the files), and no echo (-99)."""
COVERED = 0.5
"""Minimum fraction of a cell's pixels with coverage; with less the cell is missing."""
_ROWS = 500
"""Number of rows of pixels that are assigned to cells at a time."""

Floats = NDArray[np.float32]


class RadarCells:
    """The cell of a grid in which each pixel lies."""

    def __init__(self, pixels: RegularGrid, grid: Grid) -> None:
        """Find the cells; a pixel belongs to the cell whose centre is nearest in the projection."""
        self.pixels, self.grid = pixels, grid
        self._outside = grid.ny * grid.nx
        """Index after the last cell, for pixels outside the grid."""
        # On a tangent cone the distance from the apex depends on latitude alone, and the angle on longitude alone.
        apex = EARTH_RADIUS / np.tan(np.deg2rad(LATIN))
        _, along = projection()(np.full(pixels.ny, ORIENTATION), pixels.latitudes)
        radius = apex - np.asarray(along)
        east = (pixels.longitudes - ORIENTATION + 180) % 360 - 180
        angle = np.sin(np.deg2rad(LATIN)) * np.deg2rad(east)
        self._cell = np.empty(pixels.ny * pixels.nx, np.int32)
        for first in range(0, pixels.ny, _ROWS):
            distance = radius[first : first + _ROWS, None]
            column = np.rint((distance * np.sin(angle) - grid.x[0]) / SPACING)
            row = np.rint((apex - distance * np.cos(angle) - grid.y[0]) / SPACING)
            inside = (row >= 0) & (row < grid.ny) & (column >= 0) & (column < grid.nx)
            here = np.where(inside, row * grid.nx + column, self._outside).astype(np.int32)
            self._cell[first * pixels.nx : first * pixels.nx + here.size] = here.ravel()
        self._counts = self._sum(None)

    def to_cells(self, scan: Floats, choice: CellChoice) -> Floats:
        """Bring a scan to the grid.

        Args:
            scan: Reflectivity of the pixels as published, (ny, nx) of the pixels, dBZ.
            choice: Take the maximum or the mean of a cell's pixels.

        Returns:
            Reflectivity, (ny, nx) of the grid, dBZ, at least NO_ECHO; NaN without coverage.
        """
        values = scan.ravel()
        seen = self._sum(values > NO_COVERAGE)
        if choice == "maximum":
            most = np.full(self._outside + 1, -np.inf, np.float32)
            np.maximum.at(most, self._cell, values)
            joined = most[:-1]
        else:
            total = self._sum(np.where(values > LOWEST, 10 ** (values / 10), 0))
            with np.errstate(divide="ignore", invalid="ignore"):
                joined = (10 * np.log10(total / seen)).astype(np.float32)
        enough = seen >= np.maximum(COVERED * self._counts, 1)
        cells = np.where(enough, np.maximum(joined, np.float32(NO_ECHO)), np.float32(np.nan))
        return cells.reshape(self.grid.shape)

    def _sum(self, weights: NDArray[np.generic] | None) -> NDArray[np.float64]:
        """Return the sum of weights over the pixels of each cell; without weights, the number of pixels."""
        return np.bincount(self._cell, weights, minlength=self._outside + 1)[:-1].astype(np.float64)
