"""Storms as objects: contiguous areas of strong echo, with their centres and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from convcast.grid import SPACING
from convcast.metrics.compiled import compiled

STRONG = 40.0
"""Reflectivity of a storm, dBZ."""
SMALLEST = 12
"""Minimum size of a storm, cells: 108 km2."""
REACH = 40.0
"""Maximum distance between the centres of storms that match, km."""
SIZES = (12, 24, 48, 96, 192)
"""Lower bounds of the classes of size, cells; the last class has no end."""


@dataclass(frozen=True)
class Storms:
    """Storms of one field."""

    centres: NDArray[np.float64]
    """Row and column of each storm's centre, (storm, 2)."""
    sizes: NDArray[np.int64]
    """Cells, (storm,)."""
    shape: tuple[int, int]
    periodic: bool

    def __len__(self) -> int:
        """Return the number of storms."""
        return len(self.sizes)

    def near(self, others: Storms) -> NDArray[np.bool_]:
        """Return whether each storm has one of the others within REACH, (storm,)."""
        if not len(self) or not len(others):
            return np.zeros(len(self), bool)
        nearest, _ = others._tree.query(self.centres)
        return np.asarray(nearest * SPACING / 1000 <= REACH)

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.centres, boxsize=self.shape if self.periodic else None)

    def by_size(self) -> NDArray[np.float64]:
        """Return the number of storms in each class of SIZES."""
        classes = np.searchsorted(SIZES, self.sizes, side="right") - 1
        return np.bincount(classes, minlength=len(SIZES)).astype(np.float64)


def find_storms(strong: NDArray[np.bool_], *, periodic: bool) -> Storms:
    """Find the storms of a field.

    Args:
        strong: Whether the echo is STRONG, (y, x).
        periodic: Whether storms go on across the edges.

    Returns:
        Areas of cells that touch at sides or corners, of at least SMALLEST cells.
    """
    rows, columns = np.divmod(np.flatnonzero(strong), strong.shape[1])
    storm = _areas(strong, periodic)
    sizes = np.bincount(storm)
    centres = np.stack(
        [
            _centres(at, storm, sizes, extent, periodic)
            for at, extent in zip((rows, columns), strong.shape, strict=True)
        ],
        axis=1,
    )
    large = sizes >= SMALLEST
    shape = (int(strong.shape[0]), int(strong.shape[1]))
    return Storms(centres[large], sizes[large], shape, periodic)


def _centres(
    at: NDArray[np.int64], storm: NDArray[np.int64], sizes: NDArray[np.int64], extent: int, periodic: bool
) -> NDArray[np.float64]:
    """Return the mean row or column of each storm, computed on a circle if the domain is periodic."""
    if not periodic:
        return np.bincount(storm, at, minlength=len(sizes)) / np.maximum(sizes, 1)
    angle = 2 * np.pi * at / extent
    east, north = (np.bincount(storm, part, minlength=len(sizes)) for part in (np.cos(angle), np.sin(angle)))
    # The second remainder turns n, from an angle that rounds to a whole turn, into 0.
    return np.arctan2(north, east) % (2 * np.pi) * extent / (2 * np.pi) % extent


@compiled
def _areas(strong, periodic):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  # pragma: no cover
    """Number the areas of touching cells; return the area of each strong cell, in the order of rows and columns.

    scipy.ndimage.label takes four times as long on a large domain with few strong cells, and has no periodic domain.
    """
    ny, nx = strong.shape
    areas = np.zeros(np.count_nonzero(strong), np.int64)
    joined = np.zeros(areas.size, np.int64)  # for each number, a lower number of the same area, or itself
    top, above, row = np.full((3, nx), -1, np.int64)
    count, at = 0, 0
    for y in range(ny):
        row[:] = -1
        for x in range(nx):
            if not strong[y, x]:
                continue
            joined[count] = count
            area = count
            for other_x in (x - 1, x, x + 1):
                if periodic or 0 <= other_x < nx:
                    area = _join(joined, area, above[other_x % nx])
            area = _join(joined, area, row[x - 1] if x > 0 else -1)
            if periodic and x == nx - 1:
                area = _join(joined, area, row[0])
            count += area == count
            row[x] = areas[at] = area
            at += 1
        if y == 0:
            top[:] = row
        above, row = row, above
    if periodic:
        for x in range(nx):
            if above[x] >= 0:
                for other_x in (x - 1, x, x + 1):
                    _join(joined, above[x], top[other_x % nx])
    numbers = np.zeros(count, np.int64)
    last = 0
    for area in range(count):
        if joined[area] == area:
            numbers[area] = last
            last += 1
        else:
            numbers[area] = numbers[joined[area]]
    return numbers[areas]


@compiled
def _join(joined, one, other):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  # pragma: no cover
    """Join two areas under the lower of their numbers, and return it; nothing is joined if `other` is negative."""
    while joined[one] != one:
        one = joined[one]
    if other < 0:
        return one
    while joined[other] != other:
        other = joined[other]
    low, high = min(one, other), max(one, other)
    joined[high] = low
    return low
