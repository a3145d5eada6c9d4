from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from convcast.dataset import FieldStatistics, Window, window
from convcast.dataset.normal_scores import LEVELS
from convcast.grid import SPACING
from convcast.model.features.inputs import INFLOW_DEPTH, INFLOW_WIDTH, SECONDS_PER_HOUR, Inputs
from convcast.model.features.normalisation import Normalisation
from convcast.model.features.regression import RegressionFit, predictors
from convcast.variables import FIELDS

EASTWARD = 6.0
"""Motion along x, cells per hour."""


@pytest.fixture(scope="module")
def normalisation(dataset):
    return Normalisation.of(dataset, FieldStatistics.from_hours(dataset, dataset.hours))


def inputs_of(dataset, normalisation, hour, lead, *, periodic, forcing=None):
    """Inputs of a case that moves along x."""
    case = window(dataset, dataset.hours[hour], lead)
    motion = np.zeros_like(case.motion)
    motion[1] = EASTWARD
    age = None if forcing is None else 0
    moved = replace(case, motion=motion, periodic=periodic, forcing=forcing, age=age)
    return Inputs.of([moved], normalisation, periodic=periodic)


def test_a_torus_has_no_inflow(dataset, normalisation):
    assert not inputs_of(dataset, normalisation, 20, 3, periodic=True).inflow.any()


@pytest.mark.parametrize("lead", [1, 3])
def test_inflow_is_where_the_air_was_outside_at_the_initial_time(dataset, normalisation, lead):
    arrived, depth = inputs_of(dataset, normalisation, 20, lead, periodic=False).inflow[0]
    edge, blurred = int(EASTWARD * lead), INFLOW_WIDTH - 1
    torch.testing.assert_close(arrived[:, : edge - blurred], torch.ones_like(arrived[:, : edge - blurred]))
    assert not arrived[:, edge + blurred :].any()
    x = torch.arange(arrived.shape[1])
    torch.testing.assert_close(depth, ((edge - x) / INFLOW_DEPTH).clamp(0, 1).expand_as(depth), atol=1e-5, rtol=0)


def test_a_vortex_moves_with_the_wind_around_it_and_the_air_with_the_wind_within():
    """A vortex in a uniform wind over a temperature that the vortex stirs, on a torus."""
    side, speed = 64, 2 * SPACING / SECONDS_PER_HOUR  # two cells an hour
    y, x = np.mgrid[:side, :side] - side / 2
    swirl = speed * np.exp(-(y**2 + x**2) / 50)
    variables = tuple(FIELDS[name] for name in ("t2m", "u10", "v10"))
    last = np.stack([290 + x / 8, speed - swirl * y / 5, swirl * x / 5]).astype(np.float32)
    flat = np.zeros((2, side, side), np.float32)
    case = Window(
        np.datetime64("2024-05-09T00", "h"),
        1,
        np.stack([last] * 2),
        static=flat,
        sun=flat,
        hour=np.zeros(2, np.float32),
        motion=flat,
        periodic=True,
        target=None,
    )
    quantiles = np.full((3, len(LEVELS)), np.nan)
    normalisation = Normalisation(variables, np.zeros(3), np.ones(3), quantiles, np.zeros(2), np.ones(2))
    air, u, v = Inputs.of([case], normalisation, periodic=True).advected_by_wind[0].numpy()
    expected = np.roll(last[1:], 2, axis=2)
    np.testing.assert_allclose([u, v], expected, atol=0.05 * speed)
    inside = np.hypot(y, x) < 8
    assert np.abs(air - np.roll(last[0], 2, axis=1))[inside].max() > 0.1


def test_the_regression_weighs_the_forcing_by_the_inflow(dataset, normalisation):
    """A world in which the frame moved to the valid time holds inside, and HRRR's forecast where air comes in."""
    generator = np.random.default_rng(0)

    def case(hour):
        forcing = dataset.read(dataset.hours[hour : hour + 1])[0][..., generator.permutation(dataset.grid.shape[1])]
        inputs = inputs_of(dataset, normalisation, hour, 2, periodic=False, forcing=forcing)
        arrived = inputs.inflow[:, :1]
        return inputs, (1 - arrived) * inputs.advected + arrived * inputs.forcing

    fit = RegressionFit()
    for hour in range(4, 24):
        inputs, target = case(hour)
        fit.add(inputs.kinds[0], predictors(inputs)[0].flatten(1), target[0].flatten(1))
    regression = fit.solve()
    inputs, target = case(30)
    error = regression.predict(predictors(inputs), inputs.kinds) - target
    assert error.square().mean() < 1e-4 * target.square().mean()
