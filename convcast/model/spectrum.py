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


def band_moments(fields: Tensor, *, periodic: bool) -> Tensor:
    """Mean products of each two of `bands`, (row, channel, band, band)."""
    parts = torch.stack(bands(fields, periodic=periodic), dim=2).flatten(3)
    return parts @ parts.transpose(-1, -2) / parts.shape[-1]


def _white() -> NDArray[np.float64]:
    """Of unit white noise: the products of the bands' weights, summed."""
    side = 4 * sum(SPACINGS)
    impulse = torch.zeros(1, 1, side, side, dtype=torch.float64)
    impulse[..., side // 2, side // 2] = side**2
    return band_moments(impulse / side, periodic=True)[0, 0].numpy()


@dataclass(frozen=True)
class Spectrum:
    """`moments` (variable, band, band) of departures of variance 1, as `band_moments`."""

    moments: NDArray[np.float64]

    def gains(self, signal: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of each band of x = a x_0 + b ε in what is to be expected of v = a ε - b x_0: (step, variable, band).

        By linear least squares, for each a of `signal` and b of `noise` (step,): with the moments Q of x_0 and W of
        white noise, (a² Q + b² W) g = a b (W - Q) 1. Where x_0 is white, 0: nothing linear can tell it from noise.
        """
        a, b = (values[:, None, None, None] for values in (signal, noise))
        both = a**2 * self.moments + b**2 * WHITE.moments
        wanted = a * b * (WHITE.moments - self.moments).sum(axis=-1, keepdims=True)
        return np.linalg.solve(both, wanted)[..., 0]


WHITE = Spectrum(_white()[None])
