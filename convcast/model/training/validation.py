"""Validation: small ensembles from the weights as they are, scored on hours that training does not see.

The loss hardly shows a model that overfits or is over-confident; its ensembles do. Scores are kept as sums a case, so
that ranks can share the cases and an interval can be drawn from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convcast.dataset import Window, Windows
from convcast.metrics.regimes import REGIMES, sort_points
from convcast.model.checkpoint import ModelDescription
from convcast.model.diffusion.solvers import SOLVERS
from convcast.model.distributed import Distributed
from convcast.model.forecaster import Forecaster
from convcast.model.network.network import Network
from convcast.model.skill import FieldSkill
from convcast.model.training.batches import Batch
from convcast.settings import Precision, SamplingSettings
from convcast.variables import CAPE, REFC, Variable

RESAMPLES = 1000
SEED = 1 << 33
MEASURES = ("crps", "persistence", "variance", "square")
MOMENTS = ("n", "s", "e", "ss", "ee", "se")
"""Sums over a regime's points, of spread s and absolute error e."""

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class Validator:
    """The validation cases of one training."""

    batches: Sequence[Batch]
    """For the loss."""
    windows: Windows | None
    """None where there are no hours for validation."""
    numbers: Sequence[int]
    """Of the windows that ensembles are drawn for."""
    members: int

    def ensembles(
        self, description: ModelDescription, network: Network, distributed: Distributed, precision: Precision
    ) -> dict[str, FieldSkill]:
        """By field, the cases shared out among the ranks; empty where none are to be drawn.

        The network is one that is not trained on: it is made ready for inference.
        """
        if self.windows is None or not self.numbers:
            return {}
        forecaster = Forecaster(description, network, "", device=str(distributed.device), precision=precision)
        width = len(MEASURES) + len(REGIMES) * len(MOMENTS)
        sums = np.zeros((len(self.numbers), len(description.variables), width))
        for index in range(distributed.rank, len(self.numbers), distributed.world_size):
            window = self.windows[self.numbers[index]]
            drawn = draw(forecaster, window, self.members, seed=SEED + index, periodic=self.windows.periodic)
            sums[index] = score(drawn, window, description.variables)
        total = distributed.sum(torch.from_numpy(sums)).numpy()
        return {v.name: finish(total[:, i], self.members) for i, v in enumerate(description.variables)}

    @property
    def dates(self) -> tuple[str | None, str | None]:
        """The first and the last initial hour of the ensembles."""
        if self.windows is None or not self.numbers:
            return None, None
        inits = [self.windows.init(number) for number in self.numbers]
        return str(min(inits)), str(max(inits))


def draw(forecaster: Forecaster, window: Window, members: int, *, seed: int, periodic: bool) -> NDArray[np.float32]:
    """Members (member, variable, y, x) of one case, GRIB units."""
    condition = forecaster.condition([window], periodic=periodic)
    noise = torch.randn(members, *condition.shape, generator=torch.Generator().manual_seed(seed))
    usual = SamplingSettings()
    with torch.inference_mode():
        x0 = SOLVERS[usual.solver](
            lambda x, t: forecaster.predict_noise(x, t, condition),
            noise.to(forecaster.device),
            schedule=forecaster.schedule,
            steps=usual.evaluations(forecaster.schedule.steps),
            clamp=lambda x: forecaster.clamp(x, condition),
            noise=lambda k: torch.zeros(()),  # noqa: ARG005  the solver is deterministic
        )
        return forecaster.fields(x0, condition)


def score(members: NDArray[np.float32], window: Window, variables: Sequence[Variable]) -> Sums:
    """The sums of one case, (variable, measure); points without an observation are left out."""
    assert window.target is not None
    last = window.history[-1]
    known = {variable: last[i] for i, variable in enumerate(variables)}
    regimes = sort_points(known.get(REFC), known.get(CAPE))
    rows = []
    for i in range(len(variables)):
        there = np.isfinite(window.target[i]) & np.isfinite(last[i])
        observed, forecast = window.target[i][there].astype(float), members[:, i][:, there].astype(float)
        regime = None if regimes is None else regimes[there]
        rows.append(_score_points(forecast, observed, last[i][there].astype(float), regime))
    return np.array(rows)


def _score_points(forecast: Sums, observed: Sums, last: Sums, regime: NDArray[np.int8] | None) -> list[float]:
    """`forecast` (member, point), the others (point,)."""
    if observed.size == 0:
        return [0.0] * (len(MEASURES) + len(REGIMES) * len(MOMENTS))
    m = len(forecast)
    ranks = 2 * np.arange(1, m + 1) - m - 1
    pairs = (ranks[:, None] * np.sort(forecast, axis=0)).sum(axis=0)  # Σ |x_i - x_j| over pairs
    crps = np.abs(forecast - observed).mean(axis=0) - pairs / (m * (m - 1))
    error = forecast.mean(axis=0) - observed
    variance = forecast.var(axis=0, ddof=1)
    row = [float(np.mean(value)) for value in (crps, np.abs(last - observed), variance, error**2)]
    for number in range(len(REGIMES)):
        chosen = np.zeros(observed.shape, bool) if regime is None else regime == number
        s, e = np.sqrt(variance[chosen]), np.abs(error[chosen])
        row += [float(chosen.sum()), s.sum(), e.sum(), (s * s).sum(), (e * e).sum(), (s * e).sum()]
    return row


def finish(sums: Sums, members: int) -> FieldSkill:
    """The scores of one field from the sums of its cases, (case, measure)."""
    crps, persistence, variance, square = sums[:, : len(MEASURES)].T
    generator = np.random.default_rng(0)
    means = crps[generator.integers(len(crps), size=(RESAMPLES, len(crps)))].mean(axis=1)
    moments = sums[:, len(MEASURES) :].sum(axis=0).reshape(len(REGIMES), len(MOMENTS))
    calibrated = np.sqrt(variance.mean() * (members + 1) / members)
    error = np.sqrt(square.mean())
    return FieldSkill(
        crps=float(crps.mean()),
        low=float(np.quantile(means, 0.025)),
        high=float(np.quantile(means, 0.975)),
        persistence=float(persistence.mean()),
        spread_error=float(calibrated / error) if error > 0 else 0.0,
        correlation={name: correlation(*row) for name, row in zip(REGIMES, moments, strict=True)},
    )


def correlation(n: float, s: float, e: float, ss: float, ee: float, se: float) -> float | None:
    """Pearson's, from sums; None where it has no meaning."""
    if n < 3:
        return None
    spread, error = ss / n - (s / n) ** 2, ee / n - (e / n) ** 2
    if spread <= 1e-9 * ss / n or error <= 1e-9 * ee / n:
        return None
    return float((se / n - s * e / n**2) / np.sqrt(spread * error))
