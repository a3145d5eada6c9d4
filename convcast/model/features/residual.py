"""Residuals of the coming fields from a reference forecast that needs no network; these are what is diffused.

A denoising error of a given size is small against a whole field and large against an hour's change, so the network
learns the change, in units of its standard deviation for each field and lead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.errors import DamagedFileError
from convcast.model.diffusion.spectrum import Spectrum, band_moments
from convcast.model.features.inputs import Inputs
from convcast.model.features.normalisation import Normalisation
from convcast.model.features.regression import Regression, predictor_count
from convcast.settings import ReferenceName

FittingCases = Iterable[tuple[Inputs, Tensor]]


@dataclass(frozen=True)
class Residuals:
    """The reference forecast of each field, and the statistics of the residuals from it."""

    normalisation: Normalisation
    references: tuple[ReferenceName, ...]
    regression: Regression
    scale: dict[int, NDArray[np.float64]]
    """Standard deviation of the residuals by lead in hours, (variable,), in standardised units."""
    spectrum: Spectrum
    """Spectrum of the scaled residuals over all leads."""

    @classmethod
    def fit(
        cls, cases: Callable[[], FittingCases], normalisation: Normalisation, names: Mapping[str, ReferenceName]
    ) -> Residuals:
        """Fit to training cases (inputs and standardised targets), which are read twice."""
        references = tuple(names.get(v.name, names["default"]) for v in normalisation.variables)
        regression = Regression.fit(cases()) if "regression" in references else Regression({})
        residuals = cls(normalisation, references, regression, {}, Spectrum.white(len(references)))
        powers: dict[int, list[NDArray[np.float64]]] = {}  # means of the second and the fourth, (2, variable)
        moments: dict[int, list[NDArray[np.float64]]] = {}
        for inputs, target in cases():
            off = target - residuals.reference(inputs)
            means = torch.stack([off.pow(power).mean(dim=(2, 3)) for power in (2, 4)], dim=1).double().numpy()
            products = band_moments(off, periodic=inputs.periodic).double().numpy()
            for lead, row, product in zip(inputs.leads, means, products, strict=True):
                powers.setdefault(lead, []).append(row)
                moments.setdefault(lead, []).append(product)
        means_of = {lead: np.mean(rows, axis=0) for lead, rows in sorted(powers.items())}
        scale = {lead: np.sqrt(second) for lead, (second, _) in means_of.items()}
        scale = {lead: np.where(row > 1e-6, row, 1.0) for lead, row in scale.items()}
        of_leads = [
            np.mean(moments[lead], axis=0) / (row[:, None, None, None] * row[:, None]) for lead, row in scale.items()
        ]
        kurtosis = np.mean([means_of[lead][1] / row**4 for lead, row in scale.items()], axis=0)
        return cls(normalisation, references, regression, scale, Spectrum(np.mean(of_leads, axis=0), kurtosis))

    def reference(self, inputs: Inputs) -> Tensor:
        """Compute the reference forecast: standardised fields (row, variable, y, x) within their bounds."""
        sources = {
            "direct": torch.zeros_like(inputs.advected),
            "persistence": inputs.last,
            "advected": inputs.advected,
        }
        if "regression" in self.references:
            sources["regression"] = self.regression.predict(inputs)
        chosen = torch.stack([sources[name][:, i] for i, name in enumerate(self.references)], dim=1)
        low, high = (self._column(end, chosen) for end in self.normalisation.bounds())
        return torch.clamp(chosen, low, high)

    def scales(self, inputs: Inputs) -> Tensor:
        """Return the standard deviations of the residuals, (row, variable, 1, 1)."""
        rows = np.stack([self.scale[lead] for lead in inputs.leads])
        return torch.from_numpy(rows).float().to(inputs.advected.device)[:, :, None, None]

    def bounds(self, reference: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest residual that keeps each field within its bounds, shaped as `reference`."""
        low, high = (self._column(end, reference) for end in self.normalisation.bounds())
        return (low - reference) / scales, (high - reference) / scales

    @staticmethod
    def _column(values: NDArray[np.float64], like: Tensor) -> Tensor:
        return torch.from_numpy(values).float().to(like.device)[:, None, None]

    def to_dict(self) -> dict[str, Any]:
        return {
            "references": list(self.references),
            "scale": {str(lead): values.tolist() for lead, values in self.scale.items()},
            "spectrum": self.spectrum.moments.tolist(),
            "kurtosis": None if self.spectrum.kurtosis is None else self.spectrum.kurtosis.tolist(),
            "regression": {str(lead): values.tolist() for lead, values in self.regression.weights.items()},
        }

    @classmethod
    def from_dict(cls, normalisation: Normalisation, values: dict[str, Any]) -> Residuals:
        """Inverse of `to_dict`; raises DamagedFileError for damaged values."""
        try:
            scale = {int(lead): np.array(row, np.float64) for lead, row in values["scale"].items()}
            weights = {int(lead): np.array(rows, np.float64) for lead, rows in values["regression"].items()}
            references = tuple(values["references"])
            # Older models have no spectrum, or one for each field by itself.
            moments = np.array(values["spectrum"], np.float64) if "spectrum" in values else None
            if moments is None:
                spectrum = Spectrum.white(len(references))
            else:
                kurtosis = values.get("kurtosis")
                tails = None if kurtosis is None else np.array(kurtosis, np.float64)
                spectrum = Spectrum.independent(moments) if moments.ndim == 3 else Spectrum(moments, tails)
            residuals = cls(normalisation, references, Regression(weights), scale, spectrum)
            residuals._check()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"the reference of a model is damaged ({error!r})", advice="train again") from error
        return residuals

    def _check(self) -> None:
        """Raise ValueError if the parts have different fields or leads."""
        fields = len(self.normalisation.variables)
        names = get_args(ReferenceName)
        if len(self.references) != fields or not all(name in names for name in self.references):
            raise ValueError(f"{self.references!r} are not the references of {fields} fields")
        if len(self.spectrum.moments) != fields:
            raise ValueError(f"a spectrum of {len(self.spectrum.moments)} fields, not {fields}")
        for lead, row in self.scale.items():
            if row.shape != (fields,) or not (np.isfinite(row) & (row > 0)).all():
                raise ValueError(f"the scale at lead {lead} is not {fields} positive numbers")
        if "regression" not in self.references:
            return
        if self.regression.weights.keys() != self.scale.keys():
            raise ValueError("the regression has other leads than the scale")
        for lead, rows in self.regression.weights.items():
            if rows.shape != (predictor_count(fields), fields):
                raise ValueError(f"the regression at lead {lead} has weights of shape {rows.shape}")
