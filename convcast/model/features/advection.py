"""Fields moved and smoothed on tensors: (row, channel, y, x), on a torus or with edges that repeat the last value."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

REFINEMENTS = 2
"""Fixed-point steps for the departure point: the wind on the way carries, not the wind at the end."""


def advect(fields: Tensor, displacement: Tensor, *, periodic: bool) -> Tensor:
    """`fields` with each cell's value taken from upstream of it (semi-Lagrangian, bilinear).

    `displacement` (row, 2, y, x) is in cells along y and x, and differs from place to place.
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
    """The mean over `width` x `width` cells, twice: nearly a Gaussian of standard deviation √((width² - 1) / 6)."""
    margin = width // 2
    for _ in range(2):
        padded = functional.pad(fields, (margin,) * 4, mode="circular" if periodic else "replicate")
        fields = functional.avg_pool2d(padded, width, stride=1)
    return fields
