"""Interpolation from a part of the HRRR grid to HREF's grid, NCEP grid 227.

Members and truth are interpolated to this coarser grid, on which HREF is verified in operations (NCEP's EVS).
Reflectivity is taken from the nearest point, so that echoes are not averaged, and smooth fields are interpolated
bilinearly, as NCEP does with its members. Winds would have to be rotated and are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyproj import Proj

from convcast.errors import DamagedFileError, SettingsError
from convcast.grib import MessageHeader
from convcast.grid import EARTH_RADIUS, SPACING, Grid, projection
from convcast.variables import REFC, U10, V10, Variable

NY, NX, CELL = 1025, 1473, 5079.0
"""Rows, columns, metres between points (NCEP grid 227, GRIB2 template 3.30: latitude 25 and longitude 265 true)."""
FIRST_LATITUDE, FIRST_LONGITUDE = 12.190, 226.541
PROJECTION = f"+proj=lcc +lat_0=25 +lon_0=265 +lat_1=25 +lat_2=25 +R={EARTH_RADIUS}"
_KEYS = (30, 64, 5079000, 5079000, 25000000, 25000000, 25000000, 265000000)
_CORNER = 0.01
"""Maximum rounding error of the first point, degrees."""


def check_grid_227(header: MessageHeader) -> None:
    """Raise DamagedFileError where a message is not on grid 227."""
    corner = np.array([header.first_latitude - FIRST_LATITUDE, header.first_longitude - FIRST_LONGITUDE])
    if header.handle_grid != _KEYS or (header.ny, header.nx) != (NY, NX) or (np.abs(corner) > _CORNER).any():
        raise DamagedFileError("not on HREF's grid 227")


@dataclass(frozen=True)
class Regridder:
    """Interpolation from a rectangle of the HRRR grid to the rectangle of grid 227 inside it."""

    source: Grid

    @cached_property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of grid 227 with a point inside the source.

        Raises:
            SettingsError: No point is inside.
        """
        y, x = self._whole
        inside = (y >= 0) & (y <= self.source.ny - 1) & (x >= 0) & (x <= self.source.nx - 1)
        if not inside.any():
            raise SettingsError("no point of HREF's grid lies inside the domain", advice="verify a larger region")
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Whether each point of the box is inside the source, (y, x)."""
        y, x = self._positions
        return (y >= 0) & (y <= self.source.ny - 1) & (x >= 0) & (x <= self.source.nx - 1)

    def __call__(self, variable: Variable, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate a field to the box.

        Args:
            variable: Field; it decides the method.
            values: Values on the source, (..., y, x).

        Returns:
            Values on the box, (..., y, x), NaN outside the source.

        Raises:
            SettingsError: The field is a wind component.
        """
        if variable in (U10, V10):
            raise SettingsError("winds along HRRR's axes are not those along the axes of grid 227")
        return self._nearest(values) if variable == REFC else self._bilinear(values)

    def _nearest(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        y, x = (np.rint(position).astype(np.intp) for position in self._clipped)
        return np.where(self.inside, values[..., y, x], np.float32(np.nan))

    def _bilinear(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        y, x = self._clipped
        y0, x0 = (np.floor(a).astype(np.intp).clip(0, n - 2) for a, n in ((y, self.source.ny), (x, self.source.nx)))
        wy, wx = (y - y0).astype(np.float32), (x - x0).astype(np.float32)
        south = values[..., y0, x0] * (1 - wx) + values[..., y0, x0 + 1] * wx
        north = values[..., y0 + 1, x0] * (1 - wx) + values[..., y0 + 1, x0 + 1] * wx
        return np.where(self.inside, south * (1 - wy) + north * wy, np.float32(np.nan)).astype(np.float32)

    @cached_property
    def _whole(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and columns in the source, cells, of all points of grid 227."""
        projection_227 = Proj(PROJECTION)
        x0, y0 = projection_227(FIRST_LONGITUDE, FIRST_LATITUDE)
        x, y = np.meshgrid(x0 + CELL * np.arange(NX), y0 + CELL * np.arange(NY))
        longitude, latitude = projection_227(x, y, inverse=True)
        x, y = projection()(longitude, latitude)
        return (y - self.source.y[0]) / SPACING, (x - self.source.x[0]) / SPACING

    @cached_property
    def _positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rows, columns = self.box
        y, x = self._whole
        return y[rows, columns], x[rows, columns]

    @cached_property
    def _clipped(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        y, x = self._positions
        return y.clip(0, self.source.ny - 1), x.clip(0, self.source.nx - 1)
