"""Conversion between physical values and the standardised values of the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.conventions import FILL
from convcast.dataset import Dataset, FieldStatistics
from convcast.dataset.normal_scores import LEVELS, NormalScores
from convcast.dataset.statistics import numbers
from convcast.errors import TRAIN_ANOTHER, DamagedFileError
from convcast.model.features.floor import ScoreTable, from_scores, to_scores
from convcast.variables import Variable

ARRAYS = ("mean", "std", "quantiles", "static_mean", "static_std")
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Normalisation:
    """Transformation (Variable.transform) and standardisation by mean and standard deviation of the training hours."""

    variables: tuple[Variable, ...]
    mean: NDArray[np.float64]
    """Mean of the transformed values, (variable,)."""
    std: NDArray[np.float64]
    """Standard deviation of the transformed values, (variable,)."""
    quantiles: NDArray[np.float64]
    """Quantiles of fields with a floor (FieldStatistics.quantiles), NaN for other fields, (variable, level)."""
    static_mean: NDArray[np.float64]
    """Mean of terrain and land mask over the whole domain, (2,)."""
    static_std: NDArray[np.float64]
    """Standard deviation of terrain and land mask, (2,)."""

    @classmethod
    def of(cls, dataset: Dataset, statistics: FieldStatistics) -> Normalisation:
        std = dataset.static.std(axis=(1, 2), dtype=np.float64)
        mean = dataset.static.mean(axis=(1, 2), dtype=np.float64)
        # The standard deviation of flat ground is a rounding error, and not a divisor.
        return cls(
            dataset.variables,
            statistics.mean,
            statistics.std,
            statistics.quantiles,
            mean,
            np.where(std > 1e-3, std, 1.0),
        )

    @cached_property
    def scores(self) -> tuple[NormalScores | None, ...]:
        """Map to normal scores of each field with a floor."""
        return tuple(
            None if variable.floor is None else NormalScores.of(quantiles)
            for variable, quantiles in zip(self.variables, self.quantiles, strict=True)
        )

    def unpacked(self, stored: Tensor) -> Tensor:
        """Turn the dataset's integers (..., variable, y, x) into fields in GRIB units; NaN where they are missing."""
        fields = [stored[..., i, :, :].float() / variable.scale for i, variable in enumerate(self.variables)]
        return torch.where(stored == FILL, torch.nan, torch.stack(fields, dim=-3))

    def standardised(self, fields: Tensor, *, periodic: bool) -> Tensor:
        """Standardise fields (..., variable, y, x) in GRIB units to mean 0 and standard deviation 1, float32.

        Fields with a floor are continued where there is none, across the edges if the domain is `periodic`.
        """
        parts = []
        for i, (variable, scores, table) in enumerate(self._tables(fields.device)):
            values = fields[..., i, :, :]
            if variable.floor is None or scores is None or table is None:
                transformed = variable.transform.forward(values)
            else:
                transformed = to_scores(values, variable.floor, scores, table, periodic=periodic)
            parts.append((transformed - float(np.float32(self.mean[i]))) / float(np.float32(self.std[i])))
        return torch.stack(parts, dim=-3).float()

    def restored(self, values: Tensor) -> Tensor:
        """Invert `standardised` and clip to the fields' bounds."""
        parts = []
        for i, (variable, scores, table) in enumerate(self._tables(values.device)):
            z = values[..., i, :, :] * float(np.float32(self.std[i])) + float(np.float32(self.mean[i]))
            if variable.floor is None or scores is None or table is None:
                found = variable.transform.inverse(z)
            else:
                found = from_scores(z, variable.floor, scores, table)
            parts.append(found.clip(*variable.bounds))
        return torch.stack(parts, dim=-3)

    def standardise(self, fields: Floats, *, periodic: bool) -> Floats:
        """Apply `standardised` to an array."""
        out: Floats = self.standardised(torch.from_numpy(fields), periodic=periodic).numpy()
        return out

    def restore(self, values: Floats) -> Floats:
        """Apply `restored` to an array."""
        out: Floats = self.restored(torch.from_numpy(values)).numpy()
        return out

    def _tables(self, device: torch.device) -> Iterator[tuple[Variable, NormalScores | None, ScoreTable | None]]:
        """Yield each variable with its map to normal scores, also on the device, where it has one."""
        if device not in self._on_devices:
            self._on_devices[device] = tuple(
                None if scores is None else ScoreTable.of(scores, device) for scores in self.scores
            )
        return zip(self.variables, self.scores, self._on_devices[device], strict=True)

    @cached_property
    def _on_devices(self) -> dict[torch.device, tuple[ScoreTable | None, ...]]:
        return {}

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lowest and the highest standardised value of each field, (variable,)."""
        ends = np.empty((len(self.variables), 2))
        for i, (variable, scores) in enumerate(zip(self.variables, self.scores, strict=True)):
            limits = np.array(variable.bounds)
            if variable.floor is None or scores is None:
                ends[i] = variable.transform.forward(limits)
            else:
                ends[i] = scores.weakest - variable.floor.depth, scores.forward(limits[1:])[0]
        ends = (ends - self.mean[:, None]) / self.std[:, None]
        return ends.min(axis=1), ends.max(axis=1)

    def weakest(self) -> NDArray[np.float64]:
        """Return the standardised score of each field's weakest value, (variable,); NaN for fields without a floor."""
        weakest = [np.nan if scores is None else scores.weakest for scores in self.scores]
        return (np.array(weakest) - self.mean) / self.std

    def standardise_static(self, static: Floats) -> Floats:
        """Standardise terrain and land mask (2, y, x), float32."""
        return ((static - self.static_mean[:, None, None]) / self.static_std[:, None, None]).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        return {name: numbers(getattr(self, name)) for name in ARRAYS}

    @classmethod
    def from_dict(cls, variables: tuple[Variable, ...], values: dict[str, Any]) -> Normalisation:
        """Restore from the result of `to_dict`; raises DamagedFileError for damaged values or those of other fields."""
        try:
            arrays = [np.array(values[n], np.float64) for n in ARRAYS]
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"the normalisation is damaged ({error!r})", advice=TRAIN_ANOTHER) from error
        if [a.shape for a in arrays] != [(len(variables),)] * 2 + [(len(variables), len(LEVELS))] + [(2,)] * 2:
            raise DamagedFileError("the normalisation belongs to other fields than the model's", advice=TRAIN_ANOTHER)
        floors = [quantiles for v, quantiles in zip(variables, arrays[2], strict=True) if v.floor is not None]
        if not all(np.isfinite(quantiles).all() for quantiles in floors):
            raise DamagedFileError("the normalisation lacks quantiles", advice=TRAIN_ANOTHER)
        return cls(variables, *arrays)
