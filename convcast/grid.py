"""The HRRR grid, its projection and its regions.

The grid has 1059 rows by 1799 columns, 3 km apart, on a Lambert conformal projection, with row 0 in the south
(https://rapidrefresh.noaa.gov/hrrr/, GRIB2 grid definition template 3.30).
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convcast.errors import DamagedFileError, SettingsError

if TYPE_CHECKING:
    from pyproj import Proj

NY, NX = 1059, 1799
"""Rows and columns of the HRRR grid."""
SPACING = 3000.0
"""Distance between grid points, metres."""
EARTH_RADIUS = 6371229.0
"""Radius of the spherical earth, metres."""
LATIN, ORIENTATION = 38.5, -97.5
"""Standard parallel and central meridian, degrees."""
FIRST_LATITUDE, FIRST_LONGITUDE = 21.138123, 237.280472
"""Latitude and longitude of the south-west corner, degrees."""
PROJECTION = f"+proj=lcc +lat_0={LATIN} +lon_0={ORIENTATION} +lat_1={LATIN} +lat_2={LATIN} +R={EARTH_RADIUS}"
CORNER_TOLERANCE = 0.05
"""Tolerance of a corner's position, in grid cells: publishers round to 0.001 degrees (0.04 cells)."""

REGIONS: dict[str, tuple[int, int, int, int]] = {
    "conus": (0, NY, 0, NX),
    "southern-plains": (240, 624, 720, 1168),
    "northern-plains": (600, 984, 640, 1152),
    "midwest": (500, 884, 1080, 1464),
    "southeast": (180, 564, 1120, 1568),
    "northeast": (560, 944, 1350, 1734),
}
"""Named regions: first row, end row, first column, end column."""


@dataclass(frozen=True)
class Grid:
    """A rectangle of the HRRR grid, with `ny` by `nx` points and its south-west corner at row `y0`, column `x0`.

    `periodic` is true only for the simulated world, which has no edge.
    """

    ny: int
    nx: int
    y0: int = 0
    x0: int = 0
    periodic: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.ny, self.nx

    @property
    def x(self) -> NDArray[np.float64]:
        """Projection x of the columns, metres, (nx,)."""
        return _origin()[0] + SPACING * (self.x0 + np.arange(self.nx, dtype=np.float64))

    @property
    def y(self) -> NDArray[np.float64]:
        """Projection y of the rows, metres, (ny,)."""
        return _origin()[1] + SPACING * (self.y0 + np.arange(self.ny, dtype=np.float64))

    def latitude_longitude(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude (-180 to 180) of the points, degrees, each (ny, nx)."""
        longitude, latitude = projection()(*np.meshgrid(self.x, self.y), inverse=True)
        return latitude, longitude

    def crop(self, rows: slice, columns: slice) -> Grid:
        """Return the part of the grid with these rows and columns; a part of the periodic grid is not periodic."""
        y, x = range(self.ny)[rows], range(self.nx)[columns]
        whole = (len(y), len(x)) == self.shape
        return Grid(len(y), len(x), self.y0 + y.start, self.x0 + x.start, self.periodic and whole)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Grid:
        """Rebuild a grid from `to_dict`.

        Raises:
            ValueError: The values do not describe a rectangle of the HRRR grid.
        """
        names = {field.name: int for field in fields(cls)} | {"periodic": bool}
        if not isinstance(values, dict) or {name: type(value) for name, value in values.items()} != names:
            raise ValueError(f"{values!r} is not a grid")
        grid = cls(**values)
        if min(grid.ny, grid.nx) < 1 or not CONUS.covers(grid):
            raise ValueError(f"{values!r} is not on the HRRR grid")
        return grid

    def covers(self, other: Grid) -> bool:
        """Return whether `other` lies within this rectangle."""
        return (
            self.y0 <= other.y0
            and self.x0 <= other.x0
            and other.y0 + other.ny <= self.y0 + self.ny
            and other.x0 + other.nx <= self.x0 + self.nx
        )

    def window(self, other: Grid) -> tuple[slice, slice]:
        """Return the rows and columns of this rectangle that `other` has, which lies within it."""
        top, left = other.y0 - self.y0, other.x0 - self.x0
        return slice(top, top + other.ny), slice(left, left + other.nx)


@dataclass(frozen=True)
class RegularGrid:
    """A grid of equal steps in latitude and longitude, with row 0 in the north and column 0 in the west."""

    ny: int
    nx: int
    north: float
    """Latitude of row 0, degrees."""
    west: float
    """Longitude of column 0, degrees."""
    spacing: float
    """Distance between rows and between columns, degrees."""

    @property
    def latitudes(self) -> NDArray[np.float64]:
        """Latitude of the rows, degrees, (ny,)."""
        return self.north - self.spacing * np.arange(self.ny, dtype=np.float64)

    @property
    def longitudes(self) -> NDArray[np.float64]:
        """Longitude of the columns, degrees, (nx,)."""
        return self.west + self.spacing * np.arange(self.nx, dtype=np.float64)


CONUS = Grid(NY, NX)
"""The whole HRRR grid."""


@lru_cache(maxsize=1)
def projection() -> Proj:
    """Return the projection of the HRRR grid: (longitude, latitude) in degrees to (x, y) in metres."""
    from pyproj import Proj

    return Proj(PROJECTION)


@lru_cache(maxsize=1)
def _origin() -> tuple[float, float]:
    x, y = projection()(FIRST_LONGITUDE, FIRST_LATITUDE)
    return float(x), float(y)


def locate(latitude: float, longitude: float, ny: int, nx: int, *, periodic: bool = False) -> Grid:
    """Find the rectangle of the HRRR grid with this south-west corner.

    Args:
        latitude: Latitude of the corner, degrees.
        longitude: Longitude of the corner, degrees.
        ny: Number of rows.
        nx: Number of columns.
        periodic: Whether the grid is that of the simulated world.

    Raises:
        DamagedFileError: The corner is not a point of the grid, or the rectangle leaves it.
    """
    x, y = projection()(longitude, latitude)
    x0, y0 = (x - _origin()[0]) / SPACING, (y - _origin()[1]) / SPACING
    finite = math.isfinite(x0) and math.isfinite(y0)  # pyproj puts an invalid latitude at infinity
    if not finite or abs(x0 - round(x0)) > CORNER_TOLERANCE or abs(y0 - round(y0)) > CORNER_TOLERANCE:
        raise DamagedFileError(f"the grid starting at {latitude} N, {longitude} E is not on the HRRR grid")
    grid = Grid(ny, nx, round(y0), round(x0), periodic)
    if not CONUS.covers(grid):
        raise DamagedFileError(f"a grid of {ny} x {nx} points from {latitude} N, {longitude} E leaves the HRRR grid")
    return grid


def spatial_reference() -> dict[str, Any]:
    """Attributes of the CF grid mapping variable (CF conventions, appendix F)."""
    return {
        "long_name": "projection of the HRRR grid",
        "grid_mapping_name": "lambert_conformal_conic",
        "standard_parallel": LATIN,
        "longitude_of_central_meridian": ORIENTATION,
        "latitude_of_projection_origin": LATIN,
        "false_easting": 0.0,
        "false_northing": 0.0,
        "earth_radius": EARTH_RADIUS,
    }


def parse_region(text: str) -> tuple[slice, slice]:
    """Parse a region: a name, `y0:y1,x0:x1`, or a box in degrees (`30N:37N,104W:94W`).

    Returns:
        Its rows and columns of the HRRR grid.

    Raises:
        SettingsError: The text is not a region, or the region leaves the grid.
    """
    if text in REGIONS:
        y0, y1, x0, x1 = REGIONS[text]
        return slice(y0, y1), slice(x0, x1)
    box = _BOX.fullmatch(text.replace(" ", "").upper())
    if box is not None:
        degrees = (float(box[n]) * (-1 if box[n + 1] in "SW" else 1) for n in range(1, 9, 2))
        return _in_degrees(text, *degrees)
    try:
        rows, columns = ([int(n) for n in part.split(":")] for part in text.split(","))
        (y0, y1), (x0, x1) = rows, columns
    except ValueError:
        raise SettingsError(
            f"there is no region {text!r}",
            advice=f"use y0:y1,x0:x1, degrees as 30N:37N,104W:94W, or one of {' '.join(REGIONS)}",
        ) from None
    if not (0 <= y0 < y1 <= NY and 0 <= x0 < x1 <= NX):
        raise SettingsError(f"region {text!r} leaves the HRRR grid", advice=f"rows end at {NY}, columns at {NX}")
    return slice(y0, y1), slice(x0, x1)


_DEGREES = r"(\d+(?:\.\d+)?)"
_BOX = re.compile(rf"{_DEGREES}([NS]):{_DEGREES}([NS]),{_DEGREES}([EW]):{_DEGREES}([EW])")


def _in_degrees(text: str, south: float, north: float, west: float, east: float) -> tuple[slice, slice]:
    """Return the smallest rectangle of the grid that contains a box in degrees, cut at the grid's edges."""
    if not (south < north and west < east):
        raise SettingsError(f"region {text!r} is empty", advice="write south:north,west:east, as 30N:37N,104W:94W")
    # In this projection a parallel is an arc: its middle lies further south than its ends.
    side = np.linspace(0, 1, 257)
    latitude = np.concatenate([south + 0 * side, north + 0 * side, *[south + (north - south) * side] * 2])
    longitude = np.concatenate([*[west + (east - west) * side] * 2, west + 0 * side, east + 0 * side])
    x, y = projection()(longitude, latitude)
    columns, rows = ((np.array(along) - origin) / SPACING for along, origin in zip((x, y), _origin(), strict=True))
    y0, y1 = max(0, math.floor(rows.min())), min(NY, math.ceil(rows.max()) + 1)
    x0, x1 = max(0, math.floor(columns.min())), min(NX, math.ceil(columns.max()) + 1)
    if y0 >= y1 or x0 >= x1:
        raise SettingsError(f"region {text!r} is off the HRRR grid", advice="choose a box over the United States")
    return slice(y0, y1), slice(x0, x1)
