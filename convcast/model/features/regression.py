"""Linear regression of each field on the inputs, fitted in closed form by least squares.

It is a small kind of model output statistics (Glahn & Lowry 1972), fitted in seconds. The network need not learn the
linear part of the forecast: the imprint of the ground, the daily cycle, and the loss of memory at each scale. Where
HRRR's forecast forces the model, it is the model output statistics of that forecast, fitted for each lead and age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.model.devices import send
from convcast.model.features.advection import smooth
from convcast.model.features.inputs import Inputs, Kind

WIDTHS = (3, 7, 15)
"""Cells over which advected fields and their changes are averaged, since large scales persist longer."""
COAST_WIDTHS = WIDTHS[:2]
"""Cells over which terrain and land mask are averaged, since air smooths what a coast or a slope does to it."""
INFLOW_WIDTHS = WIDTHS[1:]
"""Cells over which HRRR's forecast is averaged where the air comes from outside the domain."""
RIDGES = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Ridge penalties that are tried, as shares of the number of cells. The first only keeps predictors that never vary
from being singular; larger ones pay after few days of training, the more the longer the lead."""


def predictors(inputs: Inputs) -> Tensor:
    """Return the predictors, (row, predictor, y, x)."""

    def smoothed(fields: Tensor, widths: Sequence[int]) -> list[Tensor]:
        return [smooth(fields, width, periodic=inputs.periodic) for width in widths]

    daily = [inputs.hour[:, i, None, None, None] for i in range(2)]
    everywhere = torch.ones_like(inputs.static[:, :1])
    around = smoothed(inputs.static, COAST_WIDTHS)
    ground = torch.cat([everywhere, inputs.static, inputs.static_advected, *around], dim=1)
    # Where air comes from outside, advected frames are worth less, and HRRR's forecast more.
    arrived = inputs.inflow[:, :1]
    averages = smoothed(inputs.advected, WIDTHS)
    parts = [
        ground,
        *(phase * ground for phase in daily),
        inputs.sun,
        inputs.inflow,
        *(phase * arrived for phase in daily),
        inputs.static * arrived,
        inputs.last,
        inputs.advected,
        *averages,
        inputs.advected_by_wind,
        *smoothed(inputs.advected_by_wind, WIDTHS[:2]),
    ]
    moved = [inputs.last, inputs.advected, averages[-1], inputs.advected_by_wind]
    parts += [arrived * fields for fields in moved]
    if inputs.frames > 1:  # changes along the motion, as in the autoregressive model of STEPS (Bowler et al. 2006)
        change = inputs.advected_before(1) - inputs.advected
        parts += [change, *smoothed(change, WIDTHS)]
        parts += smoothed(inputs.advected_before(inputs.frames - 1) - inputs.advected, WIDTHS[-1:])
    if inputs.forcing is not None:
        averages = smoothed(inputs.forcing, WIDTHS)
        parts += [inputs.forcing, *averages]
        parts += [arrived * fields for fields in (inputs.forcing, *averages[-len(INFLOW_WIDTHS) :])]
    return torch.cat(parts, dim=1)


PLACE_AND_TIME = 3 * (5 + 2 * len(COAST_WIDTHS)) + 2 + 6
"""Number of the first `predictors`: those of place, distance from the edges upstream and time of day, without
weather."""

BY_WIND = 2 + len(WIDTHS)
"""Position of `Inputs.advected_by_wind` among the groups of predictors after these, each with one for every field."""


def predictor_count(fields: int, history: int, *, forced: bool = False) -> int:
    """Number of `predictors`: those of place and time, and those of each field.

    Args:
        fields: Number of fields.
        history: Number of hourly frames up to the initial time.
        forced: Whether the inputs include HRRR's forecast.
    """
    moved = 2 + len(WIDTHS) + 1 + 2 + (1 + len(WIDTHS) + 1 if history > 1 else 0) + 4
    forcing = 1 + len(WIDTHS) + 1 + len(INFLOW_WIDTHS)
    return PLACE_AND_TIME + (moved + forced * forcing) * fields


@dataclass(frozen=True)
class _Equations:
    """Normal equations of some cells."""

    squares: Tensor
    """Products of the predictors, (predictor, predictor)."""
    products: Tensor
    """Products of predictors and targets, (predictor, variable)."""
    cells: int

    def __add__(self, other: _Equations) -> _Equations:
        return _Equations(self.squares + other.squares, self.products + other.products, self.cells + other.cells)

    def __sub__(self, other: _Equations) -> _Equations:
        return _Equations(self.squares - other.squares, self.products - other.products, self.cells - other.cells)

    def solve(self, ridge: float) -> Tensor:
        """Return the weights of least squared error with this ridge penalty, (predictor, variable)."""
        penalty = ridge * self.cells * torch.eye(len(self.squares))
        weights: Tensor = torch.linalg.solve(self.squares + penalty, self.products)
        return weights

    def error(self, weights: Tensor) -> float:
        """Return the squared error of a regression with these weights, less the squares of the targets."""
        return float((weights * (self.squares @ weights - 2 * self.products)).sum())


class RegressionFit:
    """Normal equations of the regression, by kind of case and fold."""

    def __init__(self) -> None:
        self._equations: dict[Kind, dict[int, _Equations]] = {}

    def add(self, kind: Kind, rows: Tensor, targets: Tensor, *, fold: int = 0) -> None:
        """Add points without missing values.

        Args:
            kind: Lead time and age of the forcing, hours; the age is None without forcing.
            rows: Values of the `predictors`, (predictor, point).
            targets: Standardised fields at the valid time, (variable, point).
            fold: Fold of the case: one is left out at a time to choose the ridge penalty.
        """
        added = _Equations((rows @ rows.T).double(), (rows @ targets.T).double(), rows.shape[1])
        folds = self._equations.setdefault(kind, {})
        folds[fold] = folds[fold] + added if fold in folds else added

    def solve(self) -> Regression:
        """Return the regression of least squared error, with the ridge penalty that is best for cases left out."""
        return Regression({kind: _solve(list(folds.values())).numpy() for kind, folds in self._equations.items()})


def _solve(folds: Sequence[_Equations]) -> Tensor:
    """Return the weights of one kind, (predictor, variable); with one fold there is nothing to choose the ridge by."""
    whole = reduce(add, folds)
    if len(folds) == 1:
        return whole.solve(RIDGES[0])
    errors = [sum(fold.error((whole - fold).solve(ridge)) for fold in folds) for ridge in RIDGES]
    return whole.solve(RIDGES[int(np.argmin(errors))])


@dataclass(frozen=True)
class Regression:
    """Weights of a linear forecast of standardised fields."""

    weights: dict[Kind, NDArray[np.float64]]
    """Weights by lead and age of the forcing, (predictor, variable), float64."""

    def predict(self, rows: Tensor, kinds: Sequence[Kind]) -> Tensor:
        """Predict standardised fields (row, variable, y, x) from `predictors` of cases of these kinds."""
        weights = torch.from_numpy(np.stack([self.weights[kind] for kind in kinds])).float()
        return torch.einsum("rpyx,rpv->rvyx", rows, send(weights, rows.device))
