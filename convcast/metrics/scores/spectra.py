"""Log-spectral distance of members and observation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from convcast.metrics.formulas import log_spectral_distance
from convcast.metrics.kernels import as_floats
from convcast.metrics.scores.base import NOT_COMPUTED, DailyFieldSums, FieldScore, Floats, ScoreValue
from convcast.metrics.spatial import FieldCase

BANDS = 2.0 ** np.arange(1, 11.5, 0.5)
"""Edges of the bands of a spectrum: wavelengths in cells, half an octave apart."""
MEMBERS = 4
"""Number of members whose spectra are computed; members are exchangeable."""
CELLS = 8
"""Minimum number of cells along each side of a domain for a spectrum."""


class LogSpectralDistance(FieldScore):
    """Difference of the members' spectra from that of the observation, in the cases that have no missing point."""

    name, title = "log_spectral_distance", "Spectra"

    def sums(self, case: FieldCase) -> dict[str, Floats]:
        """Return the power of the members and of the observation, (2, band), and the number of cases."""
        if not case.present.all() or min(case.present.shape) < CELLS:
            return {"power": np.zeros((2, len(BANDS) - 1)), "spectra": np.zeros(())}
        periodic = case.scales.periodic
        of_members = [spectrum(member, periodic=periodic)[0] for member in case.forecasts[:MEMBERS]]
        observed, waves = case.observed.get("spectrum", lambda: spectrum(case.observations, periodic=periodic))
        # Values are rounded to a lattice: power below that of its rounding errors counts as equal.
        rounding = waves / (12 * case.variable.scale**2)
        power = np.stack([np.mean(of_members, axis=0) + rounding, observed + rounding])
        return {"power": power, "spectra": np.ones(())}

    def values(self, daily: DailyFieldSums) -> Iterator[ScoreValue]:
        count = int(daily.sums["spectra"].sum())
        labels: dict[str, Any] = {"units": "dB", "n": count}
        if count == 0:
            small = f"or the domain has fewer than {CELLS} cells along a side"
            labels["note"] = f"{NOT_COMPUTED} every forecast has a missing point, {small}"
        elif count < daily.cases:
            labels["note"] = f"of the {count} forecasts of {daily.cases} that have no missing point"
        yield ScoreValue(self.name, log_spectral_distance, (daily.sums["power"],), labels)


def spectrum(field: NDArray[np.floating], *, periodic: bool) -> tuple[Floats, Floats]:
    """Return the power spectrum of a field (y, x): variance times number of points, and number of waves, (band,) each.

    A domain with edges is tapered by a Hann window first, which loses the same share of the variance of all fields.
    """
    values = as_floats(field)
    from_mean = values - values.mean(dtype=np.float64)
    ny, nx = field.shape
    size = (ny, nx)
    if not periodic:
        from_mean *= np.hanning(ny)[:, None]
        from_mean *= np.hanning(nx)
        size = (fft.next_fast_len(ny, real=True), fft.next_fast_len(nx, real=True))
    power = np.abs(fft.rfft2(from_mean.astype(np.float32), size)).astype(float)
    power *= power
    band, times, waves = _bands(*size)
    power *= times
    return _by_band(band, power) / (size[0] * size[1]), waves


@lru_cache(maxsize=1)
def _bands(ny: int, nx: int) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return each wave's band (1 is the first of BANDS), how often it counts (x,), and the waves by band (band,)."""
    times = np.ones(nx // 2 + 1)
    times[1 : (nx + 1) // 2] = 2  # waves of the half of the plane that rfft2 leaves out count here
    wave = np.hypot(fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)).ravel()
    length = np.divide(1, wave, out=np.full_like(wave, np.inf), where=wave > 0)
    band = np.digitize(length, BANDS)
    return band, times, _by_band(band, np.tile(times, ny))


def _by_band(band: NDArray[np.int64], values: Floats) -> Floats:
    """Return the sum over the waves of each band, (band,)."""
    return np.asarray(np.bincount(band, values.ravel(), len(BANDS) + 1)[1 : len(BANDS)], float)
