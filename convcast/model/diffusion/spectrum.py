"""Covariances of the residuals by scale and direction, and the linear denoiser that follows from them.

It is the linear denoiser of least squared error that knows spectra and cross-spectra alone (Wiener 1949). In a smooth
field nearly all variance at the finest scales is noise, and in two fields that vary together so is the part that they
do not share. The network need not learn this.

A band knows whether it varies along x, along y or along both: winds that turn rather than converge have their
fine structure across themselves. With bands alike in all directions, training narrowed the members of winds by a tenth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SPACINGS = (1, 2, 4, 8, 16)
"""Distances, in cells, between the points that the successive smoothings of `bands` average."""
BANDS = 3 * len(SPACINGS) + 1
"""Number of bands: three directions at each distance, and what the last smoothing leaves."""


def bands(fields: Tensor, *, periodic: bool) -> Iterator[Tensor]:
    """Yield BANDS parts of `fields` (row, channel, y, x) by scale and direction, which add up to the fields.

    This is the undecimated separable wavelet transform (Mallat 2009, A Wavelet Tour of Signal Processing, section 5.2)
    with weights (1, 2, 1) / 4: what a smoothing along x, along y or along both removes, the finest first, and what the
    last one leaves.
    """
    left = fields
    for spacing in SPACINGS:
        along_y = _smooth(left, spacing, -2, periodic=periodic)
        along_x = _smooth(left, spacing, -1, periodic=periodic)
        along_both = _smooth(along_y, spacing, -1, periodic=periodic)
        yield along_y - along_both
        yield along_x - along_both
        yield left - along_x - along_y + along_both
        left = along_both
    yield left


def responses(along_y: NDArray[np.float64], along_x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the factors by which the `bands` multiply waves, (band, ...), for wavenumbers in radians a cell."""
    left, found = np.ones(np.broadcast_shapes(along_y.shape, along_x.shape)), []
    for spacing in SPACINGS:
        y, x = ((1 + np.cos(spacing * wavenumber)) / 2 for wavenumber in (along_y, along_x))
        found += [left * y * (1 - x), left * x * (1 - y), left * (1 - x) * (1 - y)]
        left = left * y * x
    return np.stack([*found, left])


def _smooth(x: Tensor, spacing: int, axis: int, *, periodic: bool) -> Tensor:
    """Average with the points `spacing` cells away along an axis; the edge's value stands for points beyond an edge."""
    if periodic:  # also where the domain is smaller than the spacing
        before, middle, after = torch.roll(x, spacing, axis), x, torch.roll(x, -spacing, axis)
    else:
        size = x.shape[axis]
        margins = (spacing, spacing, 0, 0) if axis == -1 else (0, 0, spacing, spacing)
        x = functional.pad(x, margins, mode="replicate")
        before, middle, after = (x.narrow(axis, start, size) for start in (0, spacing, 2 * spacing))
    return torch.add(before, after).add_(middle, alpha=2).mul_(0.25)


def flat_bands(fields: Tensor, *, periodic: bool) -> Tensor:
    """Return the `bands` of all channels, those of a channel together: (row, channel * band, point)."""
    return torch.stack(list(bands(fields, periodic=periodic)), dim=2).flatten(1, 2).flatten(2)


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
