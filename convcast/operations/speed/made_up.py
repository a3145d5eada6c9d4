"""Made-up weather and untrained models, with which the network is measured without files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.dataset.cases.windows import Window
from convcast.dataset.normal_scores import LEVELS
from convcast.grid import CONUS, SPACING
from convcast.model import ModelDescription
from convcast.model.features.inputs import Inputs
from convcast.model.features.normalisation import Normalisation
from convcast.model.features.residual import Residuals
from convcast.settings import Settings
from convcast.variables import Variable, select

INIT = np.datetime64("2024-05-06T18", "h")
FITTED_SIDE = 48
"""Cells along each side of the cases to which the untrained model's reference is fitted."""


def case(shape: tuple[int, int], settings: Settings, *, lead: int, seed: int = 0) -> Window:
    """Make up one case: smooth patterns that move two cells an hour.

    Args:
        shape: Rows and columns, cells.
        settings: Settings with the fields and the history of the case.
        lead: Lead time, hours.
        seed: Seed of the patterns.
    """
    variables = select(settings.dataset.fields)
    generator = np.random.default_rng(seed)
    hours = settings.model.history
    fields = np.stack([_field(variable, shape, hours + lead, generator) for variable in variables], axis=1)
    height = _pattern(shape, generator)
    return Window(
        init=INIT,
        lead=lead,
        history=fields[:hours],
        static=np.stack([500 + 300 * height, np.ones(shape)]).astype(np.float32),
        sun=np.full((2, *shape), 0.5, np.float32),
        hour=np.array([-1, 0], np.float32),
        motion=np.full((2, *shape), 2, np.float32),
        periodic=False,
        target=fields[-1],
    )


def description(settings: Settings) -> ModelDescription:
    """Describe a model whose reference is fitted to made-up weather."""
    variables = select(settings.dataset.fields)
    count = len(variables)
    floors = np.array([variable.floor is not None for variable in variables])
    middle = [np.mean(variable.transform.forward(np.array(variable.display))) for variable in variables]
    width = [np.ptp(variable.transform.forward(np.array(variable.display))) / 4 for variable in variables]
    normalisation = Normalisation(
        variables,
        mean=np.where(floors, 0.0, middle),
        std=np.where(floors, 1.0, width),
        quantiles=np.where(floors[:, None], np.linspace(0, 60, len(LEVELS)), np.full((count, len(LEVELS)), np.nan)),
        static_mean=np.array([500.0, 0.0]),
        static_std=np.array([300.0, 1.0]),
    )

    def cases() -> Iterator[tuple[Inputs, Tensor]]:
        for lead in settings.model.leads:
            window = case((FITTED_SIDE, FITTED_SIDE), settings, lead=lead, seed=lead)
            assert window.target is not None
            target = torch.from_numpy(normalisation.standardise(window.target, periodic=False))[None]
            yield Inputs.of([window], normalisation, periodic=False, names=settings.model.inputs), target

    return ModelDescription(
        model=settings.model,
        variables=variables,
        residuals=Residuals.fit(cases, normalisation, settings.model.reference),
        grid=CONUS,
        spacing=SPACING,
        simulated=True,
        analysis_lead=0,
        training_hours=(INIT, INIT),
        split={},
        settings=settings.model_dump(mode="json"),
        settings_digest=settings.digest(),
    )


def _field(
    variable: Variable, shape: tuple[int, int], hours: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return one field of all hours, (hour, y, x)."""
    pattern, (low, high) = _pattern(shape, generator), variable.display
    moved = np.stack([np.roll(pattern, (2 * hour, 2 * hour), (0, 1)) for hour in range(hours)])
    values = (low + high) / 2 + (high - low) / 8 * moved
    if variable.floor is not None:
        values = np.where(moved > 0.5, values, variable.floor.none)
    clipped: NDArray[np.float32] = np.clip(values, *variable.bounds).astype(np.float32)
    return clipped


def _pattern(shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a smooth pattern of mean 0 and variance 1, (y, x)."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(generator.standard_normal(shape), 4, mode="wrap")
    pattern: NDArray[np.float64] = (smooth - smooth.mean()) / smooth.std()
    return pattern
