"""Comparison of our ensemble CRPS with properscoring's, on points drawn at random from every case."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from convcast.metrics.kernels import score_points
from convcast.notation import Hour
from convcast.variables import Variable

POINTS = 100_000
"""Number of points drawn over a whole verification, from the forecasts of the verified system."""


@dataclass(frozen=True)
class Agreement:
    """Largest difference between our ensemble CRPS and properscoring's on the same points."""

    points: int
    """Number of points compared."""
    largest: float
    """Largest difference at a point, as a fraction of the field's display range."""
    package: str
    """Name and version of the package compared with."""

    def __str__(self) -> str:
        return (
            f"{self.package} gives the same ensemble CRPS on {self.points:,} points drawn at random: "
            f"the largest difference is {self.largest:.1e} of the field's range"
        )

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.points + other.points, max(self.largest, other.largest), self.package)


def check(
    variable: Variable,
    init: Hour,
    lead: int,
    forecasts: NDArray[np.float32],
    truth: NDArray[np.float32],
    *,
    points: int,
    seed: int,
) -> Agreement:
    """Compare the ensemble CRPS at random points of one case, using all members.

    Args:
        variable: Field that is scored.
        init: Initial time; with `lead`, `variable` and `seed` it determines the points drawn.
        lead: Lead time, hours.
        forecasts: Ensemble, (member, y, x).
        truth: Observations, (y, x).
        points: Number of points to draw.
        seed: Seed of the random points.
    """
    key = [seed, int(init.astype(np.int64)), lead, sum(variable.name.encode())]
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    chosen = generator.integers(truth.size, size=points)
    low, high = variable.display
    drawn = (forecasts.reshape(len(forecasts), -1)[:, chosen].astype(float) - low) / (high - low)
    observed = (truth.reshape(-1)[chosen].astype(float) - low) / (high - low)
    ours = score_points(drawn, observed)
    present = ours.present
    differences = np.abs(ours.crps("ensemble") - _properscoring().crps_ensemble(observed, drawn.T))[present]
    return Agreement(int(present.sum()), float(differences.max(initial=0.0)), package())


def package() -> str:
    """Return the name and version of the package that scores are compared with."""
    return f"properscoring {version('properscoring')}"


def _properscoring() -> Any:
    """Import properscoring with numba's cache, since otherwise it compiles at each import."""
    guvectorize = numba.guvectorize
    with warnings.catch_warnings():
        # The docstrings of properscoring contain invalid escapes, about which newer Pythons warn.
        warnings.simplefilter("ignore")
        try:
            numba.guvectorize = partial(guvectorize, cache=True)
            import properscoring
        except RuntimeError:  # numba finds no folder for its cache
            numba.guvectorize = guvectorize
            import properscoring
        finally:
            numba.guvectorize = guvectorize
    return properscoring
