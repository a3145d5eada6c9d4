"""Which scales a departure's variance is at, and what that alone tells of the noise in it.

The denoiser of least squared error that is linear and knows nothing but a spectrum (Wiener 1949): what a smooth field
has at its finest scales is noise, nearly all of it, long before a network has learnt to say so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SPACINGS = (1, 2, 4, 8)
"""Cells between the points that each smoothing of `bands` averages."""
BANDS = len(SPACINGS) + 1


def bands(fields: Tensor, *, periodic: bool) -> list[Tensor]:
    """Parts of `fields` (row, channel, y, x) by scale, the finest first, which add up to them.

    The isotropic undecimated wavelet transform (Starck et al. 2007, IEEE Trans. Image Process. 16, 297) with weights
    (1, 2, 1) / 4: what each smoothing takes away, and what the last one leaves.
    """
    parts, left = [], fields
    for spacing in SPACINGS:
        smoothed = _smooth(left, spacing, periodic=periodic)
        parts.append(left - smoothed)
        left = smoothed
    return [*parts, left]


def _smooth(x: Tensor, spacing: int, *, periodic: bool) -> Tensor:
    """Averaged with the points so many cells up, down, left and right; beyond an edge, with the edge's own value."""
    x = functional.pad(x, (spacing,) * 4, mode="circular" if periodic else "replicate")
    x = (x[..., : -2 * spacing, :] + 2 * x[..., spacing:-spacing, :] + x[..., 2 * spacing :, :]) / 4
    return (x[..., : -2 * spacing] + 2 * x[..., spacing:-spacing] + x[..., 2 * spacing :]) / 4


def band_power(fields: Tensor, *, periodic: bool) -> Tensor:
    """Mean square of each of `bands`, (row, channel, band), in units of what white noise of variance 1 has there."""
    found = [part.square().mean(dim=(2, 3)) for part in bands(fields, periodic=periodic)]
    return torch.stack(found, dim=-1) / _white()


def _white() -> Tensor:
    """Variance of unit white noise in each band: the sum of the squares of its weights."""
    side = 4 * sum(SPACINGS)
    impulse = torch.zeros(1, 1, side, side)
    impulse[..., side // 2, side // 2] = 1
    return torch.stack([part.square().sum() for part in bands(impulse, periodic=True)])


@dataclass(frozen=True)
class Spectrum:
    """`power` (variable, band), float64: of departures of variance 1, as `band_power`; 1 everywhere of white noise."""

    power: NDArray[np.float64]

    def velocity(self, x: Tensor, signal: Tensor, noise: Tensor, *, periodic: bool) -> Tensor:
        """What is to be expected of v = a ε - b x_0 (row, variable, y, x), given `x` = a x_0 + b ε.

        a is the `signal`, b the `noise`, (row, 1, 1, 1). Band by band, as if bands were independent: where x_0 has q
        times the variance of white noise, it is x's part times cov(v, x) / var(x) = a b (1 - q) / (a² q + b²). Nothing
        where x_0 is white, which no linear denoiser can tell from noise.
        """
        power = torch.from_numpy(self.power).float().to(x.device)
        expected = torch.zeros_like(x)
        for q, part in zip(power.T[:, None, :, None, None], bands(x, periodic=periodic), strict=True):
            expected = expected + signal * noise * (1 - q) / (signal**2 * q + noise**2) * part
        return expected


WHITE = Spectrum(np.ones((1, BANDS)))
