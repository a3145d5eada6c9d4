"""Normal scores of a field that has a value for "none": the map from its quantiles to those of a normal distribution.

Reflectivity has a sharp upper end: members that add normal noise to it in dBZ have too many strong cores. Noise in
normal scores gives the right number. The map is the Gaussian anamorphosis of geostatistics (Journel and
Huijbregts 1978, section 7.2), with linear tails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = np.concatenate([[0.0005], np.linspace(0.005, 0.995, 100), [0.999, 0.9999]])
"""Probabilities of the quantiles."""
SHARE_OF_NONE = 0.85
"""Probability of "none" that the scores assume. It does not follow the data, so that an echo has the same score in wet
and dry regions. Measured on radar (docs/method.md): 0.85 is at least as good as 0.7 and 0.5 in every score."""
TAIL = 12
"""Number of the highest quantiles whose mean slope continues the map beyond the highest."""


@dataclass(frozen=True)
class NormalScores:
    """A strictly increasing map between values and normal scores."""

    values: NDArray[np.float64]
    """Quantiles at LEVELS of the values that are not none."""
    scores: NDArray[np.float64]
    """Their normal scores."""

    @classmethod
    def of(cls, quantiles: NDArray[np.float64]) -> NormalScores:
        """Build the map from the quantiles of a field at LEVELS."""
        from scipy.special import ndtri

        # Packed values repeat, and a strictly increasing map needs distinct ones.
        apart = np.maximum.accumulate(quantiles + 1e-4 * np.arange(len(quantiles)))
        return cls(apart, ndtri(SHARE_OF_NONE + (1 - SHARE_OF_NONE) * LEVELS))

    @property
    def weakest(self) -> float:
        """Score of the weakest value."""
        return float(self.scores[0])

    def forward(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the scores of values; those below the weakest value have its score."""
        beyond = np.maximum(values - self.values[-1], 0) * self.slope
        return np.asarray(np.interp(values, self.values, self.scores) + beyond)

    def inverse(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the values of scores; those below the score of the weakest value have this value."""
        beyond = np.maximum(scores - self.scores[-1], 0) / self.slope
        return np.asarray(np.interp(scores, self.scores, self.values) + beyond)

    @property
    def slope(self) -> float:
        """Scores per unit beyond the highest quantile."""
        return float((self.scores[-1] - self.scores[-TAIL]) / (self.values[-1] - self.values[-TAIL]))
