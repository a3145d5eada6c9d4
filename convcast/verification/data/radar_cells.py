"""Bring a scan of pixels of 0.01 degrees to the cells of the HRRR grid, by their maximum or their mean.

A cell of 3 km holds about nine pixels of MRMS. The maximum keeps the cores of storms, as HRRR's composite reflectivity
has them: a model's cell is judged by the strongest echo in it. The mean is that of the reflectivity factor Z
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
"""Values below which a pixel is without coverage (-999 in the files), and without echo (-99)."""
COVERED = 0.5
"""Minimum fraction of a cell's pixels with coverage; with less the cell is missing."""
_ROWS = 500
"""Rows of pixels whose cells are found at a time."""

Floats = NDArray[np.float32]


class RadarCells:
    """The cell of a grid in which each pixel lies."""

    def __init__(self, pixels: RegularGrid, grid: Grid) -> None:
        """Find the cells; a pixel belongs to the cell whose centre is nearest in the projection."""
        self.pixels, self.grid = pixels, grid
        self._outside = grid.ny * grid.nx
        """Number of a place beside the cells, for the pixels outside the grid."""
        # On a tangent cone a point's distance from the apex depends on its latitude alone, its angle on its longitude.
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
            Reflectivity, (ny, nx) of the grid, dBZ: NO_ECHO where there is none or a weaker one, NaN without coverage.
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
        """Sum over the pixels of each cell; their number without weights."""
        return np.bincount(self._cell, weights, minlength=self._outside + 1)[:-1].astype(np.float64)
