"""Storms as objects: contiguous areas of strong echo, with their centres and sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from convcast.grid import SPACING

STRONG = 40.0
"""Reflectivity of a storm, dBZ."""
SMALLEST = 12
"""Minimum size of a storm, cells: 108 km2."""
REACH = 40.0
"""Maximum distance between the centres of storms that match, km."""
SIZES = (12, 24, 48, 96, 192)
"""Lower bounds of the classes of size, cells; the last class has no end."""
_NEIGHBOURS = np.ones((3, 3), int)


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
        """Whether each storm has one of the others within REACH, (storm,)."""
        if not len(self) or not len(others):
            return np.zeros(len(self), bool)
        apart = np.abs(self.centres[:, None] - others.centres)
        if self.periodic:
            apart = np.minimum(apart, np.array(self.shape) - apart)
        distance = np.hypot(apart[..., 0], apart[..., 1]) * SPACING / 1000
        return np.asarray((distance <= REACH).any(1))

    def by_size(self) -> NDArray[np.float64]:
        """Number of storms in each class of SIZES."""
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
    labels, count = label(strong, structure=_NEIGHBOURS)
    rows, columns = np.nonzero(labels)
    names = labels[rows, columns]
    if periodic and count:
        names = _joined(labels, count)[names]
    _, storm = np.unique(names, return_inverse=True)
    sizes = np.bincount(storm) if storm.size else np.zeros(0, np.int64)
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
    """Mean row or column of each storm; on a circle where the domain has no edge."""
    if not periodic:
        return np.bincount(storm, at, minlength=len(sizes)) / np.maximum(sizes, 1)
    angle = 2 * np.pi * at / extent
    east, north = (np.bincount(storm, part, minlength=len(sizes)) for part in (np.cos(angle), np.sin(angle)))
    return np.arctan2(north, east) % (2 * np.pi) * extent / (2 * np.pi)


def _joined(labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """The name of each area once those that touch across an edge have the same, (count + 1,)."""
    names = np.arange(count + 1)

    def root(name: int) -> int:
        while names[name] != name:
            name = int(names[name])
        return name

    ny, nx = labels.shape
    pairs = [((0, i), (ny - 1, (i + d) % nx)) for i in range(nx) for d in (-1, 0, 1)]
    pairs += [((i, 0), ((i + d) % ny, nx - 1)) for i in range(ny) for d in (-1, 0, 1)]
    for one, other in pairs:
        if labels[one] and labels[other]:
            low, high = sorted((root(int(labels[one])), root(int(labels[other]))))
            names[high] = low
    return np.array([root(name) for name in range(count + 1)])
