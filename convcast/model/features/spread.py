"""Expected size of a residual at each point, fitted by non-negative least squares of its square.

Residuals are large in and near storms and small elsewhere. Divided by their expected size, they have nearly the same
variance everywhere, so that one set of covariances describes them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.model.features.advection import smooth
from convcast.model.features.inputs import Inputs

WIDTHS = (3, 7, 15)
"""Cells over which variances and changes are averaged."""
ACTIVE_WIDTHS = (7, 15)
"""Cells over which the excess of a field with a floor over its weakest value is averaged."""
EXPECTED_WIDTHS = (1, 7)
"""Cells over which the same excess of the reference forecast is averaged, beginning far below the weakest value."""
FAR = 10.0
"""Unit, in cells, of the displacement by the wind."""
CONSTANT_SHARE = 0.15
"""Share of the mean variance that every point has, since a storm may form anywhere."""

RIDGE = 1e-6
"""Ridge penalty on normalised features, so that similar features share their weight."""


def spread_features(
    inputs: Inputs, reference: Tensor, *, weakest: NDArray[np.float64], lowest: NDArray[np.float64]
) -> Tensor:
    """Return the features of the squared residuals, none negative, (row, variable, feature, y, x).

    Args:
        inputs: The inputs.
        reference: The reference forecast, standardised, (row, variable, y, x).
        weakest: Standardised weakest value of each field, (variable,); NaN for fields without a floor.
        lowest: Lowest standardised value of each field, (variable,).
    """

    def smoothed(fields: Tensor, width: int) -> Tensor:
        return smooth(fields, width, periodic=inputs.periodic)

    last = inputs.advected
    features = [torch.ones_like(last)]
    features += [torch.relu(smoothed(last**2, width) - smoothed(last, width) ** 2) for width in WIDTHS]
    if inputs.frames > 1:
        change = (inputs.advected_before(1) - last) ** 2
        features += [smoothed(change, width) for width in WIDTHS]
    for i, value in enumerate(weakest):
        if np.isfinite(value):
            excess = torch.relu(last[:, i : i + 1] - value)
            features += [smoothed(excess, width).expand_as(last) for width in ACTIVE_WIDTHS]
            expected = torch.relu(reference[:, i : i + 1] - lowest[i])
            features += [
                (expected if width == 1 else smoothed(expected, width)).expand_as(last) for width in EXPECTED_WIDTHS
            ]
    features += [share.expand_as(last) for share in inputs.inflow.split(1, dim=1)]
    # The wind changes its direction more than its speed, so a component errs by the more the stronger the other one is.
    features += [component.expand_as(last) for component in (inputs.steering / FAR).square().split(1, dim=1)]
    if inputs.forcing is not None:  # HRRR's forecast, and its difference from the advected field
        forcing, difference = inputs.forcing, (inputs.forcing - last) ** 2
        features += [torch.relu(smoothed(forcing**2, width) - smoothed(forcing, width) ** 2) for width in WIDTHS]
        features += [smoothed(difference, width) for width in WIDTHS]
        for i, value in enumerate(weakest):
            if np.isfinite(value):
                excess = torch.relu(forcing[:, i : i + 1] - value)
                features += [smoothed(excess, width).expand_as(last) for width in ACTIVE_WIDTHS]
    return torch.stack(features, dim=2)


def feature_count(history: int, floors: int, *, forced: bool = False) -> int:
    """Number of `spread_features` of a field, with `history` frames and `floors` fields with a floor.

    Args:
        history: Number of hourly frames up to the initial time.
        floors: Number of fields with a floor.
        forced: Whether the inputs include HRRR's forecast.
    """
    unforced = 5 + len(WIDTHS) * (2 if history > 1 else 1) + (len(ACTIVE_WIDTHS) + len(EXPECTED_WIDTHS)) * floors
    return unforced + forced * (2 * len(WIDTHS) + len(ACTIVE_WIDTHS) * floors)


class SpreadFit:
    """Normal equations of the squared residuals of one lead, of all fields."""

    def __init__(self) -> None:
        self._squares: Tensor | float = 0.0
        self._products: Tensor | float = 0.0
        self._squared: NDArray[np.float64] | float = 0.0
        self._points: NDArray[np.int64] | int = 0

    def add(self, features: Tensor, residual: Tensor) -> None:
        """Add a case: features (variable, feature, y, x) and residual (variable, y, x), NaN where it is missing."""
        rows, squared = features.flatten(2), residual.flatten(1) ** 2
        present = torch.isfinite(squared)
        squared = torch.nan_to_num(squared)
        # Errors are weighted by the inverse of the variance; otherwise storms alone would decide.
        weights = present / (0.05 + rows[:, 1] + rows[:, 2])
        weighted = rows * weights[:, None]
        self._squares = self._squares + (weighted @ rows.transpose(1, 2)).double()
        self._products = self._products + (weighted @ squared[..., None]).double()
        self._squared += squared.double().sum(dim=1).numpy()
        self._points += present.sum(dim=1).numpy()

    def solve(self) -> NDArray[np.float64]:
        """Return weights of the features, none negative, (variable, feature)."""
        from scipy.optimize import nnls

        assert isinstance(self._squares, Tensor)
        assert isinstance(self._products, Tensor)
        variance = np.asarray(self._squared) / np.maximum(self._points, 1)
        weights = np.zeros(self._squares.shape[:2])
        for i, (square, product) in enumerate(zip(self._squares.numpy(), self._products.numpy(), strict=True)):
            scale = np.sqrt(np.maximum(np.diag(square), 1e-12))
            scaled = square / np.outer(scale, scale) + RIDGE * np.eye(len(scale))
            # Features may be equal, as where no forecast has an echo; rounding may then make a Cholesky root fail.
            values, vectors = np.linalg.eigh(scaled)
            root = np.sqrt(np.maximum(values, RIDGE))
            solution, _ = nnls(root[:, None] * vectors.T, vectors.T @ (product[:, 0] / scale) / root)
            weights[i] = (1 - CONSTANT_SHARE) * solution / scale
            weights[i, 0] += CONSTANT_SHARE * variance[i]
            if not weights[i].any():  # a residual that never varies
                weights[i, 0] = 1.0
        return weights
