"""Errors of the ensemble mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from convcast.metrics.formulas import ratio
from convcast.metrics.scores.base import Floats, PointQuantities, PointScore


class RootMeanSquaredError(PointScore):
    """Root mean squared error of the ensemble mean."""

    name = "rmse"
    sums = "squared_error", "points"
    at_points: ClassVar[PointQuantities] = {"squared_error": lambda points: points.error**2}

    def value(self, sums: Mapping[str, Floats]) -> Floats:
        return np.sqrt(ratio(sums["squared_error"], sums["points"]))


class Bias(PointScore):
    """Mean of ensemble mean minus observation."""

    name = "bias"
    sums = "error", "points"
    at_points: ClassVar[PointQuantities] = {"error": lambda points: points.error}

    def value(self, sums: Mapping[str, Floats]) -> Floats:
        return ratio(sums["error"], sums["points"])
