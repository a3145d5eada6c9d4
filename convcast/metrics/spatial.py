"""Statistics of whole fields: fractions and maxima of neighbourhoods, the energy score and spectra.

They see displaced storms and unrealistic members, which no point shows by itself. Neighbourhoods that hold a missing
point or leave the domain are left out; the simulated world has no edge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import uniform_filter

from convcast.grid import SPACING
from convcast.metrics.kernels import as_floats, exceedances, happens, present_points
from convcast.metrics.neighbourhood import RADIUS, far_from_missing, happens_near
from convcast.variables import CAPE, REFC, Variable

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Field = NDArray[Any]

NEIGHBOURLY = (REFC, CAPE)
"""Fields whose events are also scored in neighbourhoods."""
STEP = 4
"""Step in rows and columns between the points where NMEP is computed; disks between them are nearly the same."""
BANDS = 2.0 ** np.arange(1, 11.5, 0.5)
"""Edges of the bands of a spectrum: wavelengths in cells, half an octave apart."""
SPECTRAL_MEMBERS = 4
"""Number of members whose spectra are computed; members are exchangeable."""
SPECTRAL_CELLS = 8
"""Minimum number of cells along each side of a domain for a spectrum."""
CHUNK = 1 << 17
"""Number of points processed at a time, which bounds memory."""


def odd_width(kilometres: float) -> int:
    """Odd number of cells along a square whose side is nearest to this many kilometres."""
    return 2 * round((1000 * kilometres / SPACING - 1) / 2) + 1


@dataclass(frozen=True)
class Scales:
    """Sizes of the neighbourhoods of the fractions skill score, and whether the domain is periodic."""

    widths: tuple[int, ...]
    """Sides of the squares of FSS, cells, odd."""
    periodic: bool

    @classmethod
    def of(cls, kilometres: tuple[float, ...], shape: tuple[int, int], *, periodic: bool) -> Scales:
        """Scales of these widths in kilometres, in odd numbers of cells, at most half as wide as the domain."""
        widths = map(odd_width, kilometres)
        return cls(tuple(dict.fromkeys(w for w in widths if 1 <= w <= min(shape) // 2)), periodic)


@dataclass(frozen=True)
class Spatial:
    """Spatial statistics of one field, summed over cases.

    Attributes
    ----------
    fractions : (threshold, width, 4) neighbourhoods, and the sums of N², O² and N O, where N is the probability of the
        event in the mean over a neighbourhood and the members (NEP), and O the observed fraction
    near : (threshold, members + 1, 2) every STEP-th point by number of members with the event within RADIUS (NMEP), and
        by whether it was observed there
    energy : (3,) cases, sums of the energy score by the fair and by the ensemble estimator
    power : (2, band) of the members, and of the observation, in the cases that have no missing point
    spectra : number of those cases
    """

    fractions: Floats
    near: Integers
    energy: Floats
    power: Floats
    spectra: int = 0

    @classmethod
    def none(cls, members: int, thresholds: int = 0, widths: int = 0) -> Spatial:
        return cls(
            np.zeros((thresholds, widths, 4)),
            np.zeros((thresholds, members + 1, 2), np.int64),
            np.zeros(3),
            np.zeros((2, len(BANDS) - 1)),
        )

    def __add__(self, other: Spatial) -> Spatial:
        return Spatial(*(getattr(self, name) + getattr(other, name) for name in vars(self)))


def score_whole(forecasts: Field, observations: Field, variable: Variable, scales: Scales) -> Spatial:
    """Compute the spatial statistics of one case: (member, y, x) forecasts against (y, x) observations."""
    forecasts, observations = as_floats(forecasts), as_floats(observations)
    there = present_points(forecasts, observations)
    thresholds = variable.thresholds if variable in NEIGHBOURLY else ()
    made = Spatial.none(len(forecasts), len(thresholds), len(scales.widths))
    if not there.any():
        return made
    if thresholds:
        made.fractions[:] = fraction_sums(forecasts, observations, there, thresholds, scales)
        _near(forecasts, observations, there, thresholds, scales, made.near)
    made.energy[:] = 1, *energy(forecasts, observations, there)
    if there.all() and min(there.shape) >= SPECTRAL_CELLS:
        shown = forecasts[:SPECTRAL_MEMBERS]
        of_members = [spectrum(member, periodic=scales.periodic)[0] for member in shown]
        observed, waves = spectrum(observations, periodic=scales.periodic)
        # Both are known to a step of the lattice: what is weaker than its noise is alike.
        rounding = waves / (12 * variable.scale**2)
        made.power[:] = np.mean(of_members, axis=0) + rounding, observed + rounding
        return replace(made, spectra=1)
    return made


def spectrum(field: Field, *, periodic: bool) -> tuple[Floats, Floats]:
    """Power spectrum of a field (y, x): variance times number of points, and number of waves, by band, (band,) each.

    A domain with edges is tapered by a Hann window first, whose loss of variance is the same for all fields.
    """
    values = as_floats(field)
    from_mean = values - values.mean(dtype=np.float64)
    ny, nx = field.shape
    size = (ny, nx)
    if not periodic:
        from_mean = from_mean * np.hanning(ny)[:, None] * np.hanning(nx)
        size = (fft.next_fast_len(ny, real=True), fft.next_fast_len(nx, real=True))
    squared = np.abs(fft.rfft2(from_mean.astype(np.float32), size)).astype(float) ** 2
    times = np.ones_like(squared)
    times[:, 1 : (size[1] + 1) // 2] = 2  # the half of the plane that rfft2 leaves out
    wave = np.hypot(fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])).ravel()
    length = np.divide(1, wave, out=np.full_like(wave, np.inf), where=wave > 0)
    band = np.digitize(length, BANDS) - 1
    kept = (band >= 0) & (band < len(BANDS) - 1)
    variance: Floats = np.bincount(band[kept], (times * squared).ravel()[kept], len(BANDS) - 1) / (size[0] * size[1])
    waves: Floats = np.bincount(band[kept], times.ravel()[kept], len(BANDS) - 1).astype(float)
    return variance, waves


def fraction_sums(
    forecasts: Field,
    observations: Field,
    there: NDArray[np.bool_],
    thresholds: tuple[float, ...],
    scales: Scales,
) -> Floats:
    """Compute `Spatial.fractions` of one case, (threshold, width, 4)."""
    mode = "wrap" if scales.periodic else "constant"
    whole = [uniform_filter(there.astype(float), width, mode=mode) > 1 - 1e-9 for width in scales.widths]
    sums = np.zeros((len(thresholds), len(scales.widths), 4))
    for row, threshold in enumerate(thresholds):
        counts = exceedances(forecasts.reshape(len(forecasts), -1), threshold).reshape(there.shape)
        forecast = np.where(there, counts / len(forecasts), 0)
        observed = np.where(there & happens(observations, threshold), 1.0, 0.0)
        for column, width in enumerate(scales.widths):
            n, o = (uniform_filter(each, width, mode=mode)[whole[column]] for each in (forecast, observed))
            sums[row, column] = n.size, n @ n, o @ o, n @ o
    return sums


def _near(
    forecasts: Field,
    observations: Field,
    there: NDArray[np.bool_],
    thresholds: tuple[float, ...],
    scales: Scales,
    out: Integers,
) -> None:
    first = 0
    if scales.periodic:
        first = -(-RADIUS // STEP)
        around = first * STEP
        forecasts = np.pad(forecasts, ((0, 0), (around, around), (around, around)), mode="wrap")
        observations, there = np.pad(observations, around, mode="wrap"), np.pad(there, around, mode="wrap")
    inner = (slice(first, -first or None),) * 2
    counted = far_from_missing(there, RADIUS)[::STEP, ::STEP][inner]
    if not counted.any():
        return
    for threshold, table in zip(thresholds, out, strict=True):
        count = np.zeros(counted.shape, np.int64)
        for member in forecasts:
            count += happens_near(happens(member, threshold), RADIUS, step=STEP)[inner]
        seen = happens_near(happens(observations, threshold), RADIUS, step=STEP)[inner]
        table += np.bincount((2 * count + seen)[counted], minlength=table.size).reshape(table.shape)


def energy(forecasts: Field, observations: Field, there: NDArray[np.bool_]) -> tuple[float, float]:
    """Energy score (Gneiting et al. 2008, eq. 3) of the field as one vector, over the root of its length.

    By the fair and by the ensemble estimator:
    mean|X_i - y| - sum_{i<j}|X_i - X_j| / (M (M - 1)), or M² in its place; by the products of all pairs of departures
    from the observation, so that the members are read once.
    """
    forecasts, observations = as_floats(forecasts), as_floats(observations)
    members = len(forecasts)
    values, truth, kept = forecasts.reshape(members, -1), observations.reshape(-1), there.reshape(-1)
    products = np.zeros((members, members))
    for start in range(0, truth.size, CHUNK):
        part = slice(start, start + CHUNK)
        apart = np.where(kept[part], values[:, part] - truth[part], 0)
        products += apart @ apart.T
    squares = np.diag(products)
    distance = np.sqrt(squares).mean()
    pairs = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0)).sum() / 2
    length = np.sqrt(np.count_nonzero(kept))
    fair = distance - pairs / (members * (members - 1)) if members > 1 else distance
    return float(fair / length), float((distance - pairs / members**2) / length)
