"""Semi-Lagrangian advection and smoothing of tensors (row, channel, y, x), on a torus or with repeated edge values."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from convcast.dataset.motion import REFINEMENTS


def advect(fields: Tensor, displacement: Tensor, *, periodic: bool) -> Tensor:
    """Advect `fields` by one semi-Lagrangian step with bilinear interpolation.

    Args:
        fields: (row, channel, y, x).
        displacement: Displacement in cells along y and x at each point, (row, 2, y, x).
        periodic: Whether the domain is a torus; otherwise edge values are repeated.
    """
    ny, nx = fields.shape[-2:]
    if periodic:
        # One more row and column, so that a point between the last cell and the first has two neighbours.
        fields, displacement = (functional.pad(part, (0, 1, 0, 1), mode="circular") for part in (fields, displacement))
    y = torch.arange(ny, device=fields.device)[:, None].expand(ny, nx)
    x = torch.arange(nx, device=fields.device)[None, :].expand(ny, nx)

    def upstream(source: Tensor, moved: Tensor) -> Tensor:
        row, column = y - moved[:, 0], x - moved[:, 1]
        if periodic:
            row, column = row.remainder(ny), column.remainder(nx)
        height, width = source.shape[-2:]
        grid = torch.stack([2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1], dim=-1)
        return functional.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=True)

    moved = displacement[:, :, :ny, :nx]
    for _ in range(REFINEMENTS):
        moved = (moved + upstream(displacement, moved)) / 2
    return upstream(fields, moved)


def smooth(fields: Tensor, width: int, *, periodic: bool) -> Tensor:
    """Average twice over `width`² cells, nearly a Gaussian filter of standard deviation √((width² - 1) / 6)."""
    for axis in (-1, -2, -1, -2):
        fields = _box(fields, width, axis, periodic=periodic)
    return fields


def _box(fields: Tensor, width: int, axis: int, *, periodic: bool) -> Tensor:
    """Average over `width` (odd) cells along an axis, by sums over 1, 2, 4, … cells: a tenth of the time of pooling."""
    margin, size = width // 2, fields.shape[axis]
    margins = (margin, margin, 0, 0) if axis == -1 else (0, 0, margin, margin)
    sums = functional.pad(fields, margins, mode="circular" if periodic else "replicate")
    total, covered, length = sums.narrow(axis, 0, size), 1, 1
    while 2 * length <= width:
        rest = sums.shape[axis] - length
        sums = sums.narrow(axis, 0, rest) + sums.narrow(axis, length, rest)
        length *= 2
        if width & length:
            total = total + sums.narrow(axis, covered, size)
            covered += length
    return total / width
