"""Which scales the residuals' covariances are at, and what these alone tell of the noise in a residual.

The denoiser of least squared error that is linear and knows nothing but spectra and cross-spectra (Wiener 1949): what a
smooth field has at its finest scales is noise, nearly all of it, and what two fields that vary together do not share is
too, long before a network has learnt to say so.
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
HEAVY = 10.0
"""Kurtosis above which nothing linear is expected of a residual: it is nothing nearly everywhere and much in places,
so a variance of all places is right in none. Measured (docs/method.md): fields with 3 to 4 gain by the spectrum, and
reflectivity, with 15 to 21, lost more than half its spread in the first hundreds of training steps."""


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


def flat_bands(fields: Tensor, *, periodic: bool) -> Tensor:
    """`bands` of all channels, those of a channel together: (row, channel * band, point)."""
    return torch.stack(bands(fields, periodic=periodic), dim=2).flatten(1, 2).flatten(2)


def band_moments(fields: Tensor, *, periodic: bool) -> Tensor:
    """Mean products of each two of all channels' `bands`, (row, channel, band, channel, band)."""
    parts = flat_bands(fields, periodic=periodic)
    products = parts @ parts.transpose(-1, -2) / parts.shape[-1]
    return products.view(len(fields), -1, BANDS, fields.shape[1], BANDS)


@dataclass(frozen=True)
class Spectrum:
    """`moments` (variable, band, variable, band) of residuals of variance 1, as `band_moments`, and their `kurtosis`
    (variable,), 3 for all where it is not given.
    """

    moments: NDArray[np.float64]
    kurtosis: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        count = len(self.moments)
        if self.moments.shape != (count, BANDS, count, BANDS):
            raise ValueError(f"moments of shape {self.moments.shape}")
        if self.kurtosis is not None and self.kurtosis.shape != (count,):
            raise ValueError(f"a kurtosis of shape {self.kurtosis.shape}")

    @classmethod
    def independent(cls, moments: NDArray[np.float64]) -> Spectrum:
        """Of variables that have nothing to do with one another, from the `moments` (variable, band, band) of each."""
        return cls(np.einsum("ibc,ij->ibjc", moments, np.eye(len(moments))))

    @classmethod
    def white(cls, variables: int) -> Spectrum:
        """Of unit white noise in so many variables: the products of the bands' weights, summed."""
        side = 4 * sum(SPACINGS)
        impulse = torch.zeros(1, 1, side, side, dtype=torch.float64)
        impulse[..., side // 2, side // 2] = side
        of_one = band_moments(impulse, periodic=True)[0, 0, :, 0].numpy()
        return cls.independent(np.stack([of_one] * variables))

    def gains(self, signal: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is to be expected of v = a ε - b x_0 where x = a x_0 + b ε, a variable a row, as weights of the bands of
        all variables of x: (step, variable, variable, band).

        By linear least squares, for each a of `signal` and b of `noise` (step,): with the moments Q of x_0 and W of
        white noise, and 1 the sum over a variable's bands, (a² Q + b² W) g = a b (W - Q) 1. Where x_0 is white, 0:
        nothing linear can tell it from noise. Of a variable of HEAVY kurtosis 0 too, but it tells of the others.
        """
        count = len(self.moments)
        size = count * BANDS
        white = Spectrum.white(count).moments
        a, b = (values[:, None, None] for values in (signal, noise))
        both = a**2 * self.moments.reshape(size, size) + b**2 * white.reshape(size, size)
        wanted = a * b * (white - self.moments).sum(axis=-1).reshape(size, count)
        gains = np.linalg.solve(both, wanted).transpose(0, 2, 1).reshape(-1, count, count, BANDS)
        if self.kurtosis is not None:
            gains[:, self.kurtosis > HEAVY] = 0
        return gains
