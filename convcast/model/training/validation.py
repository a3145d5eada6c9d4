"""Validation of a model in training: the scores of small ensembles on hours that training does not see.

The loss hardly shows that a model overfits or is over-confident, but its ensembles do. Scores are kept as sums for each
case, so that processes can share the cases and intervals can be resampled from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convcast.dataset import Window, Windows
from convcast.metrics import formulas
from convcast.metrics.bootstrap import Bootstrap
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

CONFIDENCE = 0.95
RESAMPLES = 1000
"""Bootstrap resamples of the cases."""
SEED = 1 << 33
"""Seed of the first case's noise; each later case has the next seed."""
MEASURES = ("crps", "persistence", "variance", "squared_error")
"""Means over a case's points: fair CRPS, error of persistence, ensemble variance, squared error of the mean."""
MOMENTS = ("n", "s", "e", "ss", "ee", "se")
"""Sums over a regime's points of ensemble spread s and absolute error e, their squares and their product."""

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class Validator:
    """The validation cases of one training."""

    batches: Sequence[Batch]
    """The cases of the validation loss."""
    windows: Windows | None
    """The validation cases; None where there are no hours for validation."""
    numbers: Sequence[int]
    """Indices in `windows` of the cases for which ensembles are drawn."""
    members: int
    """Members of each ensemble."""

    def ensembles(
        self, description: ModelDescription, network: Network, distributed: Distributed, precision: Precision
    ) -> dict[str, FieldSkill]:
        """Draw and score the ensembles; the processes share the cases, and each returns the scores of all.

        Args:
            description: The model.
            network: A copy of the network that is not trained further; it is prepared for inference.
            distributed: The processes that train together.
            precision: Precision of the network.

        Returns:
            The scores of each field, by the field's name; empty where no ensembles are to be drawn.
        """
        if self.windows is None or not self.numbers:
            return {}
        forecaster = Forecaster(description, network, "", device=str(distributed.device), precision=precision)
        width = len(MEASURES) + len(REGIMES) * len(MOMENTS)
        sums = np.zeros((len(self.numbers), len(description.variables), width))
        for index in range(distributed.rank, len(self.numbers), distributed.world_size):
            window = self.windows[self.numbers[index]]
            members = draw(forecaster, window, self.members, seed=SEED + index, periodic=self.windows.periodic)
            sums[index] = case_sums(members, window, description.variables)
        total = distributed.sum(torch.from_numpy(sums)).numpy()
        return {v.name: field_skill(total[:, i], self.members) for i, v in enumerate(description.variables)}

    @property
    def dates(self) -> tuple[str | None, str | None]:
        """The first and the last initial hour of the ensembles, None where there are none."""
        if self.windows is None or not self.numbers:
            return None, None
        inits = [self.windows.init(number) for number in self.numbers]
        return str(min(inits)), str(max(inits))


def draw(forecaster: Forecaster, window: Window, members: int, *, seed: int, periodic: bool) -> NDArray[np.float32]:
    """Draw `members` members (member, variable, y, x) of one case, in GRIB units."""
    condition = forecaster.condition([window], periodic=periodic)
    noise = torch.randn(members, *condition.shape, generator=torch.Generator().manual_seed(seed))
    settings = SamplingSettings()
    with torch.inference_mode():
        x0 = SOLVERS[settings.solver](
            lambda x, t: forecaster.predict_noise(x, t, condition),
            noise.to(forecaster.device),
            schedule=forecaster.schedule,
            steps=settings.evaluations(forecaster.schedule.steps),
            clamp=lambda x: forecaster.clamp(x, condition),
            noise=lambda k: torch.zeros(()),  # noqa: ARG005  the solver is deterministic
        )
        return forecaster.fields(x0, condition)


def case_sums(members: NDArray[np.float32], window: Window, variables: Sequence[Variable]) -> Sums:
    """Sum the scores of one case over its points.

    Args:
        members: The ensemble, (member, variable, y, x), GRIB units.
        window: The case, with the observed target. Points where the target or the last analysis is missing are left
            out.
        variables: The fields, in the order of the variable axis.

    Returns:
        MEASURES, then MOMENTS of each of REGIMES, (variable, sum); zeros for a field without observations.
    """
    # Sampling imports this module and does without numba, which takes seconds to import.
    from convcast.metrics.kernels import score_points

    assert window.target is not None
    last = window.history[-1]
    analysed = {variable: last[i] for i, variable in enumerate(variables)}
    regimes = sort_points(analysed.get(REFC), analysed.get(CAPE))
    sums = np.zeros((len(variables), len(MEASURES) + len(REGIMES) * len(MOMENTS)))
    for i in range(len(variables)):
        present = np.isfinite(window.target[i]) & np.isfinite(last[i])
        if not present.any():
            continue
        observed = window.target[i][present].astype(float)
        scores = score_points(members[:, i][:, present].astype(float), observed)
        persistence = np.abs(last[i][present] - observed)
        sums[i, : len(MEASURES)] = [
            values.mean() for values in (scores.crps("fair"), persistence, scores.variance, scores.error**2)
        ]
        if regimes is not None:
            spread, error = np.sqrt(scores.variance), np.abs(scores.error)
            terms = np.stack([np.ones_like(error), spread, error, spread**2, error**2, spread * error])
            by_regime = [terms[:, regimes[present] == number].sum(axis=1) for number in range(len(REGIMES))]
            sums[i, len(MEASURES) :] = np.concatenate(by_regime)
    return sums


def field_skill(sums: Sums, members: int) -> FieldSkill:
    """Compute the scores of one field from the sums (case, sum) of its cases, ensembles of `members` members."""
    crps, persistence, variance, squared_error = sums[:, : len(MEASURES)].T
    bootstrap = Bootstrap(len(crps), resamples=RESAMPLES, seed=0, confidence=CONFIDENCE)
    estimate = bootstrap.estimate(formulas.ratio, crps, np.ones_like(crps))
    single = len(crps) == 1
    moments = sums[:, len(MEASURES) :].sum(axis=0).reshape(len(REGIMES), len(MOMENTS))
    correlations = np.where(moments[:, 0] >= 3, formulas.correlation(*moments.T), np.nan)
    ratio = formulas.spread_error_ratio(variance.mean(), squared_error.mean(), members)
    return FieldSkill(
        crps=estimate.value,
        low=estimate.value if single else estimate.low,
        high=estimate.value if single else estimate.high,
        persistence=float(persistence.mean()),
        spread_error=float(np.nan_to_num(ratio)),
        correlation={
            name: float(value) if np.isfinite(value) else None
            for name, value in zip(REGIMES, correlations, strict=True)
        },
    )
