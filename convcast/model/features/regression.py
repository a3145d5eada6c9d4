"""Linear regression of each field on the inputs, fitted in closed form by least squares.

It is a small kind of model output statistics (Glahn & Lowry 1972), fitted in seconds. The network need not learn the
linear part of the forecast: the imprint of the ground, the daily cycle, and the loss of memory at each scale. Where
HRRR's forecast forces the model, it is the model output statistics of that forecast, fitted for each lead and age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
RIDGE = 1e-5
"""Ridge penalty as a share of the number of cells, which keeps predictors that never vary from being singular."""


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


class RegressionFit:
    """Normal equations of the regression, by kind of case."""

    def __init__(self) -> None:
        self._squares: dict[Kind, Tensor] = {}
        self._products: dict[Kind, Tensor] = {}
        self._points: dict[Kind, int] = {}

    def add(self, kind: Kind, rows: Tensor, targets: Tensor) -> None:
        """Add points without missing values.

        Args:
            kind: Lead time and age of the forcing, hours; the age is None without forcing.
            rows: Values of the `predictors`, (predictor, point).
            targets: Standardised fields at the valid time, (variable, point).
        """
        self._squares[kind] = self._squares.get(kind, 0) + (rows @ rows.T).double()
        self._products[kind] = self._products.get(kind, 0) + (rows @ targets.T).double()
        self._points[kind] = self._points.get(kind, 0) + rows.shape[1]

    def solve(self) -> Regression:
        """Return the regression of least squared error."""
        return Regression(
            {
                kind: torch.linalg.solve(
                    squares + RIDGE * self._points[kind] * torch.eye(len(squares)), self._products[kind]
                ).numpy()
                for kind, squares in self._squares.items()
            }
        )


@dataclass(frozen=True)
class Regression:
    """Weights of a linear forecast of standardised fields."""

    weights: dict[Kind, NDArray[np.float64]]
    """Weights by lead and age of the forcing, (predictor, variable), float64."""

    def predict(self, rows: Tensor, kinds: Sequence[Kind]) -> Tensor:
        """Predict standardised fields (row, variable, y, x) from `predictors` of cases of these kinds."""
        weights = torch.from_numpy(np.stack([self.weights[kind] for kind in kinds])).float()
        return torch.einsum("rpyx,rpv->rvyx", rows, send(weights, rows.device))
