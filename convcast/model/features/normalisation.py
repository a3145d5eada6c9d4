"""Conversion between physical values and the standardised values of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.dataset import Dataset, FieldStatistics
from convcast.errors import DamagedFileError
from convcast.variables import Variable

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Normalisation:
    """Transformation (Variable.transform) and standardisation by mean and standard deviation of the training hours."""

    variables: tuple[Variable, ...]
    mean: NDArray[np.float64]
    """Mean of the transformed values, (variable,)."""
    std: NDArray[np.float64]
    """Standard deviation of the transformed values, (variable,)."""
    static_mean: NDArray[np.float64]
    """Mean of terrain and land mask over the whole domain, (2,)."""
    static_std: NDArray[np.float64]
    """Their standard deviation, (2,)."""

    @classmethod
    def of(cls, dataset: Dataset, statistics: FieldStatistics) -> Normalisation:
        std = dataset.static.std(axis=(1, 2), dtype=np.float64)
        mean = dataset.static.mean(axis=(1, 2), dtype=np.float64)
        # The standard deviation of flat ground is rounding error, by which nothing may be divided.
        return cls(dataset.variables, statistics.mean, statistics.std, mean, np.where(std > 1e-3, std, 1.0))

    def standardise(self, fields: Floats) -> Floats:
        """Standardise fields (..., variable, y, x) in GRIB units to mean 0 and standard deviation 1, float32."""
        out = np.empty(fields.shape, np.float32)
        for i, variable in enumerate(self.variables):
            values = variable.transform.forward(fields[..., i, :, :])
            np.divide(values - np.float32(self.mean[i]), np.float32(self.std[i]), out=out[..., i, :, :])
        return out

    def restore(self, values: Floats) -> Floats:
        """Invert `standardise` and clip to the fields' bounds."""
        out = np.empty(values.shape, np.float32)
        for i, variable in enumerate(self.variables):
            z = values[..., i, :, :] * np.float32(self.std[i]) + np.float32(self.mean[i])
            np.clip(variable.transform.inverse(z), *variable.bounds, out=out[..., i, :, :])
        return out

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lowest and the highest standardised value of each field, (variable,)."""
        ends = np.array([v.transform.forward(np.array(v.bounds)) for v in self.variables], np.float64)
        ends = (ends - self.mean[:, None]) / self.std[:, None]
        return ends.min(axis=1), ends.max(axis=1)

    def standardise_static(self, static: Floats) -> Floats:
        """Standardise terrain and land mask (2, y, x), float32."""
        return ((static - self.static_mean[:, None, None]) / self.static_std[:, None, None]).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        arrays = ("mean", "std", "static_mean", "static_std")
        return {name: getattr(self, name).tolist() for name in arrays}

    @classmethod
    def from_dict(cls, variables: tuple[Variable, ...], values: dict[str, Any]) -> Normalisation:
        """Inverse of `to_dict`; raises DamagedFileError for damaged values or those of other fields."""
        try:
            arrays = [np.array(values[n], np.float64) for n in ("mean", "std", "static_mean", "static_std")]
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"the normalisation is damaged ({error!r})", advice="train again") from error
        if [a.shape for a in arrays] != [(len(variables),)] * 2 + [(2,)] * 2:
            raise DamagedFileError("the normalisation is not of the model's fields", advice="train again")
        return cls(variables, *arrays)
