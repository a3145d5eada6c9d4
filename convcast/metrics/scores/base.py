"""Kinds of scores: what each sums over points and cases, and how it ends.

A score is a class. It names the sums that it needs, says how to compute those that it adds, and ends them in `value`.
`value` works along the last axes and over any leading ones, so that the same few lines end a single day, the whole
period and two thousand bootstrap resamples. A score that the sums leave undefined is NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class PointValues(Protocol):
    """Quantities at each present point of one case: (point,) arrays in the field's units."""

    @property
    def error(self) -> Floats:
        """Ensemble mean minus observation."""

    @property
    def variance(self) -> Floats:
        """Unbiased variance of the members."""

    def crps(self, estimator: Literal["fair", "ensemble"]) -> Floats:
        """CRPS of the members by this estimator."""


PointQuantities = Mapping[str, Callable[[PointValues], Floats]]
"""Quantities at points, by name."""


class Score(ABC):
    """Properties that every score declares."""

    name: ClassVar[str]
    """Name in scores.json."""
    estimator: ClassVar[str | None] = None
    """Which of several estimators the score uses, as scores.json says it."""


class PointScore(Score):
    """A score that ends sums over points, such as mean CRPS."""

    sums: ClassVar[tuple[str, ...]]
    """Names of the sums that `value` needs."""
    at_points: ClassVar[PointQuantities] = {}
    """Quantities at points that this score adds to the sums, by name."""
    units: ClassVar[bool] = True
    """Whether the score has the units of its field."""
    needs_members: ClassVar[bool] = False
    """Whether the score is undefined for a single member."""
    by_regime: ClassVar[bool] = False
    """Whether the score is also made for the points of each convective regime."""
    reference: ClassVar[str | None] = None
    """The value of a calibrated ensemble, where it depends on the ensemble's size."""

    @abstractmethod
    def value(self, sums: Mapping[str, Floats]) -> Floats:
        """The score of these sums by name; `members` is there too, the size of the ensembles."""


class EventScore(Score):
    """A score of probabilities of an event, from a table of points by members with the event and by outcome."""

    probability: ClassVar[float | None] = None
    """Probability from which the event counts as forecast, for scores of yes-or-no forecasts."""
    in_neighbourhood: ClassVar[bool] = False
    """Whether the score is also made for the event anywhere within the neighbourhood, as `nmep_<name>`."""

    @abstractmethod
    def value(self, table: Floats) -> Floats:
        """The score of a table (..., members + 1, 2)."""
