"""Kinds of scores: the sums that each needs over points and cases, and its formula.

A score is a class. It names the sums that it needs, computes those that no other score has, and has a formula of the
sums. The formula works along the last axes and over any leading ones, so that it serves for a single day, the whole
period and two thousand bootstrap resamples alike. A score that the sums do not define is NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convcast.metrics.kernels import PointScores
from convcast.metrics.spatial import FieldCase, Scales
from convcast.variables import Variable

Floats = NDArray[np.float64]

NOT_COMPUTED = "not computed:"
"""Start of the note of a score that cannot be computed because of missing points; the reason follows."""
PointQuantities = Mapping[str, Callable[[PointScores], Floats]]
"""Quantities at points, by name."""


@dataclass(frozen=True)
class ScoreValue:
    """One value of a score: its formula, and the daily sums from which it is computed."""

    name: str
    """Name in scores.json."""
    formula: Callable[..., Floats]
    """Function of the sums over any days."""
    sums: tuple[Floats, ...]
    """Daily sums, (day, ...) each."""
    labels: dict[str, Any]
    """Further entries of the value in scores.json, such as estimator, threshold and note."""


class Score(ABC):
    """Properties that every score declares."""

    name: ClassVar[str]
    """Name in scores.json."""
    estimator: ClassVar[str | None] = None
    """Name in scores.json of the estimator that the score uses."""


class PointScore(Score):
    """A score that is computed from sums over points, such as mean CRPS."""

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
        """Compute the score from these sums by name, which include `members`, the size of the ensembles."""


class EventScore(Score):
    """A score of an event's probabilities, from the numbers of points by members with the event and by outcome."""

    probability: ClassVar[float | None] = None
    """Probability from which the event counts as forecast, for scores of yes-or-no forecasts."""

    @abstractmethod
    def value(self, table: Floats) -> Floats:
        """Compute the score from a table (..., members + 1, 2)."""


@dataclass(frozen=True)
class DailyFieldSums:
    """Daily sums of FieldScores over the cases of one system, field and lead."""

    sums: Mapping[str, Floats]
    """Sums by name, (day, ...) each."""
    variable: Variable
    scales: Scales
    cases: int


class FieldScore(Score):
    """A score of whole fields, which shows displaced storms and unrealistic members; scores of points do not."""

    title: ClassVar[str]
    """Name in the report."""

    @abstractmethod
    def sums(self, case: FieldCase) -> dict[str, Floats]:
        """Compute what one case adds to the sums over cases, by name.

        Shapes depend on the field, the scales and the number of members alone. Sums that cannot be computed are zeros.
        """

    @abstractmethod
    def values(self, daily: DailyFieldSums) -> Iterator[ScoreValue]:
        """Return the score's values."""


def event_values(
    table: Floats, scores: Iterable[EventScore], *, prefix: str = "", **labels: Any
) -> Iterator[ScoreValue]:
    """Return the values of scores of one event.

    Args:
        table: Daily counts of points by members with the event and by outcome, (day, members + 1, 2).
        scores: The scores.
        prefix: Start of the scores' names.
        labels: Further entries of the values.
    """
    labels["events"] = int(table[..., 1].sum())
    if labels["events"] == 0 and table[:, 1:].sum() == 0:
        # A score of 0 for an event that never happened and was never forecast would look perfect.
        table = np.zeros_like(table)
        labels.setdefault("note", "no events")
    for score in scores:
        probability = {} if score.probability is None else {"probability": score.probability}
        yield ScoreValue(
            prefix + score.name, score.value, (table,), {"estimator": score.estimator, **labels, **probability}
        )
