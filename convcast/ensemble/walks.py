"""Ensembles by walks: each hour, a diffusion model perturbs the state and the reference forecast advances it.

This is Diffusion-augmented Ensemble Forecasting as published (DEF, arXiv 2506.07324). A diffusion model of a state,
conditioned on the same state, is sampled with a guidance below 1, which leans towards the states of all times and so
perturbs this one. A deterministic model then advances it by one hour. Here that model is the reference forecast of the
model that `convcast sample` loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.conventions import on_lattice
from convcast.dataset import Dataset
from convcast.ensemble.noise import member_noise
from convcast.ensemble.tiled_denoiser import TiledDenoiser
from convcast.ensemble.tiles import Tiling
from convcast.errors import SettingsError
from convcast.model import Forecaster
from convcast.model.devices import send
from convcast.notation import HOUR, Hour
from convcast.settings import SamplingSettings

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Walks:
    """Draws the next hour of members by perturbing their newest state and stepping the reference forecast."""

    forecaster: Forecaster
    """The model whose reference forecast of one hour is stepped."""
    perturbation: Forecaster
    """The model of lead 0 that perturbs states."""
    dataset: Dataset
    tiling: Tiling
    init: Hour
    settings: SamplingSettings
    past: Floats
    """The analyses up to `init`, (history, variable, y, x), GRIB units."""

    def __call__(self, members: Sequence[int], start: Hour, lead: int, pasts: Floats | None) -> Floats:  # noqa: ARG002
        """Return fields (member, variable, y, x) one hour after `start`, given the histories `pasts` of the members."""
        if pasts is None:
            pasts = np.broadcast_to(self.past, (len(members), *self.past.shape))
        pasts = pasts.copy()
        for walk in range(self.settings.walks):
            pasts[:, -1] = self._perturbed(members, start, walk, pasts)
        denoiser = self._denoiser(self.forecaster, start, 1, pasts)
        return denoiser.fields(torch.zeros(self._shape(members), device=self.forecaster.device))

    def _perturbed(self, members: Sequence[int], start: Hour, walk: int, pasts: Floats) -> Floats:
        model, settings = self.perturbation, self.settings
        hours = int((start - self.init) / HOUR)
        draws = 1 + settings.evaluations(model.schedule.steps)

        def noise(step: int) -> Tensor:
            shape, number = self._shape(members)[1:], walk * draws + step
            rows = [member_noise(settings.seed, self.init, member, hours, shape, step=number) for member in members]
            return send(torch.from_numpy(np.stack(rows)), model.device)

        fields = self._denoiser(model, start, 0, pasts).draw(noise, settings)
        return np.stack([on_lattice(v, fields[:, i]) for i, v in enumerate(self.dataset.variables)], axis=1)

    def _denoiser(self, model: Forecaster, start: Hour, lead: int, pasts: Floats) -> TiledDenoiser:
        return TiledDenoiser.of_hours(
            model,
            self.dataset,
            self.tiling,
            init=start,
            lead=lead,
            guidance=self.settings.guidance,
            pasts=pasts,
            threads=self.settings.threads,
        )

    def _shape(self, members: Sequence[int]) -> tuple[int, ...]:
        return len(members), len(self.dataset.variables), *self.tiling.shape


def check_walks(forecaster: Forecaster, perturbation: Forecaster | None, settings: SamplingSettings) -> None:
    """Check that there is a model that perturbs states, and one that steps them by an hour.

    Args:
        forecaster: The model that forecasts.
        perturbation: The model that perturbs states, if there is one.
        settings: Settings with the method and the name of that model.

    Raises:
        SettingsError: One of them is missing.
    """
    if settings.method != "walks":
        if 0 in forecaster.leads:
            raise SettingsError(
                "this model perturbs the state of an hour and cannot forecast",
                advice="run `convcast sample --set sampling.method=walks` with a model of lead 1",
            )
        return
    if perturbation is None or perturbation.leads != (0,):
        raise SettingsError(
            f"the model {settings.perturbation} does not perturb states: it was trained for other leads than 0",
            advice=TRAIN_PERTURBATION.format(name=settings.perturbation),
        )
    if 1 not in forecaster.leads:
        raise SettingsError(
            "walks step the reference forecast by one hour, for which this model was not trained",
            advice="train another: `convcast train --model hourly --set model.leads=[1]`",
        )


TRAIN_PERTURBATION = (
    "train one: `convcast train --model {name} --set model.leads=[0] --set 'model.reference={{default=\"direct\"}}'`"
)
"""Advice that names the command by which a model of perturbations is trained."""
