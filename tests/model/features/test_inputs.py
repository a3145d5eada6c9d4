from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from convcast.dataset import FieldStatistics, window
from convcast.model.features.inputs import INFLOW_DEPTH, INFLOW_WIDTH, Inputs
from convcast.model.features.normalisation import Normalisation
from convcast.model.features.regression import RegressionFit, predictors

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
