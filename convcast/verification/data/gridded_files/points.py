"""Coordinates of the grid points of a field, and the points that two fields share.

Ensembles of other programs may cover another rectangle, have rows from north to south, or give only latitude and
longitude. Only identical points are compared.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from convcast.errors import DamagedFileError
from convcast.grid import CONUS, SPACING, Grid, locate, spatial_reference

Floats = NDArray[np.float64]
Box = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Indices of the selected rows and columns, in order."""

TOLERANCE = 0.05
"""Fraction of the grid spacing below which two points count as the same."""
ANGLE = 2e-3
"""Difference of latitude or longitude, degrees, below which two points count as the same."""
_METRES = {"m": 1.0, "metre": 1.0, "meter": 1.0, "metres": 1.0, "meters": 1.0, "km": 1000.0, "kilometer": 1000.0}


@dataclass(frozen=True, eq=False)
class Points:
    """Coordinates of a rectangle of grid points."""

    shape: tuple[int, int]
    """Number of rows and of columns."""
    y: Floats | None
    """Coordinate of the rows, in `unit`; None where only `angles` are known."""
    x: Floats | None
    """Coordinate of the columns, in `unit`; None where only `angles` are known."""
    angles: tuple[Floats, Floats] | None
    """Latitude and longitude of every point, degrees, each (y, x), where they are known."""
    unit: str
    """Unit of `y` and `x`: m (of a projection) or degrees."""
    grid: Grid | None
    """The same rectangle of the HRRR grid, where it is one."""

    @classmethod
    def of_grid(cls, grid: Grid) -> Points:
        """Return the points of a rectangle of the HRRR grid."""
        return cls(grid.shape, grid.y, grid.x, None, "m", grid)

    def crop(self, box: Box) -> Points:
        """Return the points in these rows and columns."""
        rows, columns = box
        part = [np.ix_(rows, columns)]
        return Points(
            (len(rows), len(columns)),
            None if self.y is None else self.y[rows],
            None if self.x is None else self.x[columns],
            None if self.angles is None else (self.angles[0][part[0]], self.angles[1][part[0]]),
            self.unit,
            _crop_grid(self.grid, rows, columns),
        )

    @cached_property
    def latitude_longitude(self) -> tuple[Floats, Floats] | None:
        """Latitude and longitude of every point, degrees, each (y, x); None where they are unknown."""
        if self.angles is not None:
            return self.angles
        if self.grid is not None:
            return self.grid.latitude_longitude()
        if self.unit == "degrees" and self.y is not None and self.x is not None:
            longitude, latitude = np.meshgrid(self.x, self.y)
            return latitude, longitude
        return None

    @property
    def rows(self) -> Floats:
        """Coordinate of the rows, or their index where there is none."""
        return np.arange(self.shape[0], dtype=float) if self.y is None else self.y

    @property
    def columns(self) -> Floats:
        """Coordinate of the columns, or their index where there is none."""
        return np.arange(self.shape[1], dtype=float) if self.x is None else self.x

    @property
    def fingerprint(self) -> str:
        """Hash of the coordinates."""
        digest = hashlib.blake2b(repr(self.shape).encode(), digest_size=8)
        for values in (self.y, self.x, *(self.angles or ())):
            if values is not None:
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    @property
    def axes(self) -> tuple[Floats, Floats, str]:
        """Coordinates of rows and columns for the axes of a map, and their unit: km, degrees or points."""
        if self.y is None or self.x is None:
            return self.rows, self.columns, "points"
        if self.unit == "degrees":
            return self.y, self.x, "degrees"
        return (self.y - self.y.min()) / 1000, (self.x - self.x.min()) / 1000, "km"


def read_points(data: xr.Dataset, path: Path) -> Points:
    """Read the coordinates of a dataset with dimensions y and x.

    Args:
        data: Dataset with convcast's names of dimensions.
        path: File it was read from, for error messages.

    Raises:
        DamagedFileError: The coordinates are missing or in an unknown unit.
    """
    shape = data.sizes["y"], data.sizes["x"]
    angles = _angles(data)
    y, x = (data[name] if name in data.coords and data[name].ndim == 1 else None for name in ("y", "x"))
    if y is None or x is None:
        if angles is None:
            raise DamagedFileError(
                f"{path} has no coordinates of its points: neither y and x, nor latitude and longitude",
                advice="add them, as the CF conventions describe",
            )
        return _from_angles(angles, shape)
    units = str(y.attrs.get("units", "m"))
    if units.startswith("degree") or "latitude" in str(y.attrs.get("standard_name", "")):
        longitude = (np.asarray(x.values, float) + 180) % 360 - 180
        return Points(shape, np.asarray(y.values, float), longitude, None, "degrees", None)
    if units not in _METRES:
        raise DamagedFileError(f"{path} has y in {units}, not in m", advice="give y and x in metres or degrees")
    rows, columns = (np.asarray(one.values, float) * _METRES[units] for one in (y, x))
    grid = None
    if _is_hrrr(data):
        grid = _from_axes(rows, columns, periodic=str(data.attrs.get("simulated", 0)) in ("1", "True"))
    return Points(shape, rows, columns, angles, "m", grid)


def shared(one: Points, other: Points) -> tuple[Box, Box] | None:
    """Return, for each of the two, the rows and columns of the points that both have; None if they do not overlap.

    Raises:
        DamagedFileError: Both cover the same area with different points, or cannot be compared.
    """
    if one.unit == other.unit and one.axes[2] == other.axes[2] != "points":
        rows, columns = _same(one.rows, other.rows), _same(one.columns, other.columns)
        if all(len(axis[0]) for axis in (rows, columns)):
            boxes = (rows[0], columns[0]), (rows[1], columns[1])
            if not _agree(one, other, boxes):
                raise DamagedFileError("the two have different projections")
            return boxes
        if _apart(one.rows, other.rows) or _apart(one.columns, other.columns):
            return None
        raise DamagedFileError("the two cover the same area with different points")
    mine, theirs = one.latitude_longitude, other.latitude_longitude
    if mine is None or theirs is None:
        raise DamagedFileError("only one of the two has latitude and longitude")
    if one.shape == other.shape and all(map(_close, mine, theirs)):
        whole = np.arange(one.shape[0]), np.arange(one.shape[1])
        return whole, whole
    if _apart(mine[0], theirs[0]) or _apart(mine[1], theirs[1]):
        return None
    raise DamagedFileError("the two cover the same area with different points")


def _close(one: Floats, other: Floats) -> bool:
    """Return whether angles, degrees, are equal up to ANGLE, the rounding of files."""
    return np.allclose(one, other, rtol=0, atol=ANGLE)


def _same(one: Floats, other: Floats) -> Box:
    """Return the indices, in each array, of the values that both have within the tolerance, in the order of `other`."""
    order = np.argsort(one)
    spacing = min(np.abs(np.diff(a)).min() if a.size > 1 else np.inf for a in (one, other))
    tolerance = TOLERANCE * (spacing if np.isfinite(spacing) else SPACING)
    after = np.searchsorted(one[order], other - tolerance).clip(0, one.size - 1)
    equal = np.abs(one[order][after] - other) <= tolerance
    return order[after[equal]], np.flatnonzero(equal)


def _apart(one: Floats, other: Floats) -> bool:
    return bool(one.max() < other.min() or other.max() < one.min())


def _agree(one: Points, other: Points, boxes: tuple[Box, Box]) -> bool:
    """Return whether latitude and longitude of the corners agree, where both are known."""
    if one.angles is None or (other.angles is None and other.grid is None):
        return True
    mine, theirs = one.crop(boxes[0]), other.crop(boxes[1])
    corners = np.ix_([0, -1], [0, -1])
    assert mine.angles is not None
    if theirs.angles is not None:
        expected = theirs.angles[0][corners], theirs.angles[1][corners]
    else:
        assert theirs.grid is not None
        expected = _corner_angles(theirs.grid)
    return all(_close(angle[corners], other_angle) for angle, other_angle in zip(mine.angles, expected, strict=True))


def _corner_angles(grid: Grid) -> tuple[Floats, Floats]:
    from convcast.grid import projection

    x, y = (axis[:: max(1, len(axis) - 1)] for axis in (grid.x, grid.y))
    longitude, latitude = projection()(*np.meshgrid(x, y), inverse=True)
    return latitude, longitude


def _angles(data: xr.Dataset) -> tuple[Floats, Floats] | None:
    angles: dict[str, Any] = {}
    for name, variable in data.variables.items():
        standard = variable.attrs.get("standard_name", str(name))
        for angle, short in (("latitude", "lat"), ("longitude", "lon")):
            if standard in (angle, short) and set(variable.dims) == {"y", "x"}:
                angles[angle] = np.asarray(variable.transpose("y", "x").values, float)
    if len(angles) < 2:
        return None
    return angles["latitude"], (angles["longitude"] + 180) % 360 - 180


def _is_hrrr(data: xr.Dataset) -> bool:
    """Return whether a grid mapping of the dataset has the parameters of HRRR's projection."""
    expected = spatial_reference()
    for variable in data.variables.values():
        if "grid_mapping_name" in variable.attrs:
            return all(
                np.allclose(np.ravel(variable.attrs[name]).astype(float), float(value), atol=1e-3)
                if not isinstance(value, str)
                else variable.attrs[name] == value
                for name, value in expected.items()
                if name in variable.attrs
            )
    return False


def _from_axes(y: Floats, x: Floats, *, periodic: bool) -> Grid | None:
    rows, columns = (CONUS.y - y[0]) / SPACING, (CONUS.x - x[0]) / SPACING
    y0, x0 = int(np.abs(rows).argmin()), int(np.abs(columns).argmin())
    grid = Grid(len(y), len(x), y0, x0)
    if not CONUS.covers(grid) or not all(
        np.allclose(a, b, rtol=0, atol=TOLERANCE * SPACING) for a, b in ((grid.y, y), (grid.x, x))
    ):
        return None
    return Grid(len(y), len(x), y0, x0, periodic)


def _from_angles(angles: tuple[Floats, Floats], shape: tuple[int, int]) -> Points:
    """Return points given by latitude and longitude alone, with HRRR's coordinates if they are points of its grid."""
    for rows in (slice(None), slice(None, None, -1)):  # rows from the south, or from the north
        latitude, longitude = (angle[rows] for angle in angles)
        try:
            grid = locate(float(latitude[0, 0]), float(longitude[0, 0]), *shape)
        except DamagedFileError:
            continue
        theirs = (
            latitude[:: max(1, shape[0] - 1), :: max(1, shape[1] - 1)],
            longitude[:: max(1, shape[0] - 1), :: max(1, shape[1] - 1)],
        )
        if all(_close(one, other) for one, other in zip(theirs, _corner_angles(grid), strict=True)):
            return Points(shape, grid.y[rows], grid.x, angles, "m", grid if rows == slice(None) else None)
    return Points(shape, None, None, angles, "degrees", None)


def _crop_grid(grid: Grid | None, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Grid | None:
    if grid is None or not all(len(a) == 1 or np.array_equal(np.diff(a), np.ones(len(a) - 1)) for a in (rows, columns)):
        return None
    return grid.crop(slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
