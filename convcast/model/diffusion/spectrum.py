"""Covariances of the residuals by scale, and the linear denoiser that follows from them.

It is the linear denoiser of least squared error that knows spectra and cross-spectra alone (Wiener 1949). In a smooth
field nearly all variance at the finest scales is noise, and in two fields that vary together so is the part that they
do not share. The network need not learn this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SPACINGS = (1, 2, 4, 8)
"""Distances, in cells, between the points that the successive smoothings of `bands` average."""
BANDS = len(SPACINGS) + 1
"""Number of bands."""


def bands(fields: Tensor, *, periodic: bool) -> list[Tensor]:
    """Split `fields` (row, channel, y, x) by scale into BANDS parts, the finest first, which add up to the fields.

    This is the isotropic undecimated wavelet transform (Starck et al. 2007, IEEE Trans. Image Process. 16, 297) with
    weights (1, 2, 1) / 4: what each smoothing removes, and what the last one leaves.
    """
    parts, left = [], fields
    for spacing in SPACINGS:
        smoothed = _smooth(left, spacing, periodic=periodic)
        parts.append(left - smoothed)
        left = smoothed
    return [*parts, left]


def _smooth(x: Tensor, spacing: int, *, periodic: bool) -> Tensor:
    """Average with the points `spacing` cells away; the edge's value stands for points beyond an edge."""
    x = functional.pad(x, (spacing,) * 4, mode="circular" if periodic else "replicate")
    x = (x[..., : -2 * spacing, :] + 2 * x[..., spacing:-spacing, :] + x[..., 2 * spacing :, :]) / 4
    return (x[..., : -2 * spacing] + 2 * x[..., spacing:-spacing] + x[..., 2 * spacing :]) / 4


def flat_bands(fields: Tensor, *, periodic: bool) -> Tensor:
    """Return the `bands` of all channels, those of a channel together: (row, channel * band, point)."""
    return torch.stack(bands(fields, periodic=periodic), dim=2).flatten(1, 2).flatten(2)


def band_moments(fields: Tensor, *, periodic: bool) -> Tensor:
    """Return the mean products of all pairs of the channels' `bands`, (row, channel, band, channel, band)."""
    parts = flat_bands(fields, periodic=periodic)
    products = parts @ parts.transpose(-1, -2) / parts.shape[-1]
    return products.view(len(fields), -1, BANDS, fields.shape[1], BANDS)


@dataclass(frozen=True)
class Spectrum:
    """Second moments by scale of residuals of variance 1."""

    moments: NDArray[np.float64]
    """Mean products as in `band_moments`, (variable, band, variable, band)."""

    def __post_init__(self) -> None:
        count = len(self.moments)
        if self.moments.shape != (count, BANDS, count, BANDS):
            raise ValueError(f"moments of shape {self.moments.shape}")

    @classmethod
    def independent(cls, moments: NDArray[np.float64]) -> Spectrum:
        """Spectrum of independent variables, from the `moments` (variable, band, band) of each."""
        return cls(np.einsum("ibc,ij->ibjc", moments, np.eye(len(moments))))

    @classmethod
    def white(cls, variables: int) -> Spectrum:
        """Spectrum of unit white noise: the sums of the products of the bands' weights."""
        side = 4 * sum(SPACINGS)
        impulse = torch.zeros(1, 1, side, side, dtype=torch.float64)
        impulse[..., side // 2, side // 2] = side
        of_one = band_moments(impulse, periodic=True)[0, 0, :, 0].numpy()
        return cls.independent(np.stack([of_one] * variables))

    def gains(self, signal: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the gains g of the bands of x = a x_0 + b ε in the linear estimate of v = a ε - b x_0.

        By linear least squares, with the moments Q of x_0 and W of white noise, and 1 the sum over a variable's bands,
        (a² Q + b² W) g = a b (W - Q) 1. The gains vanish where x_0 is white, since no linear filter can tell it from
        noise.

        Args:
            signal: a at each step, (step,).
            noise: b at each step, (step,).

        Returns:
            Gains, (step, variable estimated, variable, band).
        """
        count = len(self.moments)
        size = count * BANDS
        white = Spectrum.white(count).moments
        a, b = (values[:, None, None] for values in (signal, noise))
        both = a**2 * self.moments.reshape(size, size) + b**2 * white.reshape(size, size)
        wanted = a * b * (white - self.moments).sum(axis=-1).reshape(size, count)
        return np.linalg.solve(both, wanted).transpose(0, 2, 1).reshape(-1, count, count, BANDS)
