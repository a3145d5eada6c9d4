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
    margin = width // 2
    for _ in range(2):
        for pad, kernel in (((0, 0, margin, margin), (width, 1)), ((margin, margin, 0, 0), (1, width))):
            padded = functional.pad(fields, pad, mode="circular" if periodic else "replicate")
            fields = functional.avg_pool2d(padded, kernel, stride=1)
    return fields
