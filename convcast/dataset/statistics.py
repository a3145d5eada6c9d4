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
from convcast.errors import DamagedFileError, MissingInputError
from convcast.notation import HOUR, Hours
from convcast.variables import Variable

_INTEGERS = np.arange(BINS) - BINS // 2
_ARRAYS = "mean", "std", "tendency_mean", "tendency_std"


@dataclass(frozen=True)
class FieldStatistics:
    """Statistics of transformed values (Variable.transform.forward); each array is float64, (variable,)."""

    names: tuple[str, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    """Standard deviation; 1 for a constant field, so that it can be a divisor."""
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
            raise MissingInputError("statistics of no hours were asked for", advice="add hours to the dataset")
        counts = np.zeros((len(dataset.variables), BINS), np.int64)
        changes = np.zeros_like(counts)
        pairs = np.intersect1d(hours, np.asarray(hours) + HOUR)
        for hour in hours:
            counts += dataset.store.read_histogram(hour)
        for hour in pairs:
            changes += dataset.store.read_tendencies(hour)
        transformed = np.stack([v.transform.forward(_INTEGERS / v.scale) for v in dataset.variables])
        mean, std = _moments(counts, transformed)
        tendency_mean, tendency_std = _moments(changes, _INTEGERS / TENDENCY_SCALE)
        names = tuple(variable.name for variable in dataset.variables)
        return cls(names, mean, std, tendency_mean, tendency_std, len(hours), len(pairs))

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics for JSON."""
        return {
            "fields": list(self.names),
            **{name: getattr(self, name).tolist() for name in _ARRAYS},
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
            raise DamagedFileError(f"statistics are damaged ({error!r})", advice="train again") from error


def histogram_means(counts: NDArray[np.unsignedinteger], variables: Sequence[Variable]) -> NDArray[np.float64]:
    """Compute the means of physical values, (variable,), from histograms (variable, bin); NaN for empty histograms."""
    scales = np.array([variable.scale for variable in variables])
    present = counts[:, 1:].astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(present @ _INTEGERS[1:] / present.sum(axis=1) / scales, np.float64)


def _moments(
    counts: NDArray[np.int64], values: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation, (variable,), of histograms (variable, bin); bin 0 counts missing values."""
    weights = counts[:, 1:].astype(np.float64)
    values = np.broadcast_to(values, counts.shape)[:, 1:]
    total = np.maximum(weights.sum(axis=1), 1)
    mean = (weights * values).sum(axis=1) / total
    std = np.sqrt((weights * (values - mean[:, None]) ** 2).sum(axis=1) / total)
    return mean, np.where(std > 1e-9, std, 1.0)
