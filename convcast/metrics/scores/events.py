"""Scores of an event's probability: Brier score and its parts, ROC area, frequency bias."""

from __future__ import annotations

import numpy as np

from convcast.metrics.formulas import brier, brier_parts, ratio, roc_area
from convcast.metrics.scores.base import EventScore, Floats


class BrierScore(EventScore):
    """Mean squared error of the probability, fair to ensembles of any size (Ferro 2014, eq. 8)."""

    name, estimator = "brier", "fair"

    def value(self, table: Floats) -> Floats:
        return brier(table, fair=True)


class BrierSkill(EventScore):
    """Skill of the Brier score over the event's frequency in the same cases; 1 is perfect, 0 no skill."""

    name, estimator = "brier_skill", "fair"

    def value(self, table: Floats) -> Floats:
        return 1 - ratio(brier(table, fair=True), brier_parts(table)[2])


class BrierReliability(EventScore):
    """Reliability part of the Brier score; 0 is perfect."""

    name, estimator = "brier_reliability", "ensemble"

    def value(self, table: Floats) -> Floats:
        return brier_parts(table)[0]


class BrierResolution(EventScore):
    """Resolution part of the Brier score; larger is better."""

    name, estimator = "brier_resolution", "ensemble"

    def value(self, table: Floats) -> Floats:
        return brier_parts(table)[1]


class BrierUncertainty(EventScore):
    """Uncertainty part of the Brier score, which depends on the observations alone."""

    name = "brier_uncertainty"

    def value(self, table: Floats) -> Floats:
        return brier_parts(table)[2]


class RocArea(EventScore):
    """Area under the ROC curve; 0.5 is no discrimination."""

    name, estimator = "roc_area", "ensemble"

    def value(self, table: Floats) -> Floats:
        return roc_area(table)


class FrequencyBias(EventScore):
    """Frequency of the event among the members over its observed frequency; 1 if members and truth are alike."""

    name = "frequency_bias"

    def value(self, table: Floats) -> Floats:
        members = table.shape[-2] - 1
        forecast = (table.sum(-1) * np.arange(members + 1)).sum(-1)
        return ratio(forecast, members * table[..., 1].sum(-1))
