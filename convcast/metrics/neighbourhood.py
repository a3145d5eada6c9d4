"""Events anywhere within a neighbourhood, and smoothed neighbourhood probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from convcast.metrics.compiled import compiled

RADIUS = 13
"""Radius in cells of the neighbourhood of NCEP's maximum probabilities (NMEP), 39 km."""
SIGMA = 5.0
"""Width in cells of the Gaussian by which NCEP smooths neighbourhood probabilities."""


def happens_near(event: NDArray[np.bool_], radius: int, *, step: int = 1) -> NDArray[np.bool_]:
    """Maximum of an event (y, x) over a disk of `radius` cells around each point.

    The result holds every point, or each `step`-th row and column.
    """
    half = np.array([int(np.sqrt(radius**2 - offset**2)) for offset in range(radius + 1)])
    near: NDArray[np.bool_] = _in_disk(np.ascontiguousarray(event), half, step)
    return near


@compiled
def _in_disk(event: NDArray[np.bool_], half: NDArray[np.int64], step: int) -> NDArray[np.bool_]:  # pragma: no cover
    """`half` is the half-width of the disk by distance of the row from its middle.

    Running counts along rows tell in two reads whether a stretch of any length holds an event.
    """
    ny, nx = event.shape
    radius = len(half) - 1
    near = np.zeros(((ny + step - 1) // step, (nx + step - 1) // step), np.bool_)
    counts = np.zeros((ny, nx + 2 * radius + 1), np.int32)
    for y in range(ny):
        for x in range(nx):
            counts[y, x + radius + 1] = counts[y, x + radius] + event[y, x]
        for x in range(nx + radius + 1, nx + 2 * radius + 1):
            counts[y, x] = counts[y, nx + radius]
    for y in range(0, ny, step):
        for row in range(max(0, y - radius), min(ny, y + radius + 1)):
            if counts[row, nx + radius] == 0:
                continue
            w = half[abs(row - y)]
            first = counts[row, radius - w : radius - w + nx]
            last = counts[row, radius + w + 1 : radius + w + 1 + nx]
            points = near[y // step]
            if step == 1:
                for x in range(nx):
                    points[x] |= last[x] > first[x]
            else:
                for x in range(points.size):
                    points[x] |= last[x * step] > first[x * step]
    return near


def smoothed(probability: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Smooth a probability (y, x) by a Gaussian of SIGMA cells, cut off `window` cells to each side."""
    return np.asarray(gaussian_filter(probability, SIGMA, radius=window, mode="nearest"), float)


def far_from_missing(present: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """Points (y, x) that are farther than `reach` cells from any missing point and from the edge."""
    distance = distance_transform_edt(np.pad(present, 1))[1:-1, 1:-1]
    return np.asarray(distance > reach)
