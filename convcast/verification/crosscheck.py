"""Scores computed once more by others' programs, on points drawn from every case: what a report states of itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.metrics.kernels import score_points
from convcast.notation import Hour
from convcast.variables import Variable

POINTS = 100_000
"""Drawn over a whole verification, of the verified system's forecasts."""


@dataclass(frozen=True)
class Agreement:
    """How far our ensemble CRPS is from properscoring's on the same points."""

    points: int
    largest: float
    """Largest difference at a point, in units of the field's display range."""
    package: str

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
    """Compare on so many points drawn of (member, y, x) forecasts and (y, x) observations, with all their members."""
    key = [seed, int(init.astype(np.int64)), lead, sum(variable.name.encode())]
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    chosen = generator.integers(truth.size, size=points)
    low, high = variable.display
    drawn = (forecasts.reshape(len(forecasts), -1)[:, chosen].astype(float) - low) / (high - low)
    observed = (truth.reshape(-1)[chosen].astype(float) - low) / (high - low)
    ours = score_points(drawn, observed)
    present = ours.present
    apart = np.abs(ours.crps("ensemble") - _properscoring().crps_ensemble(observed, drawn.T))[present]
    return Agreement(int(present.sum()), float(apart.max(initial=0.0)), package())


def package() -> str:
    return f"properscoring {_properscoring().__version__}"


def _properscoring() -> Any:
    with warnings.catch_warnings():
        # Its docstrings hold escapes that newer Pythons warn of.
        warnings.simplefilter("ignore")
        import properscoring
    return properscoring
