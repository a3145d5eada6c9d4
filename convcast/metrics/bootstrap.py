"""Intervals by resampling whole days.

The hours and the points of a day see the same weather and are no independent evidence, days nearly are. So days
are drawn with replacement, each with all its forecasts, and a score is finished from the sums of the days drawn
(a ratio is that of resampled sums, never a mean of daily ratios). All scores of a verification share the draws,
which makes an interval of a difference a paired one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEW_DAYS = 20
"""Below this many days a percentile interval is too narrow to be relied on."""


@dataclass(frozen=True)
class Estimate:
    """A score and its interval; NaN where they are undefined, as an interval is from a single day."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Seeded draws of `days` days out of as many."""

    def __init__(self, days: int, *, resamples: int, seed: int, confidence: float) -> None:
        self.days = days
        self.confidence = confidence
        generator = np.random.Generator(np.random.Philox(seed))
        self._draws = generator.multinomial(days, np.full(days, 1 / days), size=resamples).astype(float)

    @property
    def few_days(self) -> bool:
        return self.days < FEW_DAYS

    def estimate(self, finish: Callable[..., Floats], *sums: Floats | Sequence[float]) -> Estimate:
        """The score `finish(*totals)` with its percentile interval.

        Each of `sums` is (day, ...), of what is summed on each day; `finish` is given each with the days summed, and a
        leading axis of resamples.
        """
        return self.estimates([finish], *sums)[0]

    def estimates(self, finishes: Sequence[Callable[..., Floats]], *sums: Floats | Sequence[float]) -> list[Estimate]:
        """Several scores of the same sums, which are then drawn once."""
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
        if drawn.size < len(self._draws) / 2:
            return Estimate(value, np.nan, np.nan)
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Estimate(value, float(low), float(high))
