"""Covariances of the residuals by scale and direction, and the linear denoiser that follows from them.

The denoiser has the least squared error of all linear ones, given spectra and cross-spectra (Wiener 1949). In a noisy
state of a smooth field, nearly all variance at the finest scales is noise; in two fields that vary together, so is the
part that they do not share. The network need not learn this.

Bands distinguish variation along x, along y and along both, since winds that rotate rather than converge vary most
across their direction. With bands alike in all directions, training narrowed the members of winds by a tenth.

`periodic` says whether the domain is a torus; otherwise fields are continued by their mirror image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SPACINGS = (1, 2, 4, 8, 16)
"""Distances, in cells, between the points that the successive smoothings of `bands` average."""
BANDS = 3 * len(SPACINGS) + 1
"""Number of bands: three directions at each distance, and what the last smoothing leaves."""
EMPTY_BAND = 1e-13
"""Variance added to every band, so that a band that is empty on a small torus gets the gain 0."""
MOST_WAVES = 256
"""Maximum number of waves along an axis from which the moments of white noise are computed."""


def bands(fields: Tensor, *, periodic: bool) -> Iterator[Tensor]:
    """Yield BANDS parts of `fields` (row, channel, y, x) by scale and direction, which add up to the fields.

    This is the undecimated separable wavelet transform (Mallat 2009, A Wavelet Tour of Signal Processing, section 5.2)
    with weights (1, 2, 1) / 4: what a smoothing along x, along y or along both removes, the finest first, and what the
    last one leaves. On a domain with edges the fields are continued by their mirror image, so that a cosine wave stays
    one.
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
    """Average with the points `spacing` cells away along an axis of a torus, or of a domain mirrored at its edges."""
    if periodic:  # holds also if the domain is smaller than the spacing
        before, middle, after = torch.roll(x, spacing, axis), x, torch.roll(x, -spacing, axis)
    else:
        size = x.shape[axis]
        x = _mirrored(x, spacing, axis)
        before, middle, after = (x.narrow(axis, start, size) for start in (0, spacing, 2 * spacing))
    return torch.add(before, after).add_(middle, alpha=2).mul_(0.25)


def _mirrored(x: Tensor, margin: int, axis: int) -> Tensor:
    """Continue fields beyond both edges of an axis by their mirror image, which begins with the edge itself.

    Repeated edge values would be worse: in a corner of 40 x 40 cells, white noise at the coarsest scale would have 21
    times its variance on a torus; with the mirror image it has 4 times.
    """
    size = x.shape[axis]
    if margin <= size:
        first, last = x.narrow(axis, 0, margin), x.narrow(axis, size - margin, margin)
        return torch.cat([first.flip(axis), x, last.flip(axis)], dim=axis)
    places = torch.arange(-margin, size + margin, device=x.device) % (2 * size)
    return x.index_select(axis % x.dim(), torch.minimum(places, 2 * size - 1 - places))


def flat_bands(fields: Tensor, *, periodic: bool) -> Tensor:
    """Return the `bands` of all channels, those of a channel together: (row, channel * band, point)."""
    return torch.stack(list(bands(fields, periodic=periodic)), dim=2).flatten(1, 2).flatten(2)


def band_moments(fields: Tensor, *, periodic: bool) -> Tensor:
    """Return the mean products of all pairs of the channels' `bands`, (row, channel, band, channel, band)."""
    parts = flat_bands(fields, periodic=periodic)
    products = parts @ parts.transpose(-1, -2) / parts.shape[-1]
    return products.view(len(fields), -1, BANDS, fields.shape[1], BANDS)


def noise_moments(shape: tuple[int, int], *, periodic: bool) -> NDArray[np.float64]:
    """Return the mean products of the `bands` of unit white noise on a domain of this shape, (band, band).

    White noise has the same variance in all waves of a torus, and in all cosine waves of a domain with edges. Beyond
    MOST_WAVES along an axis more waves change nothing.
    """
    turn = (2 if periodic else 1) * np.pi
    along_y, along_x = (turn * np.arange(count) / count for count in (min(n, MOST_WAVES) for n in shape))
    found = responses(along_y[:, None], along_x[None, :]).reshape(BANDS, -1)
    moments: NDArray[np.float64] = found @ found.T / found.shape[1]
    return moments


@cache
def _noise_on_a_large_torus() -> NDArray[np.float64]:
    return noise_moments((MOST_WAVES, MOST_WAVES), periodic=True)


def _independent(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the moments of independent variables, (variable, band, variable, band), from those of each."""
    joined: NDArray[np.float64] = np.einsum("ibc,ij->ibjc", moments, np.eye(len(moments)))
    return joined


@cache
def _amplitudes() -> tuple[float, ...]:
    """Return the factor of each band in `coarse_emphasised`."""
    noise = _noise_on_a_large_torus()
    factors = 1 / np.sqrt(np.diag(noise))
    return tuple(map(float, factors / np.sqrt(factors @ noise @ factors)))


def coarse_emphasised(fields: Tensor, *, periodic: bool) -> Tensor:
    """Amplify the coarse bands of `fields` (row, channel, y, x); white noise keeps its variance on a torus.

    Each band is divided by the standard deviation of white noise in it, so that all scales of white noise count alike.
    """
    out = torch.zeros_like(fields)
    for factor, part in zip(_amplitudes(), bands(fields, periodic=periodic), strict=True):
        out = torch.add(out, part, alpha=factor)
    return out


@dataclass(frozen=True)
class Spectrum:
    """Second moments by scale of residuals of variance 1."""

    moments: NDArray[np.float64]
    """Mean products as in `band_moments`, (variable, band, variable, band)."""
    noise: NDArray[np.float64] = field(default_factory=_noise_on_a_large_torus)
    """Mean products of the bands of unit white noise on domains as large as those of the residuals, (band, band)."""

    def __post_init__(self) -> None:
        count = len(self.moments)
        if self.moments.shape != (count, BANDS, count, BANDS):
            raise ValueError(f"the moments have the shape {self.moments.shape}")
        if self.noise.shape != (BANDS, BANDS):
            raise ValueError(f"the moments of noise have the shape {self.noise.shape}")

    @classmethod
    def independent(cls, moments: NDArray[np.float64]) -> Spectrum:
        """Return the spectrum of independent variables, from the `moments` (variable, band, band) of each."""
        return cls(_independent(moments))

    @classmethod
    def white(cls, variables: int) -> Spectrum:
        """Return the spectrum of unit white noise on a large torus."""
        return cls.independent(np.stack([_noise_on_a_large_torus()] * variables))

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
        white = _independent(np.stack([self.noise] * count))
        a, b = (values[:, None, None] for values in (signal, noise))
        both = a**2 * self.moments.reshape(size, size) + b**2 * white.reshape(size, size)
        wanted = a * b * (white - self.moments).sum(axis=-1).reshape(size, count)
        both = both + EMPTY_BAND * np.eye(size)
        return np.linalg.solve(both, wanted).transpose(0, 2, 1).reshape(-1, count, count, BANDS)
