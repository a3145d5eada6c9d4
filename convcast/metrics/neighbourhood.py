"""Events anywhere within a neighbourhood, and smoothed neighbourhood probabilities."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from convcast.metrics.compiled import compiled
from convcast.metrics.kernels import Counts, count_members

Events = TypeVar("Events", np.bool_, np.uint32)
RADIUS = 13
"""Radius in cells of the neighbourhood of NCEP's maximum probabilities (NMEP), 39 km."""
SIGMA = 5.0
"""Width in cells of the Gaussian by which NCEP smooths neighbourhood probabilities."""


def happens_near(events: NDArray[Events], radius: float, *, step: int = 1) -> NDArray[Events]:
    """Combine the events (y, x) in a disk of `radius` cells around each point.

    Events are booleans, or integers each bit of which is an event of its own. The result holds every point, or each
    `step`-th row and column.
    """
    half = np.array([int(np.sqrt(radius**2 - offset**2)) for offset in range(int(radius) + 1)])
    near: NDArray[Events] = _in_disk(np.ascontiguousarray(events), half, step)
    return near


def count_near(packed: NDArray[np.uint32], radius: float) -> Counts:
    """Count the members with an event within `radius` cells of each point: one bit a member, (word, y, x) to (y, x)."""
    return count_members(np.stack([happens_near(words, radius) for words in packed]))


@compiled
def _in_disk(events: NDArray[Events], half: NDArray[np.int64], step: int) -> NDArray[Events]:  # pragma: no cover
    """Combine events in disks, row by row; `half` is the half-width of the disk by the row's distance from its middle.

    Any stretch of a row is the union of two stretches with a power of 2 as length, and each of those is the union of
    two stretches of half its length.
    """
    ny, nx = events.shape
    radius = len(half) - 1
    near = np.zeros(((ny + step - 1) // step, (nx + step - 1) // step), events.dtype)
    level = np.zeros(len(half), np.int64)  # the largest power of 2 within a stretch
    for offset in range(len(half)):
        while 2 << level[offset] <= 2 * half[offset] + 1:
            level[offset] += 1
    runs = np.zeros((level[0] + 1, nx + 2 * radius + (2 << level[0])), events.dtype)
    for row in range(ny):
        if not events[row].any():
            continue
        runs[0, radius : radius + nx] = events[row]
        for k in range(1, level[0] + 1):
            size = runs.shape[1] - (1 << (k - 1))
            longer, one, other = runs[k], runs[k - 1, :size], runs[k - 1, runs.shape[1] - size :]
            for x in range(size):
                longer[x] = one[x] | other[x]
        for y in range(-(-max(0, row - radius) // step) * step, min(ny, row + radius + 1), step):
            w, k = half[abs(row - y)], level[abs(row - y)]
            first, last = runs[k, radius - w :], runs[k, radius + w + 1 - (1 << k) :]
            points = near[y // step]
            if step == 1:
                for x in range(nx):
                    points[x] |= first[x] | last[x]
            else:
                for x in range(points.size):
                    points[x] |= first[x * step] | last[x * step]
    return near


def box_means(
    field: NDArray[np.float64], width: int, *, periodic: bool, box: tuple[slice, slice] = (slice(None), slice(None))
) -> NDArray[np.float64]:
    """Compute the means of a field (y, x) over squares of an odd `width` around each point, or each point of a `box`.

    Zeros lie around the field, unless it is periodic.
    """
    if width == 1:
        return field[box]
    edges = [each.indices(size)[:2] for each, size in zip(box, field.shape, strict=True)]
    means: NDArray[np.float64] = _box_means(np.ascontiguousarray(field), width, periodic, *edges)
    return means


@compiled
def _box_means(field, width, periodic, rows, columns):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  # pragma: no cover
    """Compute the means by running sums, which gain one point and lose another at each step; columns first, then rows.

    The result is that of scipy's uniform_filter bit for bit, in less time than it takes for one axis.
    """
    ny, nx = field.shape
    reach = width // 2
    means = np.empty((max(0, rows[1] - rows[0]), max(0, columns[1] - columns[0])))
    total, none = np.zeros(nx), np.zeros(nx)
    row, sums, around = np.zeros(nx), np.zeros(nx), np.zeros(nx + 2 * reach)
    for y in range(-reach, reach):
        if periodic or 0 <= y < ny:
            total += field[y % ny]
    for y in range(min(ny, rows[1])):
        come, gone = y + reach, y - reach - 1
        new = field[come % ny] if periodic or come < ny else none
        old = field[gone % ny] if (periodic or gone >= 0) and y > 0 else none
        for x in range(nx):
            total[x] += new[x] - old[x]
            row[x] = total[x] / width
        if y < rows[0]:
            continue
        around[reach : reach + nx] = row
        if periodic:
            for x in range(reach):
                around[x], around[reach + nx + x] = row[(x - reach) % nx], row[x % nx]
        inner = 0.0
        for x in range(2 * reach):
            inner += around[x]
        for x in range(min(nx, columns[1])):
            inner += around[x + 2 * reach] - (around[x - 1] if x > 0 else 0.0)
            sums[x] = inner
        for x in range(columns[0], columns[1]):  # in a loop of its own, which the compiler vectorises
            means[y - rows[0], x - columns[0]] = sums[x] / width
    return means


def smoothed(probability: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Smooth a probability (y, x) by a Gaussian of SIGMA cells, cut off `window` cells to each side."""
    return np.asarray(gaussian_filter(probability, SIGMA, radius=window, mode="nearest"), float)


def far_from_missing(present: NDArray[np.bool_], reach: float, *, step: int = 1) -> NDArray[np.bool_]:
    """Return the points (y, x) that are farther than `reach` cells from any missing point and from the edge.

    The result holds every point, or each `step`-th row and column.

    Args:
        present: Whether each point has a value, (y, x).
        reach: Distance, cells.
        step: Interval between the rows and columns of the result.
    """
    missing = np.pad(~present, step, constant_values=True)
    return ~happens_near(missing, reach, step=step)[1:-1, 1:-1]
