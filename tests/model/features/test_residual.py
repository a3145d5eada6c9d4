from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from convcast.dataset import FieldStatistics, window
from convcast.model.diffusion.spectrum import band_moments
from convcast.model.features.inputs import Inputs
from convcast.model.features.normalisation import Normalisation
from convcast.model.features.regression import Regression, predictors
from convcast.model.features.residual import Residuals

HISTORY = 4


@pytest.fixture(scope="module")
def normalisation(dataset):
    return Normalisation.of(dataset, FieldStatistics.from_hours(dataset, dataset.hours))


@pytest.fixture(scope="module")
def case(dataset, normalisation):
    """Inputs and standardised target of the case of an hour."""

    def make(hour, lead=1):
        one = window(dataset, dataset.hours[hour], lead, history=HISTORY, with_target=True)
        target = torch.from_numpy(normalisation.standardise(one.target))[None]
        return Inputs.of([one], normalisation, periodic=True), target

    return make


@pytest.fixture(scope="module")
def fit(case, normalisation):
    def make(names, leads=(1,)):
        cases = [case(hour, lead) for hour in range(HISTORY, 30) for lead in leads]
        return Residuals.fit(lambda: iter(cases), normalisation, names)

    return make


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("direct", lambda i: torch.zeros_like(i.advected)),
        ("persistence", lambda i: i.last),
        ("advected", lambda i: i.advected),
    ],
)
def test_references_are_what_they_are_called(fit, case, name, expected):
    inputs, _ = case(20)
    torch.testing.assert_close(fit({"default": name}).reference(inputs), expected(inputs))


def test_each_field_may_have_a_reference_of_its_own(fit, case):
    inputs, _ = case(20)
    reference = fit({"default": "advected", "t2m": "persistence"}).reference(inputs)
    torch.testing.assert_close(reference[:, 1], inputs.last[:, 1])
    torch.testing.assert_close(reference[:, 2], inputs.advected[:, 2])


def test_residuals_have_spread_1_in_the_cases_they_were_fitted_on(fit, case):
    residuals = fit({"default": "persistence"})
    squares = []
    for hour in range(HISTORY, 30):
        inputs, target = case(hour)
        squares.append(((target - residuals.reference(inputs)) / residuals.scales(inputs)).square().mean((0, 2, 3)))
    torch.testing.assert_close(torch.stack(squares).mean(dim=0), torch.ones(7), rtol=1e-4, atol=0)


def test_the_spectrum_is_that_of_residuals_in_their_own_units(fit, case):
    residuals = fit({"default": "persistence"})
    found = []
    for hour in range(HISTORY, 30):
        inputs, target = case(hour)
        residual = (target - residuals.reference(inputs)) / residuals.scales(inputs)
        found.append(band_moments(residual, periodic=True)[0])
    expected = torch.stack(found).mean(dim=0).double().numpy()
    np.testing.assert_allclose(residuals.spectrum.moments, expected, rtol=1e-3, atol=1e-6)
    again = Residuals.from_dict(residuals.normalisation, residuals.to_dict())
    np.testing.assert_array_equal(again.spectrum.moments, residuals.spectrum.moments)
    np.testing.assert_array_equal(again.spectrum.kurtosis, residuals.spectrum.kurtosis)


def test_the_kurtosis_is_that_of_residuals(fit, case):
    residuals = fit({"default": "persistence"})
    off = []
    for hour in range(HISTORY, 30):
        inputs, target = case(hour)
        off.append(target - residuals.reference(inputs))
    joined = torch.cat(off).double()
    expected = (joined**4).mean((0, 2, 3)) / (joined**2).mean((0, 2, 3)) ** 2
    np.testing.assert_allclose(residuals.spectrum.kurtosis, expected.numpy(), rtol=1e-3)


def test_a_spectrum_of_each_field_by_itself_is_read_too(fit):
    residuals = fit({"default": "persistence"})
    values = residuals.to_dict()
    own = np.einsum("ibic->ibc", residuals.spectrum.moments)
    older = Residuals.from_dict(residuals.normalisation, values | {"spectrum": own.tolist()})
    np.testing.assert_array_equal(np.einsum("ibic->ibc", older.spectrum.moments), own)
    assert not older.spectrum.moments[0, :, 1].any()


def test_every_lead_has_its_own_scale(fit):
    scale = fit({"default": "persistence"}, leads=(1, 3)).scale
    assert list(scale) == [1, 3]
    assert (scale[3] > scale[1]).all()


def test_the_reference_is_within_the_fields_bounds(fit, case, normalisation):
    inputs, _ = case(20)
    residuals = fit({"default": "regression"})
    wild = Regression({1: 100 * residuals.regression.weights[1]})
    reference = replace(residuals, regression=wild).reference(inputs)
    low, high = normalisation.bounds()
    assert (reference.amin(dim=(0, 2, 3)).numpy() >= low - 1e-4).all()
    assert (reference.amax(dim=(0, 2, 3)).numpy() <= high + 1e-4).all()


def test_a_residual_at_its_bound_is_a_field_at_its_bound(fit, case, normalisation):
    inputs, _ = case(20)
    residuals = fit({"default": "advected"})
    reference, scales = residuals.reference(inputs), residuals.scales(inputs)
    low, _ = residuals.bounds(reference, scales)
    field = normalisation.restore((reference + low * scales).numpy())[0, 0]
    np.testing.assert_allclose(field, normalisation.variables[0].bounds[0], atol=1e-3)


def test_regression_finds_a_linear_law(case):
    weights = torch.randn(predictors(case(20)[0]).shape[1], 7, generator=torch.Generator().manual_seed(0))

    def law(inputs):
        return torch.einsum("rpyx,pv->rvyx", predictors(inputs), weights)

    inputs = [case(hour)[0] for hour in range(HISTORY, 30)]
    regression = Regression.fit((each, law(each)) for each in inputs)
    unseen = case(33)[0]
    torch.testing.assert_close(regression.predict(unseen), law(unseen), atol=0.15, rtol=0.01)


def test_regression_beats_advection(fit, case):
    """In weather that moves, turns and changes with the hour."""
    errors = {}
    for name in ("advected", "regression"):
        residuals = fit({"default": name})
        errors[name] = np.mean([((t - residuals.reference(i)) ** 2).mean() for i, t in map(case, range(30, 38))])
    assert errors["regression"] < 0.7 * errors["advected"]


def test_it_survives_json(fit, case, normalisation):
    residuals = fit({"default": "regression"})
    again = Residuals.from_dict(normalisation, residuals.to_dict())
    inputs, _ = case(20)
    torch.testing.assert_close(again.reference(inputs), residuals.reference(inputs))
    torch.testing.assert_close(again.scales(inputs), residuals.scales(inputs))
