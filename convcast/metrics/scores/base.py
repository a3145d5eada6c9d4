"""Kinds of scores: what each sums over points and cases, and how it ends.

A score is a class. It names the sums that it needs, says how to compute those that it adds, and ends them by a formula.
A formula works along the last axes and over any leading ones, so that the same few lines end a single day, the whole
period and two thousand bootstrap resamples. A score that the sums leave undefined is NaN.
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
"""Start of the note of a score that missing points leave undefined; the reason follows."""
PointQuantities = Mapping[str, Callable[[PointScores], Floats]]
"""Quantities at points, by name."""


@dataclass(frozen=True)
class ScoreValue:
    """A value of a score before it is computed."""

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

    @abstractmethod
    def value(self, table: Floats) -> Floats:
        """The score of a table (..., members + 1, 2)."""


@dataclass(frozen=True)
class DailyFieldSums:
    """Daily sums of FieldScores over the cases of one system, field and lead."""

    sums: Mapping[str, Floats]
    """Sums by name, (day, ...) each."""
    variable: Variable
    scales: Scales
    cases: int


class FieldScore(Score):
    """A score of whole fields, which sees displaced storms and unrealistic members; no point shows these by itself."""

    title: ClassVar[str]
    """Name in sentences of the report."""

    @abstractmethod
    def sums(self, case: FieldCase) -> dict[str, Floats]:
        """Compute what one case adds to the sums over cases, by name.

        Shapes depend on the field, the scales and the number of members alone. Zeros stand for what cannot be computed.
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
        # A score of 0 for what never happened and was never forecast would read as perfection.
        table = np.zeros_like(table)
        labels.setdefault("note", "no events")
    for score in scores:
        probability = {} if score.probability is None else {"probability": score.probability}
        yield ScoreValue(
            prefix + score.name, score.value, (table,), {"estimator": score.estimator, **labels, **probability}
        )
