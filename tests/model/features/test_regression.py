"""The linear regression's predictors of place and time."""

import math

import numpy as np
import torch

from convcast.model.features.advection import smooth
from convcast.model.features.inputs import Inputs
from convcast.model.features.regression import RegressionFit, predictor_count, predictors

SIDE = 24
FIELDS = 2


def inputs_at(hour, static, *, seed):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(1, FIELDS, SIDE, SIDE, generator=generator)
    angle = 2 * math.pi * hour / 24
    phases = torch.tensor([[math.sin(angle), math.cos(angle)]])
    none = torch.zeros(1, 2, SIDE, SIDE)
    return Inputs((1,), True, frames, frames, frames, none, static, static, none, none, phases)


def test_predictors_are_as_many_as_counted():
    static = torch.zeros(1, 2, SIDE, SIDE)
    assert predictors(inputs_at(6, static, seed=0)).shape[1] == predictor_count(FIELDS, 1)


def test_a_daily_cycle_that_fades_across_a_coast_is_forecast():
    """The air smooths the coast: a forecast by the land mask alone would err by a tenth of the cycle along it."""
    static = torch.zeros(1, 2, SIDE, SIDE)
    static[:, 1, :, 8:] = 1
    inland = smooth(static[:, 1:], 3, periodic=True)[0, 0]
    fit = RegressionFit()
    for hour in range(24):
        inputs = inputs_at(hour, static, seed=hour)
        target = (inland * inputs.hour[0, 0]).expand(FIELDS, -1, -1)
        fit.add((1, None), predictors(inputs)[0].flatten(1), target.flatten(1))
    inputs = inputs_at(5.5, static, seed=100)
    found = fit.solve().predict(predictors(inputs), inputs.kinds)[0, 0]
    np.testing.assert_allclose(found, inland * inputs.hour[0, 0], atol=0.02)
