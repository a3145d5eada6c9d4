"""Scores computed once more by others' programs, on points drawn from every case: what a report states of itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convcast.notation import Hour
from convcast.variables import Variable
from convcast.verification.kernels import score_points

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


class Crosscheck:
    """Points drawn, seeded, in equal number from every case and field, with all their members."""

    def __init__(self, fields: int, cases: int, seed: int) -> None:
        self._each = max(1, POINTS // max(1, fields * cases))
        self._seed = seed
        self._drawn: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def draw(
        self, variable: Variable, init: Hour, lead: int, forecasts: NDArray[np.float32], truth: NDArray[np.float32]
    ) -> None:
        """Keep some points of (member, y, x) forecasts and (y, x) observations, scaled by the field's display range."""
        key = [self._seed, int(init.astype(np.int64)), lead, sum(variable.name.encode())]
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
        chosen = generator.integers(truth.size, size=self._each)
        low, high = variable.display
        self._drawn.append(
            (
                (forecasts.reshape(len(forecasts), -1)[:, chosen].astype(float) - low) / (high - low),
                (truth.reshape(-1)[chosen].astype(float) - low) / (high - low),
            )
        )

    def compare(self) -> Agreement:
        with warnings.catch_warnings():
            # Its docstrings hold escapes that newer Pythons warn of.
            warnings.simplefilter("ignore")
            import properscoring

        forecasts = np.concatenate([f for f, _ in self._drawn], axis=1)
        truth = np.concatenate([o for _, o in self._drawn])
        ours = score_points(forecasts, truth)
        theirs = properscoring.crps_ensemble(truth, forecasts.T)
        present = ours.present
        apart = np.abs(ours.crps("ensemble")[present] - theirs[present])
        return Agreement(
            int(present.sum()), float(apart.max(initial=0.0)), f"properscoring {properscoring.__version__}"
        )
