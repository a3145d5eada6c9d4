"""Bootstrap intervals of scores, by resampling whole days.

The hours and points of one day see the same weather, so they are not independent; days nearly are. Days are drawn with
replacement, each with all its forecasts, and a score is computed from the sums over the drawn days: a ratio of
resampled sums, not a mean of daily ratios. All scores of a verification share the draws, which makes the interval of a
difference a paired one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEW_DAYS = 20
"""Number of days below which a percentile interval is too narrow to be relied on."""
UNDEFINED = 0.2
"""Share of resamples without a value from which on there is no interval. If only one day has what the score needs, such
as an event, at least a quarter of the resamples lack that day; if two days have it, at most 0.14 lack both."""


@dataclass(frozen=True)
class Estimate:
    """A score and its interval; undefined values are NaN.

    A single day gives no interval, nor does a single day with events.
    """

    value: float
    low: float
    high: float


class Bootstrap:
    """Resamples of a number of days with replacement, from a seed."""

    def __init__(self, days: int, *, resamples: int, seed: int, confidence: float) -> None:
        """Draw the resamples.

        Args:
            days: Number of days, at least 1.
            resamples: Number of resamples.
            seed: Seed of the draws.
            confidence: Level of the intervals, between 0 and 1.
        """
        self.days = days
        self.confidence = confidence
        generator = np.random.Generator(np.random.Philox(seed))
        self._draws = generator.multinomial(days, np.full(days, 1 / days), size=resamples).astype(float)

    @property
    def few_days(self) -> bool:
        return self.days < FEW_DAYS

    def estimate(self, finish: Callable[..., Floats], *sums: Floats | Sequence[float]) -> Estimate:
        """Compute a score with its percentile interval.

        Args:
            finish: The formula of the score. It gets each of `sums` summed over days: once over all days, and once with
                a leading axis of resamples.
            sums: Daily sums, (day, ...) each.
        """
        return self.estimates([finish], *sums)[0]

    def estimates(self, finishes: Sequence[Callable[..., Floats]], *sums: Floats | Sequence[float]) -> list[Estimate]:
        """Compute several scores of the same sums, which are resampled only once.

        Args:
            finishes: Formulas of scores, each as `finish` of `estimate`.
            sums: Daily sums, (day, ...) each, which all formulas get.

        Returns:
            One estimate for each formula.
        """
        daily = [np.asarray(s, float) for s in sums]
        totals = [d.sum(0) for d in daily]
        drawn = [np.tensordot(self._draws, d, axes=1) for d in daily] if self.days > 1 else None
        return [
            self._interval(float(finish(*totals)), None if drawn is None else finish(*drawn)) for finish in finishes
        ]

    def _interval(self, value: float, drawn: Floats | None) -> Estimate:
        if drawn is None or not np.isfinite(value):
            return Estimate(value, np.nan, np.nan)
        drawn = drawn[np.isfinite(drawn)]
        if drawn.size < (1 - UNDEFINED) * len(self._draws):
            return Estimate(value, np.nan, np.nan)
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Estimate(value, float(low), float(high))
