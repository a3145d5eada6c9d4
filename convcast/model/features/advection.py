"""Semi-Lagrangian advection and smoothing of tensors (row, channel, y, x), on a torus or with repeated edge values."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from convcast.dataset.cases.motion import REFINEMENTS

PIECES = 3
"""Number of pieces in which the path of air is followed; more are no better in the simulated world."""


def advect(fields: Tensor, displacement: Tensor, *, periodic: bool) -> Tensor:
    """Advect `fields` by one semi-Lagrangian step with bilinear interpolation.

    Args:
        fields: (row, channel, y, x).
        displacement: Displacement in cells along y and x at each point, (row, 2, y, x).
        periodic: Whether the domain is a torus; otherwise edge values are repeated.
    """
    return upstream(fields, travelled(displacement, periodic=periodic), periodic=periodic)


def travelled(displacement: Tensor, *, periodic: bool) -> Tensor:
    """Return the displacement from the point of departure to each point, by the motion half-way along the path.

    Args:
        displacement: Displacement in cells along y and x at each point, (row, 2, y, x).
        periodic: Whether the domain is a torus; otherwise edge values are repeated.
    """
    moved = displacement
    for _ in range(REFINEMENTS):
        moved = (moved + upstream(displacement, moved, periodic=periodic)) / 2
    return moved


def distance_outside(displacement: Tensor, *, periodic: bool) -> Tensor:
    """Return the distance, cells, by which the points of departure lie outside the domain, (row, 1, y, x).

    Args:
        displacement: Displacement from the point of departure to each point, cells along y and x, (row, 2, y, x).
        periodic: Whether the domain is a torus, which has no outside.
    """
    if periodic:
        return torch.zeros_like(displacement[:, :1])
    distances = []
    for axis, length in enumerate(displacement.shape[-2:]):
        positions = torch.arange(length, device=displacement.device).view(-1, *[1] * (1 - axis))
        departure = positions - displacement[:, axis]
        distances.append(torch.relu(-departure) + torch.relu(departure - (length - 1)))
    return torch.stack(distances, dim=1).amax(dim=1, keepdim=True)


def path(wind: Tensor, motion: Tensor, *, periodic: bool) -> Tensor:
    """Compute the displacement of the air that arrives at each point, in a wind field that itself moves.

    At any time, the wind at a point is that of the last frame, moved by `motion` up to this time. The path is followed
    back from its end in PIECES pieces.

    Args:
        wind: Displacement by the wind of the last frame over the lead, cells along y and x, (row, 2, y, x).
        motion: Displacement of the pattern over the lead, cells, (row, 2, y, x).
        periodic: Whether the domain is a torus; otherwise edge values are repeated.

    Returns:
        Displacement from the point of departure to each point, cells, (row, 2, y, x).
    """
    moved, velocity = torch.zeros_like(wind), motion
    for piece in range(PIECES):
        elapsed = 1 - (piece + 0.5) / PIECES
        middle = moved + velocity / (2 * PIECES)
        velocity = upstream(wind, middle + motion * elapsed, periodic=periodic)
        moved = moved + velocity / PIECES
    return moved


def upstream(fields: Tensor, displacement: Tensor, *, periodic: bool) -> Tensor:
    """Interpolate `fields` (row, channel, y, x) bilinearly at the points that lie `displacement` cells upstream.

    Args:
        fields: Fields, (row, channel, y, x).
        displacement: Displacement along y and x, cells, (row, 2, y, x).
        periodic: Whether the domain is a torus; otherwise edge values are repeated.
    """
    ny, nx = fields.shape[-2:]
    y = torch.arange(ny, device=fields.device)[:, None].expand(ny, nx)
    x = torch.arange(nx, device=fields.device)[None, :].expand(ny, nx)
    row, column = y - displacement[:, 0], x - displacement[:, 1]
    if periodic:
        # One more row and column, so that a point between the last cell and the first has two neighbours.
        fields = functional.pad(fields, (0, 1, 0, 1), mode="circular")
        row, column = row.remainder(ny), column.remainder(nx)
    height, width = fields.shape[-2:]
    grid = torch.stack([2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1], dim=-1)
    return functional.grid_sample(fields, grid, mode="bilinear", padding_mode="border", align_corners=True)


def smooth(fields: Tensor, width: int, *, periodic: bool) -> Tensor:
    """Average twice over `width`² cells, nearly a Gaussian filter of standard deviation √((width² - 1) / 6).

    `width` is odd. On a torus it is at most the largest odd number of cells on a side.

    Args:
        fields: Fields, (row, channel, y, x).
        width: Side of the squares, cells.
        periodic: Whether the domain is a torus; otherwise edge values are repeated.
    """
    for axis in (-1, -2, -1, -2):
        fields = _box(fields, width, axis, periodic=periodic)
    return fields


def _box(fields: Tensor, width: int, axis: int, *, periodic: bool) -> Tensor:
    """Average over `width` cells along an axis, by sums over 1, 2, 4, … cells: a tenth of the time of pooling."""
    size = fields.shape[axis]
    width = min(width, size - 1 + size % 2) if periodic else width
    margin = width // 2
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
