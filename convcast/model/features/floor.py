"""Normal scores of a field with a floor, continued where there is none by the distance to the nearest value.

"No echo" is one number far below the weakest echo, so a network would mostly learn this jump, and a mean of both sides
has too little echo. A signed-distance transform continues the field smoothly, and its inverse is a threshold. LDCast
(Leinonen et al. 2023, arXiv 2304.12891) smooths the same edge with a Gaussian filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from convcast.dataset.normal_scores import NormalScores
from convcast.model.devices import send
from convcast.variables import Floor

ROUNDING = 1e-4
"""Tolerance for rounding to float32, so that the weakest value is not turned into none."""


@dataclass(frozen=True)
class ScoreTable:
    """The map of NormalScores as tensors on a device."""

    values: Tensor
    scores: Tensor
    slope: float
    """Scores per unit beyond the highest quantile."""

    @classmethod
    def of(cls, scores: NormalScores, device: torch.device | str = "cpu") -> ScoreTable:
        values, found = (torch.from_numpy(table.copy()) for table in (scores.values, scores.scores))
        return cls(send(values, torch.device(device)), send(found, torch.device(device)), scores.slope)

    def forward(self, values: Tensor) -> Tensor:
        """Return the scores of values, float64; those below the weakest value have its score."""
        values = values.double()
        return _interpolate(values, self.values, self.scores) + (values - self.values[-1]).clamp(min=0) * self.slope

    def inverse(self, scores: Tensor) -> Tensor:
        """Return the values of scores, float64; those below the score of the weakest value have this value."""
        scores = scores.double()
        return _interpolate(scores, self.scores, self.values) + (scores - self.scores[-1]).clamp(min=0) / self.slope


def to_scores(fields: Tensor, floor: Floor, scores: NormalScores, table: ScoreTable, *, periodic: bool) -> Tensor:
    """Return the normal scores of fields, continued where there is none.

    At a point without a value, the score is that of the weakest value less `floor.slope` per cell of distance to the
    nearest value, at most `floor.depth` less.

    Args:
        fields: Fields (..., y, x), with NaN for missing points, which count as none.
        floor: The floor of the field.
        scores: The map of its values to scores.
        table: The same map on the device of the fields.
        periodic: Whether the domain is a torus.

    Returns:
        The scores, (..., y, x), float32; NaN where a field is missing.
    """
    echo = fields > floor.none
    reach = math.ceil(floor.depth / floor.slope)
    distance = squared_distance(echo, reach, periodic=periodic).double().sqrt()
    lowest = scores.weakest - floor.depth
    continued = (scores.weakest - floor.slope * distance).clamp(min=lowest)
    found = torch.where(echo, table.forward(fields), continued).float()
    return torch.where(fields.isnan(), torch.nan, found)


def from_scores(fields: Tensor, floor: Floor, scores: NormalScores, table: ScoreTable) -> Tensor:
    """Invert `to_scores`: scores below that of the weakest value are none.

    Args:
        fields: Normal scores, (..., y, x).
        floor: The floor of the field.
        scores: The map of its values to scores.
        table: The same map on the device of the scores.

    Returns:
        Fields in the units of the map's values, (..., y, x), float32.
    """
    return torch.where(fields < scores.weakest - ROUNDING, floor.none, table.inverse(fields).float())


def squared_distance(points: Tensor, reach: int, *, periodic: bool) -> Tensor:
    """Return the squared distance of each cell to the nearest of `points`, (..., y, x) bool, as float32.

    It is exact up to `reach` cells; cells farther away have a larger number than reach². Rows and columns are
    independent (Felzenszwalb & Huttenlocher 2012), so that a few shifts of the field along each axis suffice.

    Args:
        points: Whether each cell is one of the points, (..., y, x).
        reach: Largest exact distance, cells.
        periodic: Whether the domain is a torus.

    Returns:
        float32, (..., y, x), cells squared.
    """
    far = float(2 * (reach + 1) ** 2)
    distance = torch.where(points, 0.0, far)
    for axis in (-2, -1):
        length = distance.shape[axis]
        padded = _padded(distance, axis, reach, far, periodic=periodic)
        distance = padded.narrow(axis, reach, length)
        for cells in range(1, reach + 1):
            for start in (reach - cells, reach + cells):
                distance = torch.minimum(distance, padded.narrow(axis, start, length) + cells**2)
    return distance


def _padded(field: Tensor, axis: int, margin: int, value: float, *, periodic: bool) -> Tensor:
    """Continue a field along an axis, as a torus or with `value`."""
    if periodic:
        length = field.shape[axis]
        at = torch.arange(-margin, length + margin, device=field.device).remainder(length)
        return field.index_select(axis, at)
    sides = (margin, margin) if axis == -1 else (0, 0, margin, margin)
    return functional.pad(field, sides, value=value)


def _interpolate(x: Tensor, at: Tensor, to: Tensor) -> Tensor:
    """Interpolate linearly, as numpy.interp does, between increasing points; beyond them the last values hold."""
    upper = torch.searchsorted(at, x.contiguous()).clamp(1, len(at) - 1)
    lower = upper - 1
    share = ((x - at[lower]) / (at[upper] - at[lower])).clamp(0, 1)
    return to[lower] + share * (to[upper] - to[lower])
