"""Mean and standard deviation of each field, for normalisation, from the histograms of the hours.

Histograms count the stored integers without loss, so that the statistics of any set of hours are exact, do not depend
on the order of the hours, and cost one small read per hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.dataset.dataset import Dataset
from convcast.dataset.layout import BINS, TENDENCY_SCALE
from convcast.dataset.normal_scores import LEVELS, NormalScores
from convcast.errors import TRAIN_ANOTHER, DamagedFileError, MissingInputError
from convcast.notation import HOUR, Hours
from convcast.variables import Variable

_INTEGERS = np.arange(BINS) - BINS // 2
_ARRAYS = "mean", "std", "quantiles", "tendency_mean", "tendency_std"


@dataclass(frozen=True)
class FieldStatistics:
    """Statistics of transformed values (Variable.transform.forward), each array float64, (variable,).

    For a field with a floor they are statistics of its normal scores, in which "none" counts as `Floor.depth` below the
    weakest value.
    """

    names: tuple[str, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    """Standard deviation; 1 for a constant field, so that it can be a divisor."""
    quantiles: NDArray[np.float64]
    """Quantiles at LEVELS (convcast.dataset.normal_scores) of the values above the floor (Variable.floor), (variable,
    level). They are NaN for fields without a floor, and the value for none where no value is above it."""
    tendency_mean: NDArray[np.float64]
    tendency_std: NDArray[np.float64]
    """Standard deviation of the change in an hour, over pairs of consecutive hours; 1 if there are none."""
    hours: int
    pairs: int

    @classmethod
    def from_hours(cls, dataset: Dataset, hours: Hours) -> FieldStatistics:
        """Compute the statistics of these hours; raises MissingInputError if one is not ok or there are none."""
        dataset.require(hours)
        if len(hours) == 0:
            raise MissingInputError("there are no hours to compute statistics of", advice="add hours to the dataset")
        counts = np.zeros((len(dataset.variables), BINS), np.int64)
        changes = np.zeros_like(counts)
        pairs = np.intersect1d(hours, np.asarray(hours) + HOUR)
        for hour in hours:
            counts += dataset.store.read_histogram(hour)
        for hour in pairs:
            changes += dataset.store.read_tendencies(hour)
        quantiles = np.stack([_quantiles(v, row) for v, row in zip(dataset.variables, counts, strict=True)])
        values = [_transformed(v, row) for v, row in zip(dataset.variables, quantiles, strict=True)]
        mean, std = _moments(counts, np.stack(values))
        tendency_mean, tendency_std = _moments(changes, _INTEGERS / TENDENCY_SCALE)
        names = tuple(variable.name for variable in dataset.variables)
        return cls(names, mean, std, quantiles, tendency_mean, tendency_std, len(hours), len(pairs))

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics for JSON."""
        return {
            "fields": list(self.names),
            **{name: numbers(getattr(self, name)) for name in _ARRAYS},
            "hours": self.hours,
            "pairs": self.pairs,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FieldStatistics:
        """Restore statistics from the result of `to_dict`; raises DamagedFileError if a value is absent or invalid."""
        try:
            return cls(
                names=tuple(values["fields"]),
                **{name: np.array(values[name], np.float64) for name in _ARRAYS},
                hours=int(values["hours"]),
                pairs=int(values["pairs"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"statistics are damaged ({error!r})", advice=TRAIN_ANOTHER) from error


def histogram_means(counts: NDArray[np.unsignedinteger], variables: Sequence[Variable]) -> NDArray[np.float64]:
    """Compute the means of physical values, (variable,), from histograms (variable, bin); NaN for empty histograms."""
    scales = np.array([variable.scale for variable in variables])
    present = counts[:, 1:].astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(present @ _INTEGERS[1:] / present.sum(axis=1) / scales, np.float64)


def numbers(values: NDArray[np.floating]) -> list[Any]:
    """Return an array as lists for JSON, in which NaN is null; numpy reads null as NaN again."""
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    without: list[Any] = plain.tolist()
    return without


def _quantiles(variable: Variable, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the quantiles at LEVELS of a field with a floor from its histogram (bin,)."""
    if variable.floor is None:
        return np.full(len(LEVELS), np.nan)
    values = _INTEGERS / variable.scale
    present = np.where(values > variable.floor.none, counts, 0)
    present[0] = 0
    if not present.any():
        return np.full(len(LEVELS), variable.floor.none)
    return np.asarray(values[np.searchsorted(present.cumsum(), LEVELS * present.sum(), side="left")])


def _transformed(variable: Variable, quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the transformed value of each bin: for a field with a floor the normal score, lowest for none."""
    values = _INTEGERS / variable.scale
    if variable.floor is None:
        return np.asarray(variable.transform.forward(values), np.float64)
    scores = NormalScores.of(quantiles)
    return np.where(values <= variable.floor.none, scores.weakest - variable.floor.depth, scores.forward(values))


def _moments(counts: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation, (variable,), of histograms (variable, bin); bin 0 counts missing values."""
    weights = counts[:, 1:].astype(np.float64)
    values = np.broadcast_to(values, counts.shape)[:, 1:]
    total = np.maximum(weights.sum(axis=1), 1)
    mean = (weights * values).sum(axis=1) / total
    std = np.sqrt((weights * (values - mean[:, None]) ** 2).sum(axis=1) / total)
    return mean, np.where(std > 1e-9, std, 1.0)
