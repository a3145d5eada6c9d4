"""Residuals of the coming fields from a reference forecast, which the diffusion model samples.

A denoising error that is small compared to a whole field is large compared to an hour's change. The network therefore
learns the residuals, in units of their expected size for each field, lead and point. Reference and sizes are fitted for
each kind of case: a lead without forcing, and a lead with HRRR's forecast of one age. So are the covariances of the
residuals: an hour ahead most of their variance is at small scales, six hours ahead at large ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.errors import TRAIN_ANOTHER, DamagedFileError, MissingInputError
from convcast.model.devices import send
from convcast.model.diffusion.spectrum import Spectrum, band_moments, noise_moments
from convcast.model.features.correction import Correction, CorrectionFit, selected
from convcast.model.features.inputs import Inputs, Kind, kind_name, kind_order, parse_kind
from convcast.model.features.normalisation import Normalisation
from convcast.model.features.regression import Regression, RegressionFit, predictor_count, predictors
from convcast.model.features.spread import SpreadFit, feature_count, spread_features
from convcast.settings import ReferenceName
from convcast.variables import Variable

MIN_VARIANCE = 1e-8
"""Minimum of the expected squared size of a residual, standardised units."""

LEAST_PRESENT = 0.5
"""Minimum share of present points of a target that enters the spectrum."""

FittingCases = Iterable[tuple[Inputs, Tensor]]


@dataclass(frozen=True)
class Residuals:
    """The reference forecast of each field, and the statistics of the residuals from it."""

    normalisation: Normalisation
    references: tuple[ReferenceName, ...]
    regression: Regression
    correction: Correction
    """Correction of the regression."""
    spread: dict[Kind, NDArray[np.float64]]
    """Weights of the squared size of the residuals by lead and age of the forcing, (variable, feature), in
    standardised units (convcast.model.features.spread)."""
    spectra: dict[Kind, Spectrum]
    """Spectrum of the scaled residuals by lead and age of the forcing."""

    @classmethod
    def fit(
        cls,
        cases: Callable[[], FittingCases],
        normalisation: Normalisation,
        names: Mapping[str, ReferenceName],
        *,
        corrected: Callable[[], FittingCases] | None = None,
        half: bool = False,
    ) -> Residuals:
        """Fit to training cases (inputs and standardised targets), which are read three times.

        The correction is fitted to the cases `corrected`, which are read once more, or to the same; with `half` its
        convolutions are computed in bfloat16.

        Missing points of the targets (NaN) are left out. For the spectrum their residual is 0, and the moments are
        scaled up for the variance that they lack.
        """
        references = tuple(names.get(v.name, names["default"]) for v in normalisation.variables)
        regression, correction = Regression({}), Correction({})
        if "regression" in references:
            regression = _fit_regression(cases())
            if fields := corrected_fields(normalisation, references):
                correction = _fit_correction(
                    (corrected or cases)(), regression, fields, normalisation.variables, half=half
                )
        residuals = cls(normalisation, references, regression, correction, {}, {})
        fits: dict[Kind, SpreadFit] = {}
        for inputs, target in cases():
            reference = residuals.reference(inputs)
            features = residuals.spread_features(inputs, reference)
            for kind, feature, residual in zip(inputs.kinds, features, target - reference, strict=True):
                fits.setdefault(kind, SpreadFit()).add(feature, residual)
        kinds = sorted(fits, key=kind_order)
        residuals = replace(residuals, spread={kind: fits[kind].solve() for kind in kinds})

        squares: dict[Kind, list[NDArray[np.float64]]] = {}
        moments: dict[Kind, list[NDArray[np.float64]]] = {}
        for inputs, target in cases():
            reference = residuals.reference(inputs)
            scales = residuals.scales(inputs, reference)
            present = torch.isfinite(target)
            residual = torch.nan_to_num(target - reference)
            share = present.float().mean(dim=(2, 3))
            scaled = residual / scales / share.clamp(min=LEAST_PRESENT).sqrt()[..., None, None]
            parts = (residual.square(), (scales * present).square(), scaled.square())
            means = torch.stack([part.mean(dim=(2, 3)) for part in parts], dim=1).double().numpy()
            products = band_moments(scaled, periodic=inputs.periodic).double().numpy()
            complete = share.amin(dim=1) >= LEAST_PRESENT
            for kind, row, product, enough in zip(inputs.kinds, means, products, complete, strict=True):
                if enough:
                    squares.setdefault(kind, []).append(row)
                    moments.setdefault(kind, []).append(product)
        if missing := residuals.spread.keys() - squares.keys():
            raise MissingInputError(
                f"no training case of a lead of {min(missing, key=kind_order)[0]} h has half of its target's points",
                advice="run `convcast fetch --days 14`, then `convcast preprocess`, for more hours",
            )
        noise = noise_moments((target.shape[-2], target.shape[-1]), periodic=inputs.periodic)
        spread, spectra = dict[Kind, NDArray[np.float64]](), dict[Kind, Spectrum]()
        for kind in kinds:
            residual_square, size_square, scaled_square = np.mean(squares[kind], axis=0)
            # The mean squares of residuals and sizes are equal, so that sizes are right where residuals are large. The
            # mean of the ratio would be decided by the quiet points, and storms would have two thirds of their size.
            ratio = np.where(residual_square > 1e-12, residual_square / np.maximum(size_square, 1e-12), 1.0)
            spread[kind] = residuals.spread[kind] * ratio[:, None]
            unit = np.where(scaled_square > 1e-12, scaled_square, 1.0)
            units = np.sqrt(np.outer(unit, unit))[:, None, :, None]
            spectra[kind] = Spectrum(np.mean(moments[kind], axis=0) / units, noise)
        return replace(residuals, spread=spread, spectra=spectra)

    def reference(self, inputs: Inputs) -> Tensor:
        """Compute the reference forecast: standardised fields (row, variable, y, x) within their bounds."""
        sources = {
            "direct": torch.zeros_like(inputs.advected),
            "persistence": inputs.last,
            "advected": inputs.advected,
        }
        if "regression" in self.references:
            rows = predictors(inputs)
            forecast = self.regression.predict(rows, inputs.kinds)
            corrected = corrected_fields(self.normalisation, self.references)
            if corrected:
                seen = rows.index_select(1, _places(selected(rows.shape[1], self.normalisation.variables), rows))
                found = self.correction.predict(seen, inputs.kinds, periodic=inputs.periodic, folds=inputs.folds)
                forecast.index_add_(1, _places(corrected, rows), found)
            sources["regression"] = forecast
        chosen = torch.stack([sources[name][:, i] for i, name in enumerate(self.references)], dim=1)
        low, high = (self._column(end, chosen) for end in self.normalisation.bounds())
        return torch.clamp(chosen, low, high)

    def spread_features(self, inputs: Inputs, reference: Tensor) -> Tensor:
        """Return the features of the squared residuals, (row, variable, feature, y, x)."""
        weakest, lowest = self.normalisation.weakest(), self.normalisation.bounds()[0]
        return spread_features(inputs, reference, weakest=weakest, lowest=lowest)

    def scales(self, inputs: Inputs, reference: Tensor) -> Tensor:
        """Return the expected sizes of the residuals from `reference`, (row, variable, y, x)."""
        weights = torch.from_numpy(np.stack([self.spread[kind] for kind in inputs.kinds])).float()
        features = self.spread_features(inputs, reference)
        return torch.einsum("rvfyx,rvf->rvyx", features, send(weights, features.device)).clamp(min=MIN_VARIANCE).sqrt()

    def spectrum_indices(self, kinds: Sequence[Kind]) -> Tensor:
        """Return the index among `spectra` of each kind, (row,)."""
        order = list(self.spectra)
        return torch.tensor([order.index(kind) for kind in kinds])

    def bounds(self, reference: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest residual that keeps each field within its bounds, shaped as `reference`."""
        low, high = (self._column(end, reference) for end in self.normalisation.bounds())
        return (low - reference) / scales, (high - reference) / scales

    @staticmethod
    def _column(values: NDArray[np.float64], like: Tensor) -> Tensor:
        return send(torch.from_numpy(values).float(), like.device)[:, None, None]

    def to_dict(self) -> dict[str, Any]:
        return {
            "references": list(self.references),
            "spread": {kind_name(kind): values.tolist() for kind, values in self.spread.items()},
            "spectra": {
                kind_name(kind): {"moments": spectrum.moments.tolist(), "noise": spectrum.noise.tolist()}
                for kind, spectrum in self.spectra.items()
            },
            "regression": {kind_name(kind): values.tolist() for kind, values in self.regression.weights.items()},
            "correction": self.correction.to_dict(),
        }

    @classmethod
    def from_dict(cls, normalisation: Normalisation, values: dict[str, Any]) -> Residuals:
        """Restore from the result of `to_dict`; raises DamagedFileError for damaged values."""
        try:
            spread = {parse_kind(name): np.array(rows, np.float64) for name, rows in values["spread"].items()}
            weights = {parse_kind(name): np.array(rows, np.float64) for name, rows in values["regression"].items()}
            references = tuple(values["references"])
            spectra = {
                parse_kind(name): Spectrum(*(np.array(parts[key], np.float64) for key in ("moments", "noise")))
                for name, parts in values["spectra"].items()
            }
            correction = Correction.from_dict(values["correction"])
            residuals = cls(normalisation, references, Regression(weights), correction, spread, spectra)
            residuals._check()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"the reference of a model is damaged ({error!r})", advice=TRAIN_ANOTHER) from error
        return residuals

    def _check(self) -> None:
        """Raise ValueError if the parts have different fields or kinds of cases."""
        fields = len(self.normalisation.variables)
        names = get_args(ReferenceName)
        if len(self.references) != fields or not all(name in names for name in self.references):
            raise ValueError(f"there are references {self.references!r} for {fields} fields")
        if self.spectra.keys() != self.spread.keys():
            raise ValueError("the spectra have other leads than the spread")
        if other := {len(spectrum.moments) for spectrum in self.spectra.values()} - {fields}:
            raise ValueError(f"a spectrum has {min(other)} fields, not {fields}")
        with_floor = int(np.isfinite(self.normalisation.weakest()).sum())
        for kind, rows in self.spread.items():
            forced = kind[1] is not None
            shapes = {(fields, feature_count(h, with_floor, forced=forced)) for h in (1, 2)}
            if rows.ndim != 2 or rows.shape not in shapes:
                raise ValueError(f"the spread at lead {kind_name(kind)} has weights of shape {rows.shape}")
            if not (np.isfinite(rows) & (rows >= 0)).all():
                raise ValueError(f"the spread at lead {kind_name(kind)} has negative weights")
        if "regression" not in self.references:
            return
        if self.regression.weights.keys() != self.spread.keys():
            raise ValueError("the regression has other leads than the spread")
        for kind, rows in self.regression.weights.items():
            forced = kind[1] is not None
            if rows.shape not in {(predictor_count(fields, h, forced=forced), fields) for h in (1, 2)}:
                raise ValueError(f"the regression at lead {kind_name(kind)} has weights of shape {rows.shape}")
        variables, corrected = self.normalisation.variables, corrected_fields(self.normalisation, self.references)
        seen = {kind: len(selected(len(rows), variables)) for kind, rows in self.regression.weights.items()}
        self.correction.check(seen if corrected else {}, len(corrected))


def corrected_fields(normalisation: Normalisation, references: Sequence[ReferenceName]) -> list[int]:
    """Return the indices of the fields with a corrected regression: all, if there are convective predictors."""
    if not any(variable.loss_weight > 1 for variable in normalisation.variables):
        return []
    return [i for i, name in enumerate(references) if name == "regression"]


def _places(indices: Sequence[int], like: Tensor) -> Tensor:
    """Return indices as a tensor on the device of `like`; indexing by a list would wait for a copy to the device."""
    return send(torch.tensor(indices), like.device)


def _fit_regression(cases: FittingCases) -> Regression:
    """Fit the regression to points without missing targets."""
    fit = RegressionFit()
    for inputs, target in cases:
        folds = inputs.folds or (0,) * len(target)
        parts = inputs.kinds, folds, predictors(inputs).flatten(2), target.flatten(2)
        for kind, fold, rows, values in zip(*parts, strict=True):
            present = torch.isfinite(values).all(dim=0)
            known = (rows, values) if bool(present.all()) else (rows[:, present], values[:, present])
            fit.add(kind, *known, fold=fold)
    return fit.solve()


def _fit_correction(
    cases: FittingCases,
    regression: Regression,
    corrected: Sequence[int],
    variables: Sequence[Variable],
    *,
    half: bool,
) -> Correction:
    """Fit the correction of the fields `corrected` to the errors of the regression."""
    fits = dict[Kind, CorrectionFit]()
    weights = [variables[i].loss_weight for i in corrected]
    for inputs, target in cases:
        rows = predictors(inputs)
        errors = (target - regression.predict(rows, inputs.kinds))[:, corrected]
        seen = rows[:, selected(rows.shape[1], variables)]
        folds = inputs.folds or (0,) * len(rows)
        for kind, fold, row, error in zip(inputs.kinds, folds, seen, errors, strict=True):
            fits.setdefault(kind, CorrectionFit(weights, half=half)).add(
                row, error, fold=fold, periodic=inputs.periodic
            )
    return Correction({kind: fit.solve() for kind, fit in fits.items()})
