"""Scores of a yes-or-no forecast of an event, which is forecast where half of the members or more have it."""

from __future__ import annotations

from convcast.metrics.formulas import contingency, fewest_of_half, ratio
from convcast.metrics.scores.base import EventScore, Floats


class CriticalSuccessIndex(EventScore):
    """Hits over hits, misses and false alarms (threat score)."""

    name, estimator, probability = "csi", "ensemble", 0.5

    def value(self, table: Floats) -> Floats:
        hits, misses, false_alarms = contingency(table, fewest_of_half(table.shape[-2] - 1))
        return ratio(hits, hits + misses + false_alarms)


class ProbabilityOfDetection(EventScore):
    """Share of the events that were forecast (POD)."""

    name, estimator, probability = "pod", "ensemble", 0.5

    def value(self, table: Floats) -> Floats:
        hits, misses, _ = contingency(table, fewest_of_half(table.shape[-2] - 1))
        return ratio(hits, hits + misses)


class SuccessRatio(EventScore):
    """Share of the forecasts that came true."""

    name, estimator, probability = "success_ratio", "ensemble", 0.5

    def value(self, table: Floats) -> Floats:
        hits, _, false_alarms = contingency(table, fewest_of_half(table.shape[-2] - 1))
        return ratio(hits, hits + false_alarms)
