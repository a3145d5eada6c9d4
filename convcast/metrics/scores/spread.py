"""Spread of the members beside the error of their mean, and ranks of the observation among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from convcast.metrics.formulas import correlation, ratio, spread_error_ratio
from convcast.metrics.scores.base import Floats, PointQuantities, PointScore


class SpreadErrorRatio(PointScore):
    """Ensemble spread over root mean squared error of the mean; 1 is reliable, below 1 over-confident."""

    name, estimator, by_regime = "spread_error_ratio", "unbiased", True
    units, needs_members = False, True
    sums = "variance", "squared_error"
    at_points: ClassVar[PointQuantities] = {"variance": lambda points: points.variance}

    def value(self, sums: Mapping[str, Floats]) -> Floats:
        return spread_error_ratio(sums["variance"], sums["squared_error"], sums["members"])


class SpreadErrorCorrelation(PointScore):
    """Correlation over points of spread with the absolute error of the ensemble mean."""

    name, by_regime = "spread_error_correlation", True
    units, needs_members = False, True
    sums = "points", "spread", "absolute_error", "variance", "squared_error", "spread_error"
    at_points: ClassVar[PointQuantities] = {
        "absolute_error": lambda points: np.abs(points.error),
        "spread": lambda points: points.spread,
        "spread_error": lambda points: points.spread * np.abs(points.error),
    }

    def value(self, sums: Mapping[str, Floats]) -> Floats:
        return correlation(
            sums["points"],
            sums["spread"],
            sums["absolute_error"],
            sums["variance"],
            sums["squared_error"],
            sums["spread_error"],
        )


class CentredSpreadErrorRatio(PointScore):
    """Ensemble spread over the error of the mean after its bias is taken out."""

    name, estimator = "spread_error_ratio_centred", "unbiased"
    units, needs_members = False, True
    sums = "variance", "squared_error", "error", "points"

    def value(self, sums: Mapping[str, Floats]) -> Floats:
        centred = sums["squared_error"] - ratio(sums["error"] * sums["error"], sums["points"])
        return spread_error_ratio(sums["variance"], centred, sums["members"])


class Outliers(PointScore):
    """Observations beyond all members, over their number for a calibrated ensemble, 2 / (M + 1)."""

    name, reference = "outliers", "2 / (M + 1)"
    units, needs_members = False, True
    sums = ("ranks",)

    def value(self, sums: Mapping[str, Floats]) -> Floats:
        ranks = sums["ranks"]
        return ratio((ranks[..., 0] + ranks[..., -1]) * ranks.shape[-1], 2 * ranks.sum(-1))
