"""From sums to scores: the last step of every score, on sums of any cases.

Each function works along the last axis (or the last two, for tables) and over any leading ones, so that the same
few lines finish a single case, the whole period and two thousand bootstrap resamples. A score that the sums
leave undefined is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.asarray(np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator != 0))


def spread_error_ratio(variance: Floats, squared_error: Floats, members: int) -> Floats:
    """Root of mean ensemble variance over mean squared error of the ensemble mean, 1 if members and truth are alike.

    Variance is the unbiased one; the factor (M + 1) / M is the error that the mean of a finite ensemble has of its
    own (Fortin et al. 2014, eq. 15).
    """
    return np.sqrt(ratio((members + 1) * np.asarray(variance, float), members * np.asarray(squared_error, float)))


def correlation(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Pearson's, of two quantities given by their count, sums, sums of squares and sum of products."""
    spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    # Rounding of sums leaves a constant quantity with a trace of variance.
    trace = 1e-24 * np.abs(n * xx) * np.abs(n * yy)
    return ratio(n * xy - x * y, np.where(spread > trace, np.sqrt(spread), 0.0))


def brier(table: Floats, *, fair: bool) -> Floats:
    """Brier score of a table (..., members + 1, 2) of points by members with the event and by outcome.

    `fair` subtracts what the finite ensemble adds, k (M - k) / (M² (M - 1)) (Ferro 2014, eq. 8), so that ensembles of
    different sizes may be compared. One member states a certainty, of which nothing is subtracted.
    """
    members = table.shape[-2] - 1
    k = np.arange(members + 1)
    loss = np.stack([(k / members) ** 2, (k / members - 1) ** 2], axis=-1)
    if fair and members > 1:
        loss = loss - (k * (members - k) / (members**2 * (members - 1)))[:, None]
    return ratio((table * loss).sum((-1, -2)), table.sum((-1, -2)))
