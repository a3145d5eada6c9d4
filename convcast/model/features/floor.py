"""Normal scores of a field with a floor, continued by the distance to the nearest point that has a value.

"No echo" is one number far below the weakest echo, so half of what a network learns would be a jump, and a mean across
the jump loses echo. A signed-distance transform continues the field smoothly, and its inverse is a threshold. LDCast
(Leinonen et al. 2023, arXiv 2304.12891) smooths the same edge with a Gaussian filter.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from convcast.dataset.normal_scores import NormalScores
from convcast.variables import Floor

Floats = NDArray[np.float32]

ROUNDING = 1e-4
"""Tolerance of scores for float32, so that the weakest value stays a value."""


def to_scores(field: Floats, floor: Floor, scores: NormalScores, *, periodic: bool) -> Floats:
    """Return the normal scores of a field, continued where there is none.

    At a point without a value, the score is that of the weakest value less `floor.slope` per cell of distance to the
    nearest value, at most `floor.depth` less.

    Args:
        field: One field, (y, x), with NaN for missing points, which count as none.
        floor: The floor of the field.
        scores: The map of its values to scores.
        periodic: Whether the domain is a torus.

    Returns:
        The scores, (y, x), float32; NaN where the field is missing.
    """
    from scipy.ndimage import distance_transform_edt

    lowest = scores.weakest - floor.depth
    echo = field > floor.none
    if not echo.any():
        continued = np.full(field.shape, lowest)
    else:
        reach = math.ceil(floor.depth / floor.slope) if periodic else 0
        distance = distance_transform_edt(~np.pad(echo, reach, mode="wrap"))
        inner = distance[reach : distance.shape[0] - reach, reach : distance.shape[1] - reach]
        continued = np.where(echo, scores.forward(field), np.maximum(scores.weakest - floor.slope * inner, lowest))
    return np.where(np.isnan(field), np.nan, continued).astype(np.float32)


def from_scores(field: Floats, floor: Floor, scores: NormalScores) -> Floats:
    """Invert `to_scores`: scores below that of the weakest value are none."""
    return np.where(field < scores.weakest - ROUNDING, floor.none, scores.inverse(field)).astype(np.float32)
