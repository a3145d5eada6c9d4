"""Semi-Lagrangian advection on a torus, with a displacement for each cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def advect(fields: Sequence[Array], x: Array, y: Array) -> list[Array]:
    """Advect fields by (`x`, `y`) cells: each cell takes the value upstream of it.

    The interpolation is cubic along x, then along y, which uses 8 neighbours instead of a bicubic stencil's 16 and is
    as accurate, since the step is short. Linear interpolation would smooth storms away within hours.

    Args:
        fields: Fields, each (member, ny, nx).
        x: Displacement towards larger column indices, in cells, (member, ny, nx).
        y: Displacement towards larger row indices, in cells, (member, ny, nx).

    Returns:
        The advected fields, each (member, ny, nx).
    """
    member, ny, nx = x.shape
    rows = np.arange(member * ny).reshape(member, ny, 1) * nx
    neighbours, weights = _stencil(np.arange(nx) - x, nx)
    along_x = [rows + neighbour for neighbour in neighbours]
    fields = [_weighted(field, along_x, weights) for field in fields]

    columns = np.arange(member).reshape(member, 1, 1) * (ny * nx) + np.arange(nx)
    neighbours, weights = _stencil(np.arange(ny)[:, None] - y, ny)
    along_y = [columns + neighbour * nx for neighbour in neighbours]
    return [_weighted(field, along_y, weights) for field in fields]


def _stencil(position: Array, n: int) -> tuple[list[NDArray[np.intp]], list[Array]]:
    """Return the four neighbours of each position on a periodic axis of `n` cells, and their Lagrange weights."""
    below = np.floor(position)
    f = position - below
    first = below.astype(np.intp) - 1
    neighbours = [(first + offset) % n for offset in range(4)]
    g = 1 - f
    inner, outer = (1 + f) * (1 + g) / 2, f * g / 6
    return neighbours, [-outer * (1 + g), g * inner, f * inner, -outer * (1 + f)]


def _weighted(field: Array, indices: Sequence[NDArray[np.intp]], weights: Sequence[Array]) -> Array:
    """Return the weighted sum of the field's values at flat indices."""
    flat = np.ascontiguousarray(field).ravel()
    total: Array = flat.take(indices[0]) * weights[0]
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        total += flat.take(index) * weight
    return total
