"""Continuous ranked probability score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from convcast.metrics.formulas import ratio
from convcast.metrics.scores.base import Floats, PointQuantities, PointScore


class FairCrps(PointScore):
    """Mean CRPS by the estimator that does not depend on the number of members (Ferro 2014, doi:10.1002/qj.2270)."""

    name, estimator, by_regime = "crps", "fair", True
    sums = "crps_fair", "points"
    at_points: ClassVar[PointQuantities] = {"crps_fair": lambda points: points.crps("fair")}

    def value(self, sums: Mapping[str, Floats]) -> Floats:
        return ratio(sums["crps_fair"], sums["points"])


class EnsembleCrps(PointScore):
    """Mean CRPS of the members' empirical distribution (Hersbach 2000); more members score better."""

    name, estimator = "crps", "ensemble"
    sums = "crps_ensemble", "points"
    at_points: ClassVar[PointQuantities] = {"crps_ensemble": lambda points: points.crps("ensemble")}

    def value(self, sums: Mapping[str, Floats]) -> Floats:
        return ratio(sums["crps_ensemble"], sums["points"])
