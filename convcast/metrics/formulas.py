"""Formulas of scores, from sums over any cases.

Each function works along the last axis (or the last two, for tables) and over any leading ones. A value that the sums
do not define is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, with NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.asarray(np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator != 0))


def spread_error_ratio(variance: Floats, squared_error: Floats, members: int | Floats) -> Floats:
    """Ensemble spread over root mean squared error of the ensemble mean; 1 if members and truth are alike.

    `variance` is the unbiased variance of the members. The factor (M + 1) / M accounts for the error of the mean of a
    finite ensemble (Fortin et al. 2014, eq. 15).

    Args:
        variance: Sum or mean of the variance of the members, in the square of the field's units.
        squared_error: Sum or mean over the same cases of the squared error of the ensemble mean, in the same units.
        members: Number of members.
    """
    return np.sqrt(ratio((members + 1) * np.asarray(variance, float), members * np.asarray(squared_error, float)))


def correlation(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Pearson correlation of two quantities from their count, sums, sums of squares and sum of products.

    Args:
        n: Number of pairs of values, or 1 where the others are means.
        x: Sum of the first quantity.
        y: Sum of the second quantity.
        xx: Sum of the squares of the first.
        yy: Sum of the squares of the second.
        xy: Sum of the products.
    """
    spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    # Rounding of sums gives a constant quantity a small variance.
    trace = 1e-24 * np.abs(n * xx) * np.abs(n * yy)
    return ratio(n * xy - x * y, np.where(spread > trace, np.sqrt(spread), 0.0))


def brier(table: Floats, *, fair: bool) -> Floats:
    """Brier score of a table (..., members + 1, 2) of points by members with the event and by outcome.

    `fair` subtracts the contribution of the finite ensemble, k (M - k) / (M² (M - 1)) (Ferro 2014, eq. 8), so that
    ensembles of different sizes may be compared. For one member nothing is subtracted.
    """
    members = table.shape[-2] - 1
    k = np.arange(members + 1)
    loss = np.stack([(k / members) ** 2, (k / members - 1) ** 2], axis=-1)
    if fair and members > 1:
        loss = loss - (k * (members - k) / (members**2 * (members - 1)))[:, None]
    return ratio((table * loss).sum((-1, -2)), table.sum((-1, -2)))


def brier_parts(table: Floats) -> tuple[Floats, Floats, Floats]:
    """Reliability, resolution and uncertainty of the probabilities k / M (Murphy 1973, eq. 10).

    The Brier score that is not fair is exactly reliability - resolution + uncertainty: each k is a class of its own.
    The reliability of a reliable ensemble is above 0, since k / M scatters about the probability that it estimates.
    """
    members = table.shape[-2] - 1
    k = np.arange(members + 1) / members
    n, events = table.sum(-1), table[..., 1]
    total = n.sum(-1)
    base = ratio(events.sum(-1), total)
    seen = ratio(events, n)
    reliability = ratio(np.nansum(n * (k - seen) ** 2, -1), total)
    resolution = ratio(np.nansum(n * (seen - base[..., None]) ** 2, -1), total)
    return reliability, resolution, base * (1 - base)


def roc_area(table: Floats) -> Floats:
    """Area under the ROC curve through all M + 1 probabilities (Mason and Graham 2002).

    It is the probability that more members have the event where it happened than where it did not, with ties counted
    as half; 0.5 is no discrimination. It is NaN if the event happened everywhere or nowhere.
    """
    without, events = table[..., 0], table[..., 1]
    below = np.cumsum(without, -1) - without
    return ratio((events * (below + without / 2)).sum(-1), events.sum(-1) * without.sum(-1))


def contingency(table: Floats, fewest: int) -> tuple[Floats, Floats, Floats]:
    """Return hits, misses and false alarms if the event counts as forecast when `fewest` members or more have it.

    Args:
        table: Numbers of points by members with the event and by outcome, (..., members + 1, 2).
        fewest: Smallest number of members that counts as a forecast of the event.
    """
    forecast, otherwise = table[..., fewest:, :].sum(-2), table[..., :fewest, :].sum(-2)
    return forecast[..., 1], otherwise[..., 1], forecast[..., 0]


def fewest_of_half(members: int) -> int:
    """Return the smallest number of members that is half of all members or more."""
    return -(-members // 2)


def fractions_skill_score(sums: Floats) -> Floats:
    """Fractions skill score (Roberts and Lean 2008, eq. 6) of sums (..., 4): count, N², O², N O; 1 is perfect."""
    forecast, observed, product = sums[..., 1], sums[..., 2], sums[..., 3]
    return 1 - ratio(forecast + observed - 2 * product, forecast + observed)


def log_spectral_distance(power: Floats) -> Floats:
    """Root mean square difference of two spectra (..., 2, band) in decibels; bands without power are left out."""
    forecast, observed = power[..., 0, :], power[..., 1, :]
    both = (forecast > 0) & (observed > 0)
    decibels = 10 * np.log10(np.where(both, forecast, 1) / np.where(both, observed, 1))
    return np.sqrt(ratio((decibels**2).sum(-1), both.sum(-1)))
