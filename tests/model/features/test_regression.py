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


def few_cases(share, *, folds):
    """A regression of one field on 40 predictors, of which one explains this share of its variance, from 90 cells."""
    generator = torch.Generator().manual_seed(5)
    fit, weight = RegressionFit(), share**0.5
    for case in range(6):
        rows = torch.randn(40, 15, generator=generator)
        noise = torch.randn(1, 15, generator=generator)
        fit.add((6, None), rows, weight * rows[:1] + (1 - share) ** 0.5 * noise, fold=case % folds)
    return fit.solve().weights[6, None][:, 0]


def test_the_ridge_is_the_larger_the_less_can_be_forecast():
    """The error for new cells is the squared distance from the right weights, as predictors are independent."""

    def error(share, *, folds):
        found = few_cases(share, folds=folds)
        return float(((found - np.eye(40)[0] * share**0.5) ** 2).sum())

    assert error(0.1, folds=3) < 0.97 * error(0.1, folds=1)
    certain = few_cases(0.9999, folds=3)
    np.testing.assert_allclose(certain, few_cases(0.9999, folds=1), atol=2e-3)
